"""Knobs survive a crash anywhere: the code is killed, or raises, at its lines, and at each step that lasts."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import steps
from at_line import at_line

from numabench import process
from numabench.errors import NumabenchError
from numabench.host import knob_journal, knobs
from numabench.host.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGINAL = {"/proc/sys/kernel/numa_balancing": "0\n", "/sys/kernel/debug/sched/numa_balancing/scan_size_mb": "256\n"}
WANTED = {"numa_balancing": "1", "scan_size_mb": "1024"}
TESTS = Path(at_line.__code__.co_filename).parent
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


def end_at_lines(act: Callable[[], None], first: int, directory: Path) -> int:
    """End a run at every third of its lines, and recover; exit at the first tree that differs. How many a run has."""
    state = directory / "state"
    for number in itertools.count(first, 3):
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
def test_a_run_that_ends_at_a_line_is_undone_at_the_next_start(ending: Callable[[], None]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        argv = [sys.executable, __file__, ending.__name__, directory]
    ended = process.run(argv, timeout_s=120, env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"})
    assert ended.check("ending it at each line").exit_status == 0
    assert int(ended.stdout) > 150


# A governor's files: what is coupled is captured, noted, and put back, too.
FREQUENCIES = {
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "powersave\n",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "3000\n",
    "/sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
}
ALL = {**ORIGINAL, **FREQUENCIES}
MORE = {**WANTED, "scaling_max_freq": "2000", "scaling_governor": "performance", "no_turbo": "1"}


def run_once(root: Root, state: Path) -> None:
    with knobs.apply(MORE, root, state):
        pass


def keep_twice(root: Root, state: Path) -> None:
    knobs.keep({"scan_size_mb": "512"}, root, state)
    knobs.keep(MORE, root, state)


def run_above_kept(root: Root, state: Path) -> None:
    knobs.keep({"numa_balancing": "2"}, root, state)
    run_once(root, state)


def kept_and_killed(root: Root, state: Path) -> None:
    knobs.keep({"numa_balancing": "2", "scan_size_mb": "512"}, root, state)
    applied = knobs.apply(MORE, root, state)
    applied.__enter__()
    os._exit(0)


def kept_and_left_alone(root: Root, state: Path) -> None:
    knobs.keep(MORE, root, state)
    root.path(next(iter(ORIGINAL))).write_text("7\n", encoding="ascii")


def released_twice(root: Root, state: Path) -> None:
    knobs.release(root, state)
    knobs.release(root, state, force=True)


def released(root: Root, state: Path) -> None:
    knobs.release(root, state)


def recovered(root: Root, state: Path) -> None:
    knobs.recover(root, state)


def run_after(root: Root, state: Path) -> None:
    run_once(root, state)


# What goes before, and what is ended at each of its steps.
PATHS = {
    "a run": (None, run_once),
    "keep": (None, keep_twice),
    "a run above what is kept": (None, run_above_kept),
    "release": (kept_and_killed, released),
    "release by force": (kept_and_left_alone, released_twice),
    "recovery": (kept_and_killed, recovered),
    "the next run": (kept_and_killed, run_after),
}


def in_child(body: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            body()
        os._exit(0)
    os.waitpid(child, 0)


def all_of(root: Root) -> dict[str, str]:
    # Half a write leaves no newline: the kernel's own files always have one.
    return {name: f"{root.read(name).strip()}\n" for name in ALL}


def prepared(directory: Path, path: str) -> Path:
    """A tree and a state directory as they are before what is to be ended."""
    root = make_tree(directory)
    for name, text in FREQUENCIES.items():
        root.path(name).parent.mkdir(parents=True, exist_ok=True)
        root.path(name).write_text(text, encoding="ascii")
    (directory / "state").mkdir()
    before, _ = PATHS[path]
    if before is not None:
        in_child(lambda: before(root, directory / "state"))
        assert all_of(root) != ALL
    return directory


def reset(original: Path, here: Path) -> None:
    """Make `here` as the original; far cheaper than to copy the tree anew."""
    for name in ALL:
        shutil.copyfile(Root(original / "root").path(name), Root(here / "root").path(name))
    (here / "state").mkdir(exist_ok=True)
    for file in (here / "state").iterdir():
        file.unlink()
    for file in (original / "state").iterdir():
        shutil.copyfile(file, here / "state" / file.name)


def steps_of(directory: Path, path: str) -> list[str]:
    shutil.copytree(directory, directory.with_suffix(".counted"))
    counted = directory.with_suffix(".counted")
    with steps.acting_at(-1, "") as done:
        PATHS[path][1](Root(counted / "root"), counted / "state")
    return done


@pytest.mark.parametrize("path", PATHS)
def test_whatever_step_is_the_last_or_fails_all_is_put_back(path: str) -> None:
    """Every write, sync, cut and removal of each path, by every ending; then `numabench state restore`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        original, here = prepared(Path(name) / "original", path), Path(name) / "here"
        root, state = Root(here / "root"), here / "state"
        shutil.copytree(original, here)
        done = steps_of(original, path)
        assert {"write", "fsync"} <= set(done)

        def ended(number: int, ending: str) -> None:
            with contextlib.suppress(OSError, NumabenchError), steps.acting_at(number, ending):
                PATHS[path][1](root, state)

        for number, ending in [(n, each) for n, step in enumerate(done) for each in steps.endings(step)]:
            reset(original, here)
            if "killed" in ending:
                in_child(lambda number=number, ending=ending: ended(number, ending))  # type: ignore[misc]
            else:
                ended(number, ending)
            left = [entry for entry in knobs.release(root, state, force=True) if entry.outcome != "restored"]
            where = f"step {number} ({done[number]}), {ending}"
            assert (all_of(root), left) == (ALL, []), where
            assert (knobs.altered(root, state), list(state.glob("*.journal*"))) == ((), []), where


def test_there_are_at_least_300_steps_and_endings(tmp_path: Path) -> None:
    found = [
        step for number, path in enumerate(PATHS) for step in steps_of(prepared(tmp_path / str(number), path), path)
    ]
    assert (len(found) >= 300, sum(len(steps.endings(step)) for step in found) >= 1000) == (True, True)


if __name__ == "__main__":
    endings = {"kill": kill, "interrupt": interrupt, "fail": fail}
    print(end_at_lines(endings[sys.argv[1]], list(endings).index(sys.argv[1]), Path(sys.argv[2])))
