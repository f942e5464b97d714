"""`numabench callgraph` and `locks` on recordings made here, against perf's own reports of the same files."""

from __future__ import annotations

import csv
import json
import lzma
import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from numabench import perf, process
from numabench.analysis import calltree, contention, recorded
from numabench.report import calltree_text

KALLSYMS = Path("/proc/kallsyms")
LOAD = "import os\nfor _ in range(40): b = bytearray(4 << 20); os.listdir('/proc'); os.stat('/')"
FIXTURES = Path(__file__).parent.parent / "fixtures/perf"
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
    load = file.with_name("contend")
    process.run(("cc", "-O2", "-pthread", "-o", str(load), str(FIXTURES / "contend.c"))).check("cc")
    return record(file, "-m", "512", *events, "-g", "--kernel-callchains", "--", str(load), "3000")


@pytest.fixture(scope="module")
def kept_locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of lock waits on another machine, its kernel's symbols beside it."""
    directory = tmp_path_factory.mktemp("locks")
    for name in ("lock.data", "kallsyms"):
        (directory / name).write_bytes(lzma.decompress((FIXTURES / "perf-7.2" / f"{name}.xz").read_bytes()))
    return directory / "lock.data"


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
    assert "# Rows: share by itself, command, binary, function; below each who called it" in done.stdout


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


def test_inclusive_columns_are_those_of_perf_report(cpu: Path) -> None:
    argv = ["perf", "report", "-i", str(cpu), "--children", "--stdio", "-g", "none", "--percent-limit", "0"]
    printed = process.run([*argv, "-s", "comm,sym", "-t", ";"]).check("perf report").stdout
    theirs = {
        (comm.strip(), symbol): (inclusive, own)
        for inclusive, own, comm, symbol in re.findall(
            r"^ *([\d.]+)% *; *([\d.]+)% *;([^;]*);\[k\] (\S+)", printed, re.MULTILINE
        )
    }
    options = ("--kallsyms", str(KALLSYMS), "--csv", "-", "--parity")
    lines = numabench("callgraph", str(cpu), *options).check("callgraph").stdout.splitlines()
    ours = {}
    for row in csv.DictReader(lines):
        percents = (f"{float(row[share]) * 100:.2f}" for share in ("inclusive_share", "self_share"))
        ours[row["comm"], row["symbol"]] = tuple(percents)
    assert len(ours) > 20
    assert ours.keys() == theirs.keys()
    # The CSV has six digits, perf rounds to two by itself.
    for key, shares in ours.items():
        assert [float(share) for share in shares] == pytest.approx([float(share) for share in theirs[key]], abs=0.011)


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
    assert waits > 10
    assert f"  {waits:,} waits, {sum(totals_ns.values()):,} ns in all" in shown
    assert "Spinning (CPU samples in the lock functions): not recorded" in shown


def folded_total(*arguments: str) -> int:
    text = numabench("callgraph", *arguments, "--folded", "-").check("callgraph").stdout
    return sum(int(line.rpartition(" ")[2]) for line in text.splitlines())


def test_threads_are_chosen_by_id_as_perf_script_counts_them(kept_locks: Path) -> None:
    event = ("--event", "lock:contention_begin")
    printed = lzma.decompress((FIXTURES / "perf-7.2/lock.script.xz").read_bytes()).decode()
    tids = [int(tid) for tid in re.findall(r"^ *\S+ +(\d+) +[\d.]+: lock:contention_begin:", printed, re.MULTILINE)]
    one, other = (tid for tid, _ in Counter(tids).most_common(2))
    assert folded_total(str(kept_locks), *event, "--tid", str(one)) == tids.count(one)
    both = ("--tid", str(one), "--tid", str(other))
    assert folded_total(str(kept_locks), *event, *both) == tids.count(one) + tids.count(other)
    assert folded_total(str(kept_locks), *event, *both, "--comm", "no such") == 0
    assert folded_total(str(kept_locks), *event) == len(tids)


