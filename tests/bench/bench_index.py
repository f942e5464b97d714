"""What a lab's index takes: 100,000 runs of 40 figures put in, one series taken out, and kill -9 at random moments.

Run it as `python tests/bench/bench_index.py`. What is put in are rows that are there in memory, one transaction a night
on a real file system; what reading the runs from their directories takes comes on top and is told apart, by a thousand
real ones.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lab_nights

from numabench.cli.index import measured
from numabench.store import index, index_tables
from numabench.store.index import CellRow, Measured, MetricRow
from numabench.store.index_tables import BootRow

NIGHTS, CELLS, BOOTS, METRICS = 400, 50, 5, 40
FIGURES = tuple(MetricRow(f"default/{n}", f"figure {n}", "MB/s", "higher", True, 0.0, 0.0) for n in range(METRICS))
ROWS = tuple(CellRow(f"cell-{number:02}.v6.box", "all", "box", "v6", ("numa02",)) for number in range(CELLS))


def invented(name: str, draws: np.random.Generator) -> Measured:
    """A run whose figures are drawn."""
    values = draws.normal(100, 2, METRICS).tolist()
    return Measured(
        name, "", "", "6.12", "numa02", tuple((row, (value,)) for row, value in zip(FIGURES, values, strict=True))
    )


def ingest(lab: Path, nights: int) -> None:
    draws = np.random.default_rng(1)
    (lab / "nights").mkdir()
    connection = index_tables.connect(lab / index.INDEX_FILE)
    index_tables.make(connection)
    names = lab_nights.dates(nights)
    wall = cpu = 0.0
    for name in names:
        rows = [
            BootRow(
                row.name, boot, 1, ((f"nights/{name}/{row.name}/{boot}", invented(f"{name}-{row.name}-{boot}", draws)),)
            )
            for row in ROWS
            for boot in range(1, BOOTS + 1)
        ]
        began, cpu_began = time.perf_counter(), time.process_time()
        connection.execute("BEGIN IMMEDIATE")
        writer = index_tables.NightWriter(connection)
        writer.boots(writer.night(name, "", ROWS), rows)
        connection.execute("COMMIT")
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - cpu_began
    connection.close()
    size = (lab / index.INDEX_FILE).stat().st_size
    runs = nights * CELLS * BOOTS
    print(f"{runs:,} runs, {runs * METRICS:,} values put in: {wall:.1f} s, {cpu:.1f} CPU s, {size / 1e6:.0f} MB")


def take_out(lab: Path) -> None:
    with index.open_index(lab) as opened:
        took, cpu = [], []
        for number in range(25):
            began, cpu_began = time.perf_counter(), time.process_time()
            series = opened.series(f"cell-{number:02}.v6.box", f"default/{number}")
            took.append(time.perf_counter() - began)
            cpu.append(time.process_time() - cpu_began)
        began = time.process_time()
        for cell in ROWS[:5]:
            assert sum(1 for _ in opened.every_series(cell.name)) == METRICS
        every_s = (time.process_time() - began) / 5
    print(
        f"one series of {len(series)} nights: median {statistics.median(took) * 1e3:.1f} ms, "
        f"{statistics.median(cpu) * 1e3:.1f} CPU ms; all {METRICS} of a cell: {every_s * 1e3:.0f} CPU ms"
    )


def from_directories(lab: Path, runs: int) -> None:
    lab_nights.write_lab(lab, [[10.0] * 20 for _ in range(runs // 20)])
    began, cpu_began = time.perf_counter(), time.process_time()
    counts = index.update(lab, measured)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    print(
        f"{counts.runs} real run directories read and put in: {wall:.1f} s, {cpu / counts.runs * 1e3:.1f} CPU ms each; "
        f"100,000 would take {cpu / counts.runs * 1e5 / 60:.0f} minutes of CPU, once"
    )


def made_up(path: Path) -> Measured:
    """A run's figures by its name, so that they are the same whenever it is read."""
    return invented(path.name, np.random.default_rng(list(path.name.encode())))


def write_bare_lab(lab: Path, nights: int) -> dict[str, int]:
    """A lab of directories that only look like runs; how many boots each night has."""
    boots = {}
    for number, name in enumerate(lab_nights.dates(nights)):
        night = lab_nights.write_night(lab, name, [row.name for row in ROWS[:10]])
        boots[name] = 10 * (1 + number % 3)
        for row in ROWS[:10]:
            for boot in range(1, 2 + number % 3):
                path = night / "cells" / row.name / f"boot-{boot:02}"
                (path / "runs" / f"{name}-{row.name}-{boot}").mkdir(parents=True)
                (path / "cell.json").write_text('{"attempt": 1}')
    return boots


def update_killed(lab: Path, after_s: float) -> bool:
    """Whether an update in a process of its own was killed before its end, so many seconds after its begin."""
    child = os.fork()
    if not child:
        try:
            index.update(lab, made_up)
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def contents(lab: Path) -> list[object]:
    with index.open_index(lab) as opened:
        return [opened.nights(), *(sorted(opened.values(night)) for night in opened.nights())]


def kills(lab: Path, times: int) -> None:
    boots = write_bare_lab(lab, 60)
    began = time.perf_counter()
    index.update(lab, made_up)
    whole_s = time.perf_counter() - began
    wanted = contents(lab)
    draws = np.random.default_rng(5)
    (lab / index.INDEX_FILE).unlink()
    killed = ended = partial = 0
    while killed < times:
        if update_killed(lab, draws.uniform(0, whole_s / 8)):
            killed += 1
        else:
            ended += 1
            assert contents(lab) == wanted
            (lab / index.INDEX_FILE).unlink()
            continue
        if not (lab / index.INDEX_FILE).exists():
            continue
        with sqlite3.connect(lab / index.INDEX_FILE) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if connection.execute("PRAGMA user_version").fetchone() != (index_tables.VERSION,):
                continue
            query = "SELECT name, count(*) FROM boots JOIN nights ON nights.id = night GROUP BY night"
            have = dict(connection.execute(query))
        assert all(boots[name] == count for name, count in have.items()), "a night is there in part"
        partial += 0 < len(have) < len(boots)
    index.update(lab, made_up)
    assert contents(lab) == wanted
    print(
        f"{killed} kills -9 at random moments of updates, {partial} of them with some nights in and some not: every "
        f"night whole or absent, and after the next update all as without; {ended} updates ended before"
    )


def main() -> None:
    """Measure all of it and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--real-runs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    asked = parser.parse_args()
    print("$ python", *sys.argv)
    with tempfile.TemporaryDirectory() as directory:
        labs = [Path(directory, name) for name in ("many", "real", "killed")]
        for lab in labs:
            lab.mkdir()
        ingest(labs[0], asked.nights)
        take_out(labs[0])
        from_directories(labs[1], asked.real_runs)
        kills(labs[2], asked.kills)


if __name__ == "__main__":
    main()
