"""Describes the extension numabench._perfdata to setuptools: the parser of perf.data, symbols and call trees."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
NAMES = ("perfdata", "kallsyms", "elf_symbols", "calltree", "stacks", "folded", "columns")
INNER = ("intern", "layout", "context", "tasks", "chains")

ffibuilder = FFI()
ffibuilder.cdef((HERE / "perfdata.cdef").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "numabench._perfdata",
    "".join(f'#include "{name}.h"\n' for name in NAMES),
    sources=[f"c_ext/{name}.c" for name in (*INNER, *NAMES)],
    include_dirs=["c_ext"],
    depends=["c_ext/perfdata.cdef", *(f"c_ext/{name}.h" for name in (*INNER, *NAMES))],
    # Python's own flags may say less; the parser's speed is what it is for.
    extra_compile_args=["-O3", "-fvisibility=hidden"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