def test_names_of_the_users_own_are_used_by_phases_and_locks(cpu: Path, kept_locks: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.toml"
    symbols = ("--kallsyms", str(KALLSYMS))
    # Under another name, the entry of every system call is that of a migration.
    names.write_text('[rename]\ndo_syscall_64 = "move_pages_and_store_status"\n')
    before, after = (
        numabench("callgraph", str(cpu), *symbols, *more).check("callgraph").stdout
        for more in ((), ("--names", str(names)))
    )
    assert "move_pages" not in before
    assert re.search(r"# Migration: .* for move_pages 100\.00%", after)
    assert "do_syscall_64" in after, "trees keep the raw names"
    assert folded_total(str(cpu), *symbols, "--phase", "entry", "--names", str(names)) > 0
    chosen = ("--symbol", "move_pages_and_store_status", "--names", str(names))
    assert folded_total(str(cpu), *symbols, *chosen) == folded_total(str(cpu), *symbols, "--symbol", "do_syscall_64")
    report = numabench("locks", str(kept_locks), "--names", str(names)).check("locks").stdout
    assert "By phase of migration" in report


@pytest.mark.parametrize("command", ["callgraph", "locks"])
def test_a_file_of_names_that_is_none_is_refused(locks: Path, tmp_path: Path, command: str) -> None:
    names = tmp_path / "names.toml"
    for text, words in (
        ("[rename", "is not TOML"),
        ("[renames]\na = 1", "not a table of renames"),
        (None, "cannot read"),
    ):
        names.unlink(missing_ok=True)
        if text is not None:
            names.write_text(text)
        done = numabench(command, str(locks), "--names", str(names))
        assert (done.exit_status, done.stdout) == (2, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr


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


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of another machine, a directory with all that is needed to read it."""
    directory = tmp_path_factory.mktemp("kept")
    for name in ("compressed.data", "kallsyms"):
        (directory / name).write_bytes(lzma.decompress((FIXTURES / "perf-7.2" / f"{name}.xz").read_bytes()))
    return directory / "compressed.data"


def test_symbols_of_another_kernel_are_told(kept: Path, tmp_path: Path) -> None:
    own, other = (tmp_path / name for name in ("own", "other"))
    symbols = kept.with_name("kallsyms").read_text()
    text = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" _text"))
    # perf 7.2 has mapped 0x255b900 bytes of Linux 7.2.13, up to _edata.
    own.write_text(f"{symbols}{text + 0x255B900:x} D _edata\n")
    other.write_text(f"{symbols}{text + 0x2000000:x} D _edata\n")
    told = [numabench("callgraph", str(kept), "--kallsyms", str(path)).check("callgraph") for path in (own, other)]
    assert told[0].stderr == ""
    assert "are of another kernel than the one recorded (7.2.13+deb14-amd64)" in told[1].stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0000000000000000 T _text\n0000000000000000 T schedule\n", "the kernel hid them"),
        (bytes(range(256)) * 9, "holds no kernel symbols"),
        (b"", "holds no kernel symbols"),
        (None, "No such file"),
    ],
    ids=["zeros", "rubbish", "empty", "missing"],
)
@pytest.mark.parametrize("command", ["callgraph", "locks"])
def test_a_file_of_symbols_that_cannot_be_used_is_told(
    kept: Path, tmp_path: Path, command: str, content: bytes | None, words: str
) -> None:
    file = tmp_path / "symbols"
    if content is not None:
        file.write_bytes(content)
    done = numabench(command, str(kept), "--kallsyms", str(file))
    assert (done.exit_status, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recording_that_is_cut_off_is_read_as_far_as_it_goes(kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    for length in (50, 200, len(whole) // 2):
        (tmp_path / "perf.data").write_bytes(whole[:length])
        for command in ("callgraph", "locks"):
            done = numabench(command, str(tmp_path / "perf.data"))
            assert done.exit_status in {0, 1}
            assert done.stderr.startswith("numabench: ")
            assert "Traceback" not in done.stderr


def test_a_directory_without_data_and_what_nobody_is_called_are_told(kept: Path, tmp_path: Path) -> None:
    done = numabench("callgraph", str(tmp_path))
    assert (done.exit_status, done.stdout) == (1, "")
    assert "is a directory without a file named data" in done.stderr
    done = numabench("callgraph", str(kept), "--tid", "4194305").check("callgraph")
    assert done.stdout.startswith("# 0 of 484 samples")
    assert "no sample of cpu-clock is of what was chosen" in done.stderr


def test_user_parts_that_are_left_out_are_told(kept: Path, tmp_path: Path) -> None:
    file = tmp_path / "perf.data"
    file.write_bytes(lzma.decompress((FIXTURES / "perf-7.2/deferred.data.xz").read_bytes()))
    done = numabench("callgraph", str(file), "--kallsyms", str(kept.with_name("kallsyms"))).check("callgraph")
    assert "223 chains have their user part in a record of its own" in done.stderr


def test_one_export_goes_to_stdout(kept: Path) -> None:
    done = numabench("callgraph", str(kept), "--csv", "-", "--svg", "-")
    assert (done.exit_status, done.stdout) == (2, "")
    assert "one export at a time" in done.stderr
