"""Files that a user names, against what the file system says of them."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from numabench import named_file

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_file_is_read_up_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert named_file.read(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it has more than"):
        named_file.read(tmp_path / "file", 4)


@pytest.mark.parametrize(("name", "code"), [("absent", errno.ENOENT), ("", errno.EISDIR), ("loop", errno.ELOOP)])
def test_what_is_no_file_is_refused_as_the_kernel_does(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        named_file.read(tmp_path / name, 1)


def test_a_device_without_end_is_refused() -> None:
    with pytest.raises(OSError, match="it has more than 1 MiB"):
        named_file.read(Path("/dev/zero"), 1 << 20)


def test_a_fifo_is_waited_for_and_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(b"x" * 200_000))
    writer.start()
    assert named_file.read(tmp_path / "fifo", 1 << 20) == b"x" * 200_000
    writer.join()
    monkeypatch.setattr(named_file, "FIFO_WAIT_S", 0.01)
    with pytest.raises(OSError, match="nobody has written to this fifo"):
        named_file.read(tmp_path / "fifo", 1)


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    named_file.write(tmp_path / "link", (b"new", b"er"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"newer"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_a_file_in_a_directory_that_is_read_only_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"older")
    tmp_path.chmod(0o555)
    try:
        named_file.write(tmp_path / "file", (b"new",))
    finally:
        tmp_path.chmod(0o755)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def test_a_new_file_has_the_mode_that_any_has(tmp_path: Path) -> None:
    named_file.write(tmp_path / "new", (b"x",))
    (tmp_path / "other").write_bytes(b"x")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_was_there_stays_where_the_new_one_breaks_off(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        named_file.write(tmp_path / "file", parts())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_fifo_and_a_device_are_written_to_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="nobody reads this fifo"):
        named_file.write(tmp_path / "fifo", (b"x",))
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    named_file.write(tmp_path / "fifo", (b"x",))
    assert os.read(reader, 10) == b"x"
    os.close(reader)
    with pytest.raises(OSError, match="No space left"):
        named_file.write(Path("/dev/full"), (b"x",))
    assert (tmp_path / "fifo").is_fifo()


def test_where_nothing_can_be_written_is_told_without_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    named_file.check_directory(tmp_path / "a/b/c")
    named_file.check_file(tmp_path / "new")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(NotADirectoryError):
            named_file.check_directory(path)
    with pytest.raises(FileNotFoundError):
        named_file.check_file(tmp_path / "absent/new")
    with pytest.raises(IsADirectoryError):
        named_file.check_file(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
