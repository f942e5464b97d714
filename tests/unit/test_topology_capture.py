"""Trees written and opened: the answer stays, names and serials do not, and hostile archives are refused."""

from __future__ import annotations

import io
import socket
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from numabench.errors import NumabenchError, UsageError
from numabench.host import capture, topology
from numabench.host.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, linkname, size
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tar file of a machine's bare minimum and the members given."""

    def write(*members: tarfile.TarInfo) -> Path:
        path = tmp_path / "machine.tar"
        with tarfile.open(path, "w") as tar:
            for name, text in (("sys/devices/system/cpu/online", b"0\n"), ("proc/meminfo", b"MemTotal: 8 kB\n")):
                tar.addfile(member(name, size=len(text)), io.BytesIO(text))
            for made in members:
                tar.addfile(made, io.BytesIO(b"x" * made.size))
        return path

    return write


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the only place for temporary files."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_a_capture_of_this_machine_answers_as_this_machine(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"here{suffix}"
    shown = capture.write(path)
    with capture.open_tree(path) as root:
        assert topology.read(root) == shown


def test_a_capture_of_a_capture_answers_the_same(tmp_path: Path) -> None:
    with capture.open_tree(FIXTURES / "cpuless.tar.xz") as first:
        shown = capture.write(tmp_path / "again.tar", first)
    with capture.open_tree(tmp_path / "again.tar") as second:
        assert topology.read(second) == shown


def test_every_file_in_a_capture_is_what_the_kernel_says_but_for_what_is_left_out(tmp_path: Path) -> None:
    capture.write(tmp_path / "here.tar")
    with tarfile.open(tmp_path / "here.tar") as tar:
        online = tar.extractfile("topology/sys/devices/system/cpu/online")
        assert online is not None
        assert online.read() == Path("/sys/devices/system/cpu/online").read_bytes()


def test_host_names_builders_serials_and_boot_secrets_are_left_out(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "proc" / "self").mkdir(parents=True)
    (host / "proc" / "meminfo").write_text("MemTotal: 4096 kB\nMemFree: 1024 kB\n")
    (host / "proc" / "version").write_text("Linux version 6.1.0 (root@secret-host) (gcc 12) #1 SMP\n")
    (host / "proc" / "cmdline").write_text("root=UUID=secret-disk ip=::::secret-host numa=fake=2 secret.key=1 nosmt\n")
    (host / "proc" / "cpuinfo").write_text("processor\t: 0\nSerial\t\t: secret\n")
    (host / "proc" / "self" / "status").write_text("Name:\tsecret\nCpus_allowed_list:\t0-3\nMems_allowed_list:\t0\n")
    capture.write(tmp_path / "tree.tar", Root(host))
    assert b"secret" not in (tmp_path / "tree.tar").read_bytes()
    with capture.open_tree(tmp_path / "tree.tar") as root:
        assert root.read("/proc/cmdline") == "numa=fake=2 nosmt\n"
        assert root.read("/proc/version") == "Linux version 6.1.0 (builder) (gcc 12) #1 SMP\n"
        assert root.read("/proc/cpuinfo") == "processor\t: 0\n"
        assert root.read("/proc/self/status") == "Cpus_allowed_list:\t0-3\nMems_allowed_list:\t0\n"


def test_this_machines_name_is_in_no_member(tmp_path: Path) -> None:
    capture.write(tmp_path / "here.tar")
    words = (tmp_path / "here.tar").read_bytes().split()
    assert socket.gethostname().encode() not in words


def test_a_tree_is_found_as_itself_in_its_parent_and_in_every_compression(tmp_path: Path) -> None:
    machine = tmp_path / "parent" / "machine"
    machine.parent.mkdir()
    with capture.open_tree(FIXTURES / "4n-ring.tar.xz") as root:
        expected = topology.read(root)
        root.directory.rename(machine)
        machine.joinpath("hostname").write_text("somewhere\n")
        root.directory.mkdir()
    archives = [tmp_path / f"machine.tar{suffix}" for suffix in ("", ".gz", ".bz2", ".xz")]
    for path, mode in zip(archives, ("w", "w:gz", "w:bz2", "w:xz"), strict=True):
        with tarfile.open(path, mode) as tar:
            tar.add(machine, "machine")
    for path in (machine, machine.parent, *archives):
        with capture.open_tree(path) as root:
            assert topology.read(root) == expected


