"""Publishing survives a kill anywhere, whole or not at all; and no stale attempt publishes, nor any twice."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_nights import cell, night

from numabench import process
from numabench.errors import ResultError
from numabench.fleet import journal, night_file, publish
from numabench.fleet.outcome import LOST, OK, Outcome, cell_outcome, pending
from numabench.store import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from numabench.fleet.night_file import Night
    from numabench.fleet.publish import Attempt

CELL = "x.now.box"
BLOCK = "b01.box.now"
FILES = {publish.__file__, journal.__file__, writing.__file__, shutil.__file__}


def measure(attempt: Attempt, what: str = "run") -> None:
    """What a run leaves, and its cell.json."""
    runs = attempt.cells / CELL / publish.RUNS
    runs.mkdir(parents=True)
    (runs / what).write_text(attempt.token)
    publish.write_cell(attempt, CELL, {"token": attempt.token, "runs": [what]})


def whole(made: Night) -> str:
    """The token of the attempt that published, whose directory must be whole; empty where none did."""
    target = publish.published(made.path, CELL, 1)
    if not target.exists():
        return ""
    record = json.loads((target / publish.CELL_FILE).read_text())
    assert (target / publish.RUNS / record["runs"][0]).read_text() == record["token"]
    return str(record["token"])


def test_what_is_published_stays_whoever_comes_later(tmp_path: Path) -> None:
    made = night(tmp_path, cell("x"))
    first = publish.take(made.path, BLOCK, "first")
    measure(first)
    assert publish.publish(first, CELL, 1)
    second = publish.take(made.path, BLOCK, "second")
    measure(second)
    assert not publish.publish(second, CELL, 1)
    assert whole(made) == "first"
    assert pending(made.path, made.blocks[0]) == ()


def test_a_stale_attempt_publishes_nothing_however_late_it_comes(tmp_path: Path) -> None:
    made = night(tmp_path, cell("x"))
    stale = publish.take(made.path, BLOCK, "stale")
    measure(stale)
    publish.take(made.path, BLOCK, "new")
    with pytest.raises(publish.Stale, match="attempt 2 has taken it over"):
        publish.publish(stale, CELL, 1)
    assert not whole(made)
    # Nor where it had looked just before: what it would rename is not there any more.
    target = publish.published(made.path, CELL, 1)
    target.parent.mkdir()
    with pytest.raises(FileNotFoundError):
        (stale.cells / CELL).rename(target)


def test_a_stale_attempt_that_has_checked_already_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(tmp_path, cell("x"))
    stale = publish.take(made.path, BLOCK, "stale")
    measure(stale)
    check, taken = publish.check, []

    def check_and_lose(attempt: Attempt) -> None:
        check(attempt)
        if not taken:
            taken.append(True)
            publish.take(made.path, BLOCK, "new")

    monkeypatch.setattr(publish, "check", check_and_lose)
    with pytest.raises(publish.Stale):
        publish.publish(stale, CELL, 1)
    assert not whole(made)


def test_an_attempt_that_loses_the_race_for_a_number_takes_the_next(tmp_path: Path) -> None:
    made = night(tmp_path, cell("x"))
    attempts = [publish.take(made.path, BLOCK, str(number)) for number in range(3)]
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    assert publish.attempt_of(made.path, BLOCK, "1") == attempts[1].path
    assert publish.attempt_of(made.path, BLOCK, "none") is None
    for stale in attempts[:2]:
        with pytest.raises(publish.Stale):
            publish.check(stale)
    publish.check(attempts[2])


def test_blocks_whose_names_begin_alike_do_not_meet(tmp_path: Path) -> None:
    made = night(tmp_path, cell("x"))
    one = publish.take(made.path, BLOCK, "one")
    publish.take(made.path, f"{BLOCK}.a2", "other")
    publish.take(made.path, f"{BLOCK}-aa", "third")
    publish.check(one)


def test_what_a_night_lost_room_for_is_told(tmp_path: Path) -> None:
    made = night(tmp_path, cell("x"))
    shutil.rmtree(made.path)
    with pytest.raises(ResultError, match="cannot write results"):
        publish.take(made.path, BLOCK, "token")


# ---- a kill at each line


def at_line(left: Iterator[int]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that kills this process at the line of FILES at which the count-down reaches 0."""

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def attempt_all(path: Path, token: str) -> None:
    """An attempt at the block, from its beginning to its end, with the events that a block writes."""
    made = night_file.load(path)
    if not pending(path, made.blocks[0]):
        return
    attempt = publish.take(path, BLOCK, token)
    events = journal.Journal(attempt.path / publish.EVENTS_FILE)
    measure(attempt)
    events.append("cell-ended", cell=CELL, state=OK, reason="", is_final=True)
    publish.publish(attempt, CELL, 1)


def kill_at_each_line(directory: Path) -> int:
    """Kill an attempt at each of its lines, and make another; how many lines an attempt has."""
    for number in itertools.count():
        lab = directory / str(number)
        made = night(lab, cell("x"))
        child = os.fork()
        if child == 0:
            count_down = itertools.count(number, -1)
            sys.settrace(at_line(count_down))
            try:
                attempt_all(made.path, "killed")
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        before = whole(made)
        outcome = cell_outcome(made.path, made.blocks[0], CELL)
        assert outcome in (None, Outcome(OK), Outcome(LOST, "it was measured and not published", is_final=False))
        assert bool(before) == (outcome == Outcome(OK))
        attempt_all(made.path, "next")
        # Once, by one of the two, and not by both.
        assert whole(made) == (before or "next")
        assert len(list((made.path / night_file.CELLS / CELL).iterdir())) == 1
        assert not pending(made.path, made.blocks[0])
        shutil.rmtree(lab)
        if status == 0:
            return number
    raise AssertionError("the count has no end")


def test_an_attempt_that_is_killed_at_any_line_has_published_whole_or_not_at_all() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        ended = process.run(
            [sys.executable, __file__, directory],
            timeout_s=120,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        )
    assert int(ended.check("killing it at each line").stdout) > 100


if __name__ == "__main__":
    print(kill_at_each_line(Path(sys.argv[1])))
