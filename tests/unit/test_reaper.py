from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from numabench import process
from numabench.reaper import Reaper

if TYPE_CHECKING:
    from pathlib import Path


def test_reaping_ends_the_sessions_watched_with_all_they_started_and_removes_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "a b"
    (directory / "deep").mkdir(parents=True)
    (directory / "deep" / "file").touch()
    reaper = Reaper(directory)
    stubborn = process.start(["sh", "-c", "trap '' TERM; sleep 1000 & wait"])
    reaper.watch(stubborn.pid)
    reaper.reap()
    assert stubborn.wait(10.0) == -signal.SIGKILL
    assert not directory.exists()


def test_a_forgotten_session_goes_on(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    reaper = Reaper(tmp_path / "directory")
    other = process.start(["sleep", "1000"])
    reaper.watch(other.pid)
    reaper.forget()
    reaper.reap()
    assert other.wait(0.0) is None
    assert other.kill() == -signal.SIGTERM
    assert not (tmp_path / "directory").exists()