def test_links_of_an_archive_are_kept_and_led_inside(archive: Callable[..., Path]) -> None:
    path = archive(member("sys/inside", tarfile.SYMTYPE, "/proc/meminfo"))
    with capture.open_tree(path) as root:
        assert root.read("/sys/inside") == "MemTotal: 8 kB\n"


def test_an_absolute_link_of_an_archive_reads_nothing_of_this_machine(archive: Callable[..., Path]) -> None:
    path = archive(member("proc/version", tarfile.SYMTYPE, "/etc/passwd"))
    with capture.open_tree(path) as root:
        assert root.read_or_none("/proc/version") is None


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (member("../escaped", size=1), "would land outside"),
        (member("sys/../../escaped", size=1), "would land outside"),
        (member("/escaped", size=1), "would land outside"),
        (member("proc/hard", tarfile.LNKTYPE, "/etc/passwd"), "is no file, directory or symlink"),
        (member("proc/null", tarfile.CHRTYPE), "is no file, directory or symlink"),
        (member("proc/disk", tarfile.BLKTYPE), "is no file, directory or symlink"),
        (member("proc/fifo", tarfile.FIFOTYPE), "is no file, directory or symlink"),
        (member("proc/meminfo/below", size=1), "cannot unpack"),
        (member("proc/" + "n" * 300, size=1), "cannot unpack"),
    ],
    ids=lambda value: value.name[:24] if isinstance(value, tarfile.TarInfo) else "",
)
def test_a_hostile_member_is_refused_and_leaves_nothing(
    archive: Callable[..., Path], temporary: Path, made: tarfile.TarInfo, words: str
) -> None:
    path = archive(made)
    with pytest.raises(UsageError, match=words), capture.open_tree(path):
        pass
    assert list(temporary.iterdir()) == []


def test_no_file_is_written_through_a_link(archive: Callable[..., Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = archive(
        member("sys/door", tarfile.SYMTYPE, str(outside)),
        member("sys/door/file", size=3),
        member("sys/door/link", tarfile.SYMTYPE, "nowhere"),
    )
    with capture.open_tree(path) as root:
        assert root.read("/sys/door/file") == "xxx"
    assert list(outside.iterdir()) == []


def test_an_archive_beyond_the_bounds_is_refused(archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(member("proc/large", size=5000))
    monkeypatch.setattr(capture, "MAX_TREE_BYTES", 4096)
    with pytest.raises(UsageError, match="too large for a captured tree"), capture.open_tree(path):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(capture, "MAX_TREE_MEMBERS", 2)
    with pytest.raises(UsageError, match="too large for a captured tree"), capture.open_tree(path):
        pass


@pytest.mark.parametrize("name", ["4n-ring.tar.xz", "hwloc.tar.bz2"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_an_archive_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    whole = (FIXTURES / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UsageError, match="is not a whole tar file"), capture.open_tree(tmp_path / name):
        pass


def test_what_is_no_tree_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "two" / "a" / "sys").mkdir(parents=True)
    (tmp_path / "two" / "b" / "proc").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "sys").mkdir(parents=True)
    for name, words in (("absent", "does not exist"), ("empty", "neither sys nor proc"), ("two", "more than one tree")):
        with pytest.raises(UsageError, match=words), capture.open_tree(tmp_path / name):
            pass
    with capture.open_tree(tmp_path / "bare") as root, pytest.raises(UsageError, match="neither nodes nor CPUs"):
        topology.read(root)


def test_a_capture_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot tell how to write"):
        capture.write(tmp_path / "tree.zip")
    with pytest.raises(NumabenchError, match=r"cannot write .*: No such file or directory"):
        capture.write(tmp_path / "absent" / "tree.tar")
