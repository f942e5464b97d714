from setuptools import setup

setup(cffi_modules=["c_ext/libnuma_build.py:ffibuilder"])
