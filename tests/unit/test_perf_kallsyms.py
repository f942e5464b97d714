"""Kernel symbols: /proc/kallsyms in all the forms in which it is saved, and the ELF files of programs."""

from __future__ import annotations

import gzip
import re
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numabench import process
from numabench.perf import Kallsyms, PerfDataError, find_kallsyms
from numabench.perf.elf import parse_elf, read_elf

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 t __pfx_first
ffffffff81000050 t first
ffffffff81000050 T alias_of_first
ffffffff81000080 T last_of_the_kernel
ffffffffc0000000 t in_module\t[nf_tables]
ffffffffc0000100 r a_string\t[nf_tables]
ffffffffc0000200 t bpf_prog_6deef7357e7b4530\t[bpf]
"""
ADDRESSES = {
    0xFFFFFFFF80FFFFFF: "[unknown]",
    0xFFFFFFFF81000000: "_text",
    0xFFFFFFFF8100004F: "__pfx_first",
    0xFFFFFFFF81000050: "alias_of_first",
    0xFFFFFFFF8100007F: "alias_of_first",
    0xFFFFFFFF81001FFF: "last_of_the_kernel",
    0xFFFFFFFF81002000: "[unknown]",
    0xFFFFFFFFC0000101: "in_module",
    0xFFFFFFFFC0000200: "bpf_prog_6deef7357e7b4530",
}


def zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as library
    else:
        from backports import zstd as library
    return library.compress(data)


def names(kallsyms: Kallsyms, addresses: list[int]) -> list[str]:
    return [kallsyms.name(number) for number in kallsyms.resolve(np.array(addresses, np.uint64)).tolist()]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_symbols_are_found_in_every_saved_form(pack: type[bytes], tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(pack(TEXT))
    kallsyms = Kallsyms.read(path)
    assert names(kallsyms, list(ADDRESSES)) == list(ADDRESSES.values())
    number = int(kallsyms.resolve(np.array([0xFFFFFFFFC0000101], np.uint64))[0])
    assert kallsyms.module(number) == "nf_tables"


def test_the_order_of_the_lines_does_not_matter() -> None:
    lines = TEXT.splitlines(keepends=True)
    turned = Kallsyms(b"".join(lines[5:] + lines[:5]))
    assert names(turned, [0xFFFFFFFF81000045, 0xFFFFFFFF81000090]) == ["__pfx_first", "last_of_the_kernel"]


def test_a_kernel_at_another_address_has_its_symbols_moved_but_no_modules() -> None:
    moved = Kallsyms(TEXT).moved(0xFFFFFFFF9A000000)
    assert names(moved, [0xFFFFFFFF9A000055, 0xFFFFFFFF81000055, 0xFFFFFFFFC0000001]) == [
        "alias_of_first",
        "[unknown]",
        "[unknown]",
    ]
    assert len(Kallsyms(TEXT).moved(0xFFFFFFFF81000000)) == len(Kallsyms(TEXT))


def test_hidden_addresses_are_refused_with_the_remedy() -> None:
    hidden = re.sub(rb"(?m)^[0-9a-f]{16}", b"0" * 16, TEXT)
    with pytest.raises(PerfDataError, match="kptr_restrict"):
        Kallsyms(hidden)


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"<html>", b"zzzz T name\n", b"ffffffff81000000\n", b"\x1f\x8b\x08garbage"]
)
def test_what_holds_no_symbols_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(text)
    with pytest.raises(PerfDataError):
        Kallsyms.read(path)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(TEXT)))
def test_damaged_text_never_breaks_the_parser(damage: bytes, at: int) -> None:
    kallsyms = Kallsyms(TEXT[:at] + damage + TEXT[at + len(damage) :] + TEXT)
    assert names(kallsyms, [0xFFFFFFFF81000045])


def test_perfs_cache_is_searched_by_build_id(tmp_path: Path) -> None:
    saved = tmp_path / "[kernel.kallsyms]" / "abcd" / "kallsyms"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(TEXT)
    assert find_kallsyms("abcd", tmp_path).source == str(saved)
    with pytest.raises(PerfDataError, match="not here"):
        find_kallsyms("ef01", tmp_path)


def test_functions_of_an_elf_file_are_those_of_nm(tmp_path: Path) -> None:
    nm = process.find_program("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    source = tmp_path / "program.c"
    functions = (
        "static int own(int a) { return a; }",
        "int open_to_all(int a) { return own(a); }",
        "int main(void) {}",
    )
    source.write_text("\n".join(functions))
    program = tmp_path / "program"
    process.run(("cc", "-O0", "-g", "-o", str(program), str(source))).check("cc")
    elf = read_elf(program)
    assert elf is not None
    listed = process.run((nm, str(program))).check("nm").stdout
    for name in ("own", "open_to_all", "main", "_start"):
        found = re.search(rf"^([0-9a-f]+) [tT] {name}$", listed, re.MULTILINE)
        assert found
        assert elf.names_at(np.array([int(found[1], 16) + 1], np.uint64)) == [name]
    assert elf.names_at(np.array([0, 2**64 - 1], np.uint64)) == ["", ""]


def test_a_damaged_elf_file_never_breaks_its_reader(tmp_path: Path) -> None:
    whole = bytearray(read_bytes_of_a_program())
    for at in range(0, min(len(whole), 4096), 3):
        damaged = whole.copy()
        damaged[at : at + 8] = b"\xff" * 8
        elf = parse_elf(bytes(damaged))
        if elf:
            names = elf.names_at(np.array([0x1000, 0x401000], np.uint64))
            assert [type(name) for name in names] == [str, str]
        parse_elf(bytes(whole[:at]))


def read_bytes_of_a_program() -> bytes:
    program = process.find_program("true")
    assert program
    with open(program, "rb") as file:  # noqa: PTH123
        return file.read()


@pytest.mark.parametrize("path", ["/proc/kcore", "/dev/zero", "/sys/kernel/notes", "/", "/no/such"])
def test_what_is_no_program_is_not_opened_as_one(path: str) -> None:
    from pathlib import Path

    assert read_elf(Path(path)) is None


def test_functions_are_text_symbols_with_every_alias_and_without_their_padding() -> None:
    assert Kallsyms(TEXT).functions() == {
        "_stext",
        "_text",
        "first",
        "alias_of_first",
        "last_of_the_kernel",
        "in_module",
        "bpf_prog_6deef7357e7b4530",
    }
