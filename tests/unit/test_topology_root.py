"""Links of a captured tree, compared with the kernel's own openat2(2) and RESOLVE_IN_ROOT."""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

SYS_OPENAT2 = 437  # the same number on all architectures
RESOLVE_IN_ROOT = 0x10

NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.sampled_from(["a", "b", "c", "..", "."])
PATHS = st.builds(lambda lead, steps: lead + "/".join(steps), st.sampled_from(["", "/"]), st.lists(STEPS, min_size=1))
LINKS = st.dictionaries(st.tuples(st.sampled_from(["", "a", "b", "a/b"]), NAMES), PATHS, max_size=6)


def resolved_by_kernel(directory: Path, name: str) -> Path | None:
    """Where the kernel finds `name` when `directory` is the root; None where it finds nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    top = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        how = struct.pack("QQQ", os.O_PATH, 0, RESOLVE_IN_ROOT)
        fd = libc.syscall(SYS_OPENAT2, top, name.encode(), how, len(how))
        if fd < 0:
            return None
        try:
            return Path(f"/proc/self/fd/{fd}").readlink()
        finally:
            os.close(fd)
    finally:
        os.close(top)


def lay(directory: Path, links: Mapping[tuple[str, str], str]) -> None:
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "b").mkdir()
    (directory / "c").write_text("c\n")
    for (parent, name), target in links.items():
        place = directory / parent / name
        if not os.path.lexists(place):
            place.symlink_to(target)


@given(LINKS, PATHS)
def test_names_lead_where_the_kernel_leads_them_with_the_tree_as_root(
    links: dict[tuple[str, str], str], name: str
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary).resolve()
        lay(directory, links)
        expected = resolved_by_kernel(directory, name)
        if expected is not None:
            assert Root(directory).path(name) == expected


@given(LINKS, PATHS)
def test_no_name_and_no_link_leads_outside_the_tree(links: dict[tuple[str, str], str], name: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary).resolve()
        lay(directory, links)
        try:
            found = Root(directory).path(name)
        except OSError:
            return
        assert found.is_relative_to(directory)
        assert ".." not in found.parts


def test_links_in_circles_read_as_absent(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("about")
    (tmp_path / "about").symlink_to("/round")
    root = Root(tmp_path)
    assert not root.exists("/round")
    assert root.read_or_none("/round") is None
    assert root.names("/round") == ()
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        root.read("/round")


def test_an_absolute_link_is_read_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "version").write_text("captured\n")
    (tmp_path / "alias").symlink_to("/proc/version")
    assert Root(tmp_path).read("/alias") == "captured\n"


def test_the_live_root_reads_the_machine() -> None:
    assert LIVE.is_live
    assert LIVE.read("/proc/version") == Path("/proc/version").read_text()
    assert LIVE.names("/proc/self/task") == (str(os.getpid()),) or len(LIVE.names("/proc/self/task")) > 1


def test_numbers_are_those_of_whole_names(tmp_path: Path) -> None:
    for name in (
        "node0",
        "node10",
        "node2",
        "node",
        "nodex",
        "node1x",
        "has_node3",
        "pool-4kB",
        "pool-64kB",
        "pool-4MB",
    ):
        (tmp_path / name).mkdir()
    assert Root(tmp_path).numbers("/", "node") == (0, 2, 10)
    assert Root(tmp_path).numbers("/", "pool-", "kB") == (4, 64)
    assert Root(tmp_path).numbers("/absent", "node") == ()
