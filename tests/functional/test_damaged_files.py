"""Every file of a result and of a lab, damaged in every way, and disks that are full or cannot be written.

As with bad words (test_bad_input.py): no traceback, a message that names the file, and nothing lost or left.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import bad_box
import damage
import pytest
from bad_box import CELL, DERIVED, KERNEL, LAST_NIGHT, OLD_NIGHT, OTHER_RUN, PRUNED_NIGHT, RUN, SWEEP, Box
from bad_cases import IMPATIENT, OF_PYTHON, Case, fail_with, judge, judged
from bad_commands import BASES

from numabench.errors import EXIT_CANNOT_RUN, EXIT_FAILED, EXIT_UNFIT, EXIT_USAGE
from numabench.fleet.acknowledged import ACKNOWLEDGED_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forked import Forked

_FIRST, _SECOND = f"results/{RUN}/trials/0001", f"results/{RUN}/trials/0002"
_READERS = (("report", RUN), ("list",))
_PASSES = (("callgraph", RUN), ("locks", RUN), ("migration", RUN), ("report", RUN, "--html", "-"))
_SWEEPS = (("report", SWEEP), ("list",), ("sweep", "--resume", SWEEP))
# The files of a result, and what reads them.
_FILES = {
    f"results/{RUN}/run.json": (*_READERS, ("diff", RUN, OTHER_RUN)),
    f"results/{RUN}/end.json": _READERS,
    f"{_FIRST}/trial.json": _READERS,
    f"{_FIRST}/samples.jsonl": _READERS,
    f"{_FIRST}/events.jsonl": _READERS,
    f"{_SECOND}/trial.json": _PASSES[:2],
    f"{_SECOND}/cpu.data": (_PASSES[0], *_PASSES[2:]),
    f"results/{RUN}/trials/0003/lock.data": (("locks", RUN), ("callgraph", RUN, "--observed", "lock")),
    f"results/{RUN}/kallsyms-0123": _PASSES[:1],
    f"results/{SWEEP}/sweep.json": _SWEEPS,
}
# What is no longer there may leave a report of the rest; it is then told on stderr, or in the report.
_ENDS = (0, EXIT_FAILED)


def _damaged(path: Path, commands: Sequence[tuple[str, ...]], box: Box) -> Iterator[Case]:
    names = (path.name, path.parent.name, RUN, SWEEP)
    box.accept()
    for words in commands:
        yield Case((*words, "--results", str(box.results)), _ENDS, names, {"constants": IMPATIENT})


def test_every_file_of_a_result_is_damaged(box: Box) -> None:
    written = {path.name for path in box.results.rglob("*") if path.is_file()}
    unknown = written - {Path(name).name for name in _FILES}
    assert not unknown, f"add to _FILES what reads these: {', '.join(unknown)}"


@pytest.mark.parametrize("name", _FILES)
def test_a_damaged_result_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.at / name, []
    for kind, do in damage.KINDS.items():
        with damage.kept(path):
            do(path)
            told += judged(list(_damaged(path, _FILES[name], box)), box, forked, f"{name}, {kind}: ")
    box.accept()
    fail_with(told)


# Other files that commands read, below the box.
_OTHERS = {
    "in/perf.data": (("callgraph", "{in}/perf.data"), ("locks", "{in}/perf.data")),
    "in/names.toml": (("callgraph", "{in}/perf.data", "--names", "{in}/names.toml"),),
    "in/tree.tar": (("topology", "--root", "{in}/tree.tar"),),
    "in/state.json": (("state", "diff", "{in}/state.json", "none"),),
    "in/lab.toml": (
        ("nightly", "plan", "{in}/lab.toml"),
        ("nightly", "install", "--user", "--dry-run", "{in}/lab.toml"),
    ),
    "in/profile.toml": (("state", "show", "--profile", "{in}/profile.toml"),),
    "home/numabench/profiles/own.toml": (("state", "profiles"), ("state", "diff", "own", "none")),
    f"cache/numabench/kernels/{KERNEL}/kernel.json": (("lab", "kernel", "list"),),
    "reproduced/reproduce.json": (("reproduce", "rmap-lock", "--resume", "{at}/reproduced"),),
}


@pytest.mark.parametrize("name", _OTHERS)
def test_another_damaged_file_is_told(name: str, box: Box, forked: Forked) -> None:
    path = box.at / name
    _judge_damaged(path, [tuple(word.format(**box.places) for word in words) for words in _OTHERS[name]], box, forked)


_BOOT = f"cells/{CELL}/boot-01"
_PLANNED, _PRUNED = ("nightly", "plan", "{in}/lab.toml"), ("nightly", "prune", "{in}/lab.toml", "--dry-run")
_REPORTED, _KILLED = ("nightly", "report", "{in}/lab.toml", "--no-site"), ("nightly", "ended", "{in}/lab.toml")
_INDEXED, _REBUILT = ("index", "{in}/lab"), ("index", "{in}/lab", "--rebuild")
_RESUMED = ("nightly", "unattended", "{in}/lab.toml", "--resume")
_ACKNOWLEDGED = (
    *("nightly", "acknowledge", "{in}/lab.toml", "{cell}", "{metric}", "--night", "{night}"),
    *("--reason", "it is known by now"),
)
# The files of a lab, and what reads them; the first tells of those that are missed.
_OF_LAB = {
    f"nights/{LAST_NIGHT}/night.json": (_REPORTED, _REBUILT, _PLANNED, _PRUNED),
    f"nights/{OLD_NIGHT}/night.json": (_PRUNED,),
    f"nights/{LAST_NIGHT}/journal.jsonl": (_REPORTED, _PLANNED),
    f"nights/{OLD_NIGHT}/journal.jsonl": (_PRUNED,),
    f"nights/{LAST_NIGHT}/verdict.json": (_REPORTED, _PLANNED, _PRUNED),
    f"nights/{LAST_NIGHT}/{_BOOT}/cell.json": (_REBUILT, _PLANNED),
    f"nights/{PRUNED_NIGHT}/{_BOOT}/values.json": (_REBUILT, _PLANNED, _PRUNED),
    "index.sqlite": (_REPORTED, _INDEXED, _ACKNOWLEDGED),
    "acknowledged.toml": (_REPORTED, _PRUNED, _ACKNOWLEDGED),
    "quarantine.json": (_REPORTED, _PRUNED),
    "unattended.json": (_RESUMED, _KILLED),
    "reboot.json": (_RESUMED, _KILLED),
}
# What is made anew where it cannot be read, or says nothing then; the others are missed.
_NOT_MISSED = (*DERIVED, "cell.json")
# What the first of the readers is given alone costs half as much: they read a file by the same lines.
_READ_BY_ALL = frozenset({"removed", "cut to a half", "rubbish", "deep", "an empty object", "a fifo", "of the future"})


def _of_the_future(path: Path) -> None:
    """Written by a numabench that is newer by one version."""
    if path.name == "index.sqlite":
        with contextlib.closing(sqlite3.connect(path)) as index:
            index.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(re.sub(rb'("schema_version": ?)1\b', rb"\g<1>2", path.read_bytes()))


@pytest.mark.parametrize("name", _OF_LAB)
def test_a_damaged_file_of_a_lab_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.lab / name, []
    every = [tuple(word.format(**box.places) for word in words) for words in _OF_LAB[name]]
    kinds = damage.KINDS if path.suffix == ".json" else damage.OF_ANY
    if path.suffix in {".json", ".sqlite"}:
        kinds = {**kinds, "of the future": _of_the_future}
    names = (path.name, path.parent.name, "has not ended", "was broken off")
    with bad_box.broken_off(box):
        for kind, do in kinds.items():
            with box.keeping([path.name, *DERIVED, ACKNOWLEDGED_FILE, *bad_box.BROKEN_OFF]):
                do(path)
                box.accept()
                writes = (*DERIVED, ACKNOWLEDGED_FILE, *bad_box.BROKEN_OFF)
                cases = [Case(words, _ENDS, names, {"constants": IMPATIENT}, writes, True) for words in every]
                told += judged(cases if kind in _READ_BY_ALL else cases[:1], box, forked, f"{name}, {kind}: ")
                if kind == "of the future" and path.name not in _NOT_MISSED:
                    answer = forked.run(*every[0], cwd=box.cwd, env=box.env)
                    told += (
                        []
                        if "has schema version 2" in f"{answer.stdout}{answer.stderr}"
                        else [f"{name}, {kind}: {answer.stdout}"]
                    )
    fail_with(told)


@pytest.mark.parametrize("directory", ["directory/file", "loop", "dangling", r"a\u0000b", "fifo"])
def test_a_lab_that_cannot_be_a_directory_is_told(directory: str, box: Box, forked: Forked) -> None:
    file = box.inputs / "lab.toml"
    readers = [f"nightly {name}" for name in ("plan", "run", "report", "prune", "unattended", "install", "ended")]
    with damage.kept(file):
        file.write_text(file.read_text().replace('"lab"', f'"{directory}"', 1))
        box.accept()
        cases = [Case(tuple(BASES[name].words(name, box)), (EXIT_USAGE,), ("lab.directory",)) for name in readers]
        judge(cases, box, forked)
    box.accept()


def test_who_cannot_go_on_with_a_night_tells_of_it_and_is_not_held_up_by_it(box: Box, forked: Forked) -> None:
    file, words = box.inputs / "lab.toml", ("nightly", "unattended", str(box.inputs / "lab.toml"), "--resume")
    told = box.cwd / "told"
    with bad_box.broken_off(box), damage.kept(file):
        file.write_text(f'{file.read_text()}[alert]\ncommand = ["/usr/bin/tee", "{told}"]\n')
        note = box.lab / bad_box.BROKEN_OFF[0]
        with damage.kept(note):
            note.write_bytes(damage.RUBBISH)
            assert forked.run(*words, cwd=box.cwd, env=box.env).status == EXIT_FAILED
            assert note.name in told.read_text()
            assert "take it away" in told.read_text()
        # Of what it was to go on with there is nothing: it is told once, and done with.
        assert forked.run(*words, cwd=box.cwd, env=box.env).status == EXIT_FAILED
        assert "did not begin" in told.read_text()
        ended = forked.run(*words, cwd=box.cwd, env=box.env)
        assert (ended.status, ended.stdout) == (0, ""), ended.stderr
        assert not [name for name in bad_box.BROKEN_OFF if (box.lab / name).exists()]
    box.written()
    box.accept()


def test_every_file_of_a_lab_is_damaged(box: Box) -> None:
    with bad_box.broken_off(box):
        published = [path for path in box.lab.rglob("*") if path.is_file() and "runs" not in path.parts]
        unknown = {path.name for path in published if not path.name.startswith(".")} - {
            Path(name).name for name in _OF_LAB
        }
    assert not unknown, f"add to _OF_LAB what reads these: {', '.join(unknown)}"


def test_a_damaged_journal_is_told(box: Box, forked: Forked) -> None:
    """What a killed run has left altered is not to be had from it any more; what can be read of it is told."""
    with bad_box.left_by_a_killed_run(box) as journal:
        restore = ("state", "restore", "--dry-run")
        ended = forked.run(*restore, cwd=box.cwd, env=box.env)
        assert "would set ksm.run: 0 -> 1" in ended.stdout
        _judge_damaged(journal, [("state", "show"), ("list", *BASES["list"].words("", box))], box, forked)
        for kind, do in damage.KINDS.items():
            with damage.kept(journal):
                do(journal)
                box.accept()
                ended = forked.run(*restore, cwd=box.cwd, env=box.env, constants=IMPATIENT)
                # What is damaged is part of the answer: it is put aside, and what can be read is put back.
                assert ended.status in {0, EXIT_FAILED, EXIT_UNFIT}, kind
                assert not ended.status or journal.name in f"{ended.stdout} {ended.stderr}", kind
                assert not any((box.changes(), ended.hung, ended.left, "Traceback" in ended.stderr)), kind
    box.accept()


def _judge_damaged(path: Path, every: Sequence[tuple[str, ...]], box: Box, forked: Forked) -> None:
    told, names = [], (path.name, path.stem, path.parent.name)
    box.accept()
    told += judged([Case(words, (0, EXIT_CANNOT_RUN)) for words in every], box, forked, "with nothing damaged: ")
    for kind, do in damage.KINDS.items():
        with damage.kept(path):
            do(path)
            box.accept()
            # Without its last newline a file is whole.
            ends = (0, EXIT_FAILED, EXIT_USAGE, *([EXIT_CANNOT_RUN] if kind == "cut by its last byte" else []))
            cases = [Case(words, ends, names, {"constants": IMPATIENT}) for words in every]
            told += judged(cases, box, forked, f"{path.name}, {kind}: ")
    box.accept()
    fail_with(told)


@pytest.mark.parametrize("command", ["callgraph", "locks"])
def test_a_recording_that_is_cut_or_changed_anywhere_is_told(command: str, box: Box, forked: Forked) -> None:
    """At places that a generator with a fixed start has chosen."""
    path, told, chosen = box.inputs / "perf.data", [], random.Random(1)  # noqa: S311
    whole = bad_box.unpacked("cpu-clock.data" if command == "callgraph" else "lock.data")
    with damage.kept(path):
        for turn in range(60):
            place = chosen.randrange(len(whole)) if turn % 3 else chosen.randrange(2000)
            changed = bytes([whole[place] ^ 1 << chosen.randrange(8)])
            path.write_bytes(whole[:place] if turn % 2 else whole[:place] + changed + whole[place + 1 :])
            box.accept()
            what = f"{place}, {'cut' if turn % 2 else changed}: "
            told += judged([Case((command, str(path)), _ENDS, (path.name,))], box, forked, what)
    box.accept()
    fail_with(told)


@pytest.mark.parametrize("command", ["report", "list", "diff", "migration", "callgraph", "locks", "state diff"])
def test_what_only_reads_does_so_where_nothing_can_be_written(command: str, box: Box, forked: Forked) -> None:
    directories = [box.results, *(path for path in box.results.rglob("*") if path.is_dir())]
    for path in directories:
        path.chmod(0o555)
    box.accept()
    words = tuple(BASES[command].words(command, box))
    told = judged([Case(words, (0,)), Case((*words, "--help"), (0,))], box, forked)
    for path in directories:
        path.chmod(0o755)
    box.accept()
    fail_with(told)


def test_a_sweep_in_a_directory_that_is_read_only_is_told(box: Box, forked: Forked) -> None:
    sweep = box.results / SWEEP
    for path in (sweep, sweep / "units"):
        path.chmod(0o555)
    box.accept()
    words = ("sweep", "--resume", SWEEP, "--results", str(box.results), "--json")
    told = judged([Case(words, (0, EXIT_FAILED), (SWEEP,))], box, forked)
    for path in (sweep, sweep / "units"):
        path.chmod(0o755)
    box.accept()
    fail_with(told)


def test_a_kernel_that_does_not_fit_on_the_disk_leaves_nothing(box: Box, forked: Forked) -> None:
    """A limit on the size of files stands for the disk, of which apart from the lock nothing is used afterwards."""
    words = ("lab", "kernel", "add", str(box.inputs / "image"))
    ended = forked.run(*words, cwd=box.cwd, env=box.env, file_bytes=64)
    lock = str(box.at / "cache/numabench/kernels/.lock")
    assert (ended.status, box.changes()) == (EXIT_FAILED, [lock]), ended.stderr
    assert not OF_PYTHON.search(ended.stderr)


@pytest.mark.parametrize("name", [f"results/{RUN}/run.json", f"results/{SWEEP}/sweep.json"])
def test_a_wrong_schema_version_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.at / name, []
    for version in damage.VERSIONS:
        with damage.kept(path):
            path.write_bytes(re.sub(rb'("schema_version":) *\d+', rb"\1 " + version, path.read_bytes()))
            cases = [
                Case((*words, "--results", str(box.results)), (EXIT_FAILED,), (path.name,))
                for words in [("report", path.parent.name), *([("migration", RUN)] if RUN in name else [])]
            ]
            box.accept()
            told += judged(cases, box, forked, f"{name}, version {version!r}: ")
    box.accept()
    fail_with(told)


# Every value of every file is walked by hand with 1; here each so many-th, which differ from file to file.
_STEP = int(os.environ.get("NUMABENCH_BAD_INPUT_STEP", "97"))


@pytest.mark.parametrize("name", [name for name in _FILES if name.endswith(".json")])
def test_a_wrong_value_in_a_result_is_told(name: str, box: Box, forked: Forked) -> None:
    path, told = box.at / name, []
    document = json.loads(path.read_text())
    all_of_them = list(itertools.product(damage.places(document), damage.VALUES))
    with damage.kept(path):
        for place, value in all_of_them[_STEP // 2 :: _STEP]:
            path.write_bytes(damage.changed(document, place, value))
            cases = list(_damaged(path, _FILES[name][:1], box))
            told += judged(cases, box, forked, f"{name}, {place} = {value!a:.60}: ")
    box.accept()
    fail_with(told)
