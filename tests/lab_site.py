"""A lab of any age for its pages, without measuring one: figures that step, drift and fail as real ones do."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np

from numabench.analysis.history.types import Change, Point, SeriesKey, SeriesVerdict
from numabench.report.nightly.morning import Changed, Graph, Morning, Mover, Shift, TonightsCell, Unjudged, Visible
from numabench.report.site.lab import CellHistory, FailureLog, Lab, NightSummary, Stay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.analysis.history.types import Direction

FIGURES = (("mb_per_s", "throughput", "MB/s", "higher"), ("seconds_per_gib", "time per GiB stored", "s", "lower"))
BOOTS = 3
HOSTILE = "<script>window.hacked=1</script>\u202e\"'&"


def dates(count: int) -> list[str]:
    first = datetime.date(2024, 11, 26)
    return [f"{first + datetime.timedelta(days=day)}" for day in range(count)]


def figure(cell: str, number: int, nights: Sequence[str], chance: np.random.Generator) -> SeriesVerdict:
    """A figure with 1 % of noise; the first of them has changed thrice, the last time three nights ago."""
    name, label, unit, better = (
        FIGURES[number] if number < len(FIGURES) else (f"n{number}", f"n {number}", "", "neither")
    )
    values = (1000 + 10 * number) * np.exp(chance.normal(0, 0.01, (len(nights), BOOTS)))
    changes: list[Change] = []
    if number == 0 and len(nights) > 30:
        begins: list[tuple[int, float, Direction, str]] = [
            (len(nights) // 3, 0.85, "worse", "the compiler, see <lab/42>"),
            (len(nights) // 2, 1.25, "better", ""),
            (len(nights) - 3, 0.8, "worse", ""),
        ]
        for begin, ratio, direction, known in begins:
            before = float(np.median(values[:begin][-20:]))
            values[begin:] *= ratio
            changes.append(
                Change(
                    *(nights[begin], before, before * ratio, ratio, ratio * 0.98, ratio * 1.02, 1e-6, 1e-4, direction),
                    is_new=begin > len(nights) - 8,
                    acknowledged=known,
                )
            )
    points = tuple(
        Point(night, float(np.median(boots)), tuple(map(float, boots)))
        for night, boots in zip(nights, values, strict=True)
    )
    key = SeriesKey(cell, f"default/{name}")
    return SeriesVerdict(
        key, label, unit, better, points, tuple(changes), float(np.median(values[-3:])), 0.01, 0.03, ()
    )


def lab(root: Path, *, nights: int, workloads: int, kernels: Sequence[str], figures: int, seed: int = 1) -> Lab:
    """So many nights of workloads x kernels; `root` has their runs where `make_runs` is called on it."""
    chance = np.random.default_rng(seed)
    names = dates(nights)
    histories = []
    for number in range(workloads):
        histories += [_history((root, chance), f"w{number}", kernel, names, figures) for kernel in kernels]
    histories.append(_hostile(root, names, figures, chance))
    worse = [
        Changed(
            history.cell.name,
            (Shift(one, one.changes[-1]),),
            history.graphs[0],
            ("numabench", "run", "numa02"),
        )
        for history in histories
        for one in history.figures[:1]
        if one.changes
    ]
    morning = Morning(
        lab="cellar",
        night=names[-1],
        nights=nights,
        figures=sum(len(history.figures) for history in histories),
        ending="done",
        cells=tuple(history.cell for history in histories),
        worse=tuple(worse),
        unjudged=(Unjudged("few-nights", 7, 2),),
        visible=(Visible("box", (("throughput", 0.021),)),),
    )
    summaries = tuple(NightSummary(name, f"{name}T22:00:00+00:00", "done") for name in names)
    return Lab(summaries, tuple(histories), morning)


def _history(
    of: tuple[Path, np.random.Generator], workload: str, kernel: str, names: Sequence[str], figures: int
) -> CellHistory:
    root, chance = of
    cell = f"{workload}.{kernel}.box.1a2b3c4d"
    stays = []
    for place, name in enumerate(names):
        failed = chance.random() < 0.02 or place == len(names) - 5
        runs = (
            ()
            if failed
            else tuple(
                (boot, root / name / cell / f"boot-{boot:02}" / f"{name}-b{boot:02}") for boot in range(1, BOOTS + 1)
            )
        )
        stays.append(Stay(name, "failed" if failed else "ok", "exited with 1" if failed else "", runs, "6.12.0"))
    movers = (Mover("rmap_walk_anon", 0.04, 0.38, (0.3, 0.36), True), Mover(HOSTILE, 0.2, 0.1))
    graph = Graph(names[-3], movers, ("move_pages", "migrate_pages", "rmap_walk_anon"), True, 9, 9)
    return CellHistory(
        TonightsCell(cell, workload, "box", kernel, (workload, "--nodes", "2"), "ok"),
        tuple(figure(cell, number, names, chance) for number in range(figures)),
        tuple(stays),
        (graph,),
        ("numabench", "run", workload),
        (FailureLog(names[-5], root / names[-5] / "b01.box.a1" / "log.txt", f"+ numabench run\n{HOSTILE}\nfailed"),),
    )


def _hostile(root: Path, names: Sequence[str], figures: int, chance: np.random.Generator) -> CellHistory:
    """A cell whose every text is what nobody should be able to have a page say."""
    cell = f"{HOSTILE}.v1.box"
    of_one = figure(cell, 2, names, chance)
    hostile = SeriesVerdict(
        SeriesKey(cell, f"{HOSTILE}/x"),
        HOSTILE,
        HOSTILE,
        "neither",
        of_one.points,
        (),
        of_one.level,
        None,
        None,
        (HOSTILE, "few-nights"),
    )
    stay = Stay(names[-1], "failed", HOSTILE, ((1, root / names[-1] / "a b#c?d%e" / "boot-01" / "run"),), HOSTILE)
    return CellHistory(
        TonightsCell(cell, HOSTILE, "box", "v1", (HOSTILE,), "failed", HOSTILE), (hostile,), (stay,), (), (HOSTILE,)
    )


def make_runs(lab: Lab) -> None:
    """The directories and logs that the pages lead to, and the comparisons that they show."""
    for history in lab.cells:
        for stay in history.stays:
            for _, path in stay.runs:
                path.mkdir(parents=True, exist_ok=True)
        for log in history.logs:
            log.file.parent.mkdir(parents=True, exist_ok=True)
            log.file.touch()


def links(page: Path) -> set[Path]:
    """The files and directories that a page leads to; it leads to nothing on a network."""
    found = set()
    for text in re.findall(r'(?:href|src)="([^"]*)"', page.read_text()):
        parts = urlsplit(text)
        assert parts.scheme in {"", "data"}, text
        assert not parts.netloc, text
        if not parts.scheme and parts.path:
            found.add((page.parent / unquote(parts.path)).resolve())
    return found
