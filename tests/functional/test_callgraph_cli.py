"""`numabench callgraph` and `locks` on recordings made here, against perf's own reports of the same files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from numabench import perf, process
from numabench.analysis import calltree, contention, recorded
from numabench.report import calltree_text

KALLSYMS = Path("/proc/kallsyms")
LOAD = "import os\nfor _ in range(40): b = bytearray(4 << 20); os.listdir('/proc'); os.stat('/')"
TRACING = Path("/sys/kernel/tracing/events/lock/contention_begin")


def numabench(*arguments: str) -> process.Completed:
    return process.run([sys.executable, "-m", "numabench", *arguments], timeout_s=120)


def record(file: Path, *arguments: str) -> Path:
    if process.find_program("perf") is None:
        pytest.skip("the program perf was not found")
    done = process.run(["perf", "record", "-q", "-N", "-o", str(file), *arguments], timeout_s=120)
    if done.exit_status != 0:
        pytest.skip(f"perf cannot record here: {done.stderr.strip().splitlines()[-1:]}")
    return file


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cpu") / "perf.data"
    record(file, "-e", "cpu-clock:k", "-F", "2000", "-g", "--kernel-callchains", "--", sys.executable, "-c", LOAD)
    if not any(int(line.split()[0], 16) for line in KALLSYMS.read_text().splitlines()[:50]):
        pytest.skip("/proc/kallsyms hides addresses from this user (run as root)")
    return file


@pytest.fixture(scope="module")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not TRACING.is_dir():
        pytest.skip("this kernel or user has no lock:contention_begin")
    file = tmp_path_factory.mktemp("locks") / "perf.data"
    events = ("-e", "lock:contention_begin", "-e", "lock:contention_end")
    load = ("perf", "bench", "sched", "messaging", "-t", "-g", "1", "-l", "40")
    return record(file, "-m", "512", *events, "-g", "--kernel-callchains", "--", *load)


ROW = re.compile(r"^ {1,6}\d+\.\d\d%")


def trees(lines: list[str]) -> dict[str, list[object]]:
    """Each row of a report with its tree, siblings sorted: perf orders equals by address, we by name."""
    rows: dict[str, list[str]] = {}
    below: list[str] = []
    for line in lines:
        if ROW.match(line):
            below = rows.setdefault(" ".join(line.split()), [])
        elif line.strip() and not line.startswith("#"):
            below.append(line.rstrip())
    return {row: tree(drawn) for row, drawn in rows.items()}


def tree(lines: list[str]) -> list[object]:
    levels: list[tuple[float, list[object]]] = [(-1, [])]
    frames: list[str] = []
    for line in lines:
        body = line.lstrip(" |")
        column = len(line) - len(body)
        share = re.match(r"--(\d+\.\d+%)--(.*)", body)
        if share or body.startswith("---"):
            place = column if share else -0.5
            while levels[-1][0] >= place:
                levels.pop()
            frames = [share[2] if share else body[3:]]
            children: list[object] = []
            levels[-1][1].append((share[1] if share else "", frames, children))
            levels.append((place, children))
        elif body:
            frames.append(body)
    return ordered(levels[0][1])


def ordered(nodes: list[object]) -> list[object]:
    return sorted((share, tuple(frames), tuple(ordered(children))) for share, frames, children in nodes)  # type: ignore[misc]


@pytest.mark.parametrize("style", ["graph", "fractal"])
@pytest.mark.parametrize("order", ["callee", "caller"])
@pytest.mark.parametrize("percent", [0.5, 5])
def test_trees_are_those_of_perf_report(
    cpu: Path, style: calltree.Style, order: calltree.Order, percent: float
) -> None:
    shape = f"{style},{percent},{order},function,percent"
    argv = ["perf", "report", "-i", str(cpu), "--no-children", "--stdio", "-g", shape]
    perfs = trees(process.run(argv).check("perf report").stdout.splitlines())
    profile = perf.load(cpu, parity=True)
    [event] = recorded.sampled_events(profile)
    stacks = recorded.stacks(profile, event, profile.kallsyms(KALLSYMS))
    built = calltree.build(stacks, style=style, order=order, min_share=percent / 100)
    mine = trees(calltree_text.render(built).splitlines())
    assert mine
    assert mine == {row: perfs[row] for row in mine}
    assert not [row for row in perfs if float(row.split("%")[0]) > percent and row not in mine]


def test_the_command_draws_a_tree_and_the_answer_is_on_stdout(cpu: Path) -> None:
    done = numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS)).check("callgraph")
    assert re.search(r"^ +\d+\.\d\d%  python\S* +\[kernel.kallsyms\]  \[k\] \w+$", done.stdout, re.MULTILINE)
    assert done.stdout.startswith("# ")
    assert "samples of cpu-clock:k" in done.stdout.splitlines()[0]


def test_exports_hold_every_sample(cpu: Path, tmp_path: Path) -> None:
    samples = perf.load(cpu).stats.samples
    files = {name: tmp_path / name for name in ("folded", "speedscope", "csv", "svg")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS), *options).check("export")
    folded = files["folded"].read_text().splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in folded) == samples
    document = json.loads(files["speedscope"].read_text())
    assert sum(profile["endValue"] for profile in document["profiles"]) == samples
    assert len(files["csv"].read_text().splitlines()) > 10
    assert ET.parse(files["svg"]).getroot().tag.endswith("svg")  # noqa: S314  our own
    stdout = numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS), "--folded", "-").check("export").stdout
    assert stdout.splitlines() == folded


def test_a_filter_keeps_shares_of_everything(cpu: Path) -> None:
    lines = numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS), "--comm", "nothing").stdout.splitlines()
    assert lines[0].startswith("# 0 of ")


def test_the_lock_report_has_perfs_count_and_each_threads_total(locks: Path) -> None:
    done = process.run(["perf", "lock", "contention", "-t", "-i", str(locks)]).check("perf lock")
    rows = re.findall(r"^ +(\d+) +([\d.]+) (\w+) .* (\d+) +\S+$", done.stdout + done.stderr, re.MULTILINE)
    profile = perf.load(locks, rows=recorded.PAIRED)
    events = recorded.contention_events(profile)
    assert events is not None
    pairs = contention.pair(events)
    totals_ns = {tid: int(pairs.wait_ns[pairs.tid == tid].sum()) for tid in np.unique(pairs.tid).tolist()}
    units = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    assert len(rows) == len(totals_ns)
    for _, number, unit, tid in rows:
        # perf prints two digits of a unit, which it divides by in single precision.
        exact = np.float32(totals_ns[int(tid)]) / np.float32(units[unit])
        assert number == (f"{exact:.2f}" if unit != "ns" else str(totals_ns[int(tid)]))
    waits = sum(int(count) for count, *_ in rows)
    shown = numabench("locks", str(locks), "--kallsyms", str(KALLSYMS)).check("locks").stdout
    assert f"  {waits:,} waits, {sum(totals_ns.values()):,} ns in all" in shown
    assert "Spinning (CPU samples in the lock functions): not recorded" in shown


@pytest.mark.parametrize("command", ["callgraph", "locks"])
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "perf.data"), (b"#!/bin/sh\n" * 40, "perf.data"), (None, "no run")],
    ids=["empty", "a script", "missing"],
)
def test_what_is_no_recording_is_told_without_a_traceback(
    tmp_path: Path, command: str, content: bytes | None, words: str
) -> None:
    file = tmp_path / "perf.data"
    if content is not None:
        file.write_bytes(content)
    done = numabench(command, str(file))
    assert done.exit_status == 1
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--min", "101"), "no percentage"), (("--phase", "unmapping"), "there is no phase 'unmapping'")],
)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_is_read(
    options: tuple[str, ...], words: str
) -> None:
    done = numabench("callgraph", "/nonexistent/perf.data", *options)
    assert (done.exit_status, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.parametrize(
    "words",
    [("--folded=-", "--parity"), ("--folded", "-", "--event", "cpu-clock"), ("--results", "r", "--folded", "-")],
)
def test_folded_text_alone_is_what_it_is_beside_others(cpu: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    alone = numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS), *words).check("alone").stdout
    beside = tmp_path / "folded"
    rest = [word for word in words if word not in {"--folded", "--folded=-", "-"}]
    options = ("--folded", str(beside), "--csv", str(tmp_path / "csv"))
    numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS), *options, *rest).check("beside")
    assert alone == beside.read_text()


@pytest.mark.parametrize("words", [("--folded",), ("--folded", "-", "--nothing"), ("--folded=-", "a", "b")])
def test_words_that_mean_nothing_are_refused_however_they_are_read(cpu: Path, words: tuple[str, ...]) -> None:
    done = numabench("callgraph", str(cpu), *words)
    assert (done.exit_status, done.stdout) == (2, "")


def test_several_events_are_not_exported_as_one(locks: Path) -> None:
    done = numabench("callgraph", str(locks), "--folded", "-")
    assert (done.exit_status, done.stdout) == (2, "")
    assert "choose one with --event" in done.stderr
    one = numabench("callgraph", str(locks), "--folded", "-", "--event", "lock:contention_begin").check("export")
    assert one.stdout


def test_a_file_that_cannot_be_written_is_told(cpu: Path) -> None:
    done = numabench("callgraph", str(cpu), "--kallsyms", str(KALLSYMS), "--svg", "/nonexistent/a.svg")
    assert done.exit_status == 1
    assert "cannot write /nonexistent/a.svg" in done.stderr
