"""Command lines that must not end in a traceback, and what is wrong with how they ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bad_box import Box
    from forked import Ended, Forked

# What a message may take, whatever was given.
_MESSAGE_BYTES = 4000
# Nobody writes to the box's fifos.
IMPATIENT = {"numabench.named_file.FIFO_WAIT_S": 0.2}


@dataclass(frozen=True)
class Case:
    """A command line, how it may end, and what its message must name one of (none: whatever it likes)."""

    words: tuple[str, ...]
    ends: tuple[int, ...]
    names: tuple[str, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    is_told_in_its_answer: bool = False


_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
OF_PYTHON = re.compile("Traceback|Exception ignored|[a-z]Warning:|[a-z]Error:")


def faults(case: Case, ended: Ended) -> Iterator[str]:
    """What is wrong with how a command ended, and with what it said."""
    if ended.hung:
        yield "it did not end"
    if ended.left:
        yield f"it left running: {ended.left}"
    if OF_PYTHON.search(ended.stderr):
        yield "a traceback"
    if not ended.hung and ended.status not in case.ends:
        yield f"it ended with {ended.status}, not {' or '.join(map(str, case.ends))}"
    if len(ended.stderr) > _MESSAGE_BYTES and not ended.hung:
        yield f"a message of {len(ended.stderr)} bytes"
    for text in (ended.stdout, ended.stderr):
        if found := _NOT_SHOWN.search(text):
            yield f"it prints {found[0]!a}"
    message = f"{ended.stdout}{ended.stderr}" if case.is_told_in_its_answer else ended.stderr
    if ended.status and case.names and not any(name and name in message for name in case.names):
        yield "its message does not name what was wrong"
    if ended.status and not message and not {"stdin", "stdout", "stderr"} & case.how.keys():
        yield "it does not say why"


def traces(case: Case, box: Box, status: int) -> Iterator[str]:
    """What a command has touched, or left where it failed."""
    if changed := _touched(box, case.writes):
        yield f"it touched {', '.join(changed)}"
    if (written := box.written()) and status:
        yield f"it left {', '.join(map(ascii, written))}"


def _touched(box: Box, writes: Sequence[str]) -> list[str]:
    return [path for path in box.changes() if Path(path).name not in writes]


def judge(cases: Sequence[Case], box: Box, forked: Forked) -> None:
    """Run them all, and tell all that is wrong at once."""
    assert cases
    fail_with(judged(cases, box, forked))


def fail_with(told: Sequence[str]) -> None:
    if told:
        pytest.fail(f"{len(told)} command lines\n" + "\n".join(told), pytrace=False)


def judged(cases: Sequence[Case], box: Box, forked: Forked, what: str = "") -> list[str]:
    """Run them all; what is wrong with each.

    They are run in one process, and where anything is wrong there each anew in its own.
    """
    in_turn = _in_turn(cases, box, forked)
    if in_turn == []:
        return []
    told = []
    for case in cases:
        ended = forked.run(*case.words, cwd=box.cwd, env=box.env, **case.how)
        found = [*faults(case, ended), *traces(case, box, ended.status)]
        if found:
            words = " ".join(ascii(word)[1:-1] if len(word) < 200 else f"{word[:20]!a}..." for word in case.words)
            shown = ended.stderr if len(ended.stderr) < 3000 else f"{ended.stderr[:300]} ... {ended.stderr[-2500:]}"
            told.append(
                f"{what}{words} {case.how or ''}\n  {'; '.join(found)}\n    " + ascii(shown).replace(r"\n", "\n    ")
            )
    return told or [f"{what}one of several in one process: {found}" for found in in_turn or ()]


def _in_turn(cases: Sequence[Case], box: Box, forked: Forked) -> list[str] | None:
    """What is wrong with any of them; None where it is not known, for they cannot be run so, or one has written."""
    if len(cases) < 2 or any(case.how != cases[0].how or case.how.keys() - {"constants"} for case in cases):
        return None
    every = forked.run_in_turn([case.words for case in cases], cwd=box.cwd, env=box.env, **cases[0].how)
    found = [fault for case, ended in zip(cases, every, strict=False) for fault in faults(case, ended)]
    changed = _touched(box, [name for case in cases for name in case.writes])
    found += [f"it touched {', '.join(changed)}"] if changed else []
    return None if not found and (box.written() or not every) else found
