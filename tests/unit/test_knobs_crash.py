"""Knobs survive a crash anywhere: the code is killed, or made to raise, at each of its lines in turn."""

from __future__ import annotations

import builtins
import contextlib
import errno
import itertools
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from at_line import at_line

from numabench import process
from numabench.errors import NumabenchError
from numabench.host import knob_journal, knobs
from numabench.host.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ORIGINAL = {"/proc/sys/kernel/numa_balancing": "0\n", "/sys/kernel/debug/sched/numa_balancing/scan_size_mb": "256\n"}
WANTED = {"numa_balancing": "1", "scan_size_mb": "1024"}
FILES = {knobs.__file__, knob_journal.__file__}


def make_tree(directory: Path) -> Root:
    tree = Root(directory / "root")
    for name, text in {**ORIGINAL, "/proc/sys/kernel/random/boot_id": "boot\n"}.items():
        tree.path(name).parent.mkdir(parents=True, exist_ok=True)
        tree.path(name).write_text(text, encoding="ascii")
    return tree


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def set_and_restore(root: Root, state: Path) -> None:
    with knobs.apply(WANTED, root, state):
        pass


def end_at_each_line(act: Callable[[], None], directory: Path) -> int:
    """End a run at each of its lines, and recover; exit at the first tree that differs. How many lines a run has."""
    state = directory / "state"
    for number in itertools.count():
        root = make_tree(directory)
        child = os.fork()
        if child == 0:
            count_down = itertools.count(number, -1)
            sys.settrace(at_line(FILES, count_down, act))
            try:
                set_and_restore(root, state)
            finally:
                os._exit(next(count_down) < 0)
        _, status = os.waitpid(child, 0)
        knobs.recover(root, state)
        left = {name: root.read(name) for name in ORIGINAL}
        if left != ORIGINAL:
            sys.exit(f"ended at line {number}: {left}")
        if status == 0:
            return number
    raise AssertionError("the count has no end")


@pytest.mark.parametrize("ending", [kill, interrupt, fail])
def test_a_run_that_ends_at_any_line_is_undone_at_the_next_start(ending: Callable[[], None]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        argv = [sys.executable, __file__, ending.__name__, directory]
    ended = process.run(
        argv, timeout_s=120, env={**os.environ, "PYTHONPATH": str(Path(at_line.__code__.co_filename).parent)}
    )
    assert ended.check("ending it at each line").exit_status == 0
    assert int(ended.stdout) > 150


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "open"), (builtins, "open"), (Path, "write_text")])
def test_a_call_that_fails_anywhere_is_undone_at_once_or_reported(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = getattr(owner, name)
    for number in itertools.count():
        root, left = make_tree(tmp_path), itertools.count(number, -1)

        def failing(*arguments: Any, left: Iterator[int] = left, **options: Any) -> Any:
            if next(left) == 0:
                fail()
            return genuine(*arguments, **options)

        applied = knobs.apply(WANTED, root, tmp_path / "state")
        monkeypatch.setattr(owner, name, failing)
        with contextlib.suppress(OSError, NumabenchError), applied:
            pass
        monkeypatch.undo()
        if any(entry.outcome == "failed" for entry in applied.restored):
            knobs.recover(root, tmp_path / "state")
        assert {name: root.read(name) for name in ORIGINAL} == ORIGINAL, f"call {number} of {name} failed"
        if next(left) > 0:
            break
    assert number >= 2


if __name__ == "__main__":
    print(end_at_each_line({"kill": kill, "interrupt": interrupt, "fail": fail}[sys.argv[1]], Path(sys.argv[2])))
