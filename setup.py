from setuptools import setup

# The stable ABI makes one wheel serve every Python from 3.11 on.
setup(
    cffi_modules=["c_ext/libnuma_build.py:ffibuilder", "c_ext/perfdata_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
