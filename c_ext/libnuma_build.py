"""Describes the extension numabench._libnuma to setuptools: libnuma, and our own C that works on many pages at once."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent

ffibuilder = FFI()
ffibuilder.cdef((HERE / "libnuma.cdef").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "numabench._libnuma",
    '#include "libnuma.h"\n#include "placement.h"\n',
    sources=["c_ext/placement.c"],
    include_dirs=["c_ext"],
    depends=["c_ext/libnuma.cdef", "c_ext/libnuma.h", "c_ext/placement.h"],
    libraries=["numa"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
