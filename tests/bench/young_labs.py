"""Labs of few nights whose truth is known: three kernels x four workloads, ten figures of each cell, two boots or more.

Figures are independent, which is harder than a real lab's, where several tell of one thing. A boot's value has a
standard deviation of 2 % times what is drawn for its cell, 0.5 to 2; beside it each cell's night has its own, by
`between` of that; and each figure's night one of 2 % that all cells have in common. The kinds of noise are those of
bench_verdicts.py, boot by boot; in `ar1` a cell's nights resemble each other by 0.5.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from numabench.analysis.history import night
from numabench.analysis.history.series import Series
from numabench.analysis.history.types import KernelId, Point, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.random import Generator
    from numpy.typing import NDArray

    from numabench.analysis.history.types import NightVerdict

    Values = NDArray[np.float64]

KERNELS, WORKLOADS, FIGURES = 3, 4, 10
CELLS = tuple(f"w{workload}.v{kernel}.box" for kernel, workload in itertools.product(range(KERNELS), range(WORKLOADS)))
# The first cell is of this kernel, and is what changes.
CHANGED_KERNEL = ".v0."
SD = 0.02
NAMES = tuple(f"2026-10-{1 + day:02}" for day in range(15))


@dataclass(frozen=True)
class Lab:
    """What a lab's values are drawn from."""

    kind: str
    boots: int
    nights: int
    between: float
    is_alike: bool = False

    def draw(self, draws: Generator) -> Values:
        """Logarithms by cell, figure, night and boot."""
        shape = (len(CELLS), FIGURES, self.nights, self.boots)
        width = (
            np.ones((len(CELLS), 1, 1, 1)) if self.is_alike else np.exp(draws.uniform(-0.7, 0.7, shape[:1] + (1,) * 3))
        )
        own = draws.normal(0, SD, shape) * width
        if self.kind == "outliers":
            own += 0.1 * (draws.random(shape) < 0.05)
        elif self.kind == "bimodal":
            own = own / 2 + 0.0346 * width * (draws.random(shape) < 0.5)
        elif self.kind == "rare mode":
            own = own / 2 + 0.0433 * width * (draws.random(shape) < 0.2)
        nights = draws.normal(0, 1, (*shape[:3], 1))
        if self.kind == "ar1 0.5":
            for place in range(1, self.nights):
                nights[:, :, place] = 0.5 * nights[:, :, place - 1] + math.sqrt(0.75) * nights[:, :, place]
        common = draws.normal(0, SD, (1, FIGURES, self.nights, 1))
        figures = np.exp(draws.uniform(-0.7, 0.7, (1, FIGURES, 1, 1)))
        return own + nights * SD * self.between * width * figures + common

    def judge(self, values: Values, *, is_known: bool) -> NightVerdict:
        """The verdict of the last night; `is_known` says that the first kernel is told to be another then."""
        names = NAMES[: values.shape[2]]
        figures = [
            Series(
                SeriesKey(cell, f"default/{number}"),
                "",
                "s",
                "lower",
                tuple(
                    Point(name, float(np.median(boots)), tuple(boots))
                    for name, boots in zip(names, by_night, strict=True)
                ),
                machine="box",
            )
            for cell, by_figure in zip(CELLS, np.exp(values).tolist(), strict=True)
            for number, by_night in enumerate(by_figure)
        ]
        return night.judge(figures, names, {}, kernel_of=_changed(names[-1]) if is_known else night.unknown)


def _changed(last: str) -> Callable[[str, str], KernelId]:
    def kernel_of(name: str, cell: str) -> KernelId:
        return KernelId("6.12", "b" if name == last and CHANGED_KERNEL in cell else "a", ())

    return kernel_of


def false_alarms(lab: Lab, count: int, seed: int) -> tuple[int, int]:
    """Of so many labs in which nothing changes: in how many a change is told in some night, and how many series."""
    draws = np.random.default_rng([seed, *repr(lab).encode()])
    labs = series = 0
    for _ in range(count):
        values = lab.draw(draws)
        told = set()
        for nights in range(2, lab.nights + 1):
            verdict = lab.judge(values[:, :, :nights], is_known=False)
            told |= {one.key for one in verdict.series if any(change.is_new for change in one.changes)}
        labs += bool(told)
        series += len(told)
    return labs, series


def found(lab: Lab, count: int, seed: int, step: float, cells: int = 1) -> float:
    """The share of labs where the first cell's figures are told to have become worse when they did by `step`.

    `cells` of the first kernel's cells did, each in one figure of ten.
    """
    draws = np.random.default_rng([seed, *repr((lab, step)).encode()])
    hits = 0
    for _ in range(count):
        values = lab.draw(draws)
        values[:cells, 0, -1] += math.log1p(step)
        hits += SeriesKey(CELLS[0], "default/0") in lab.judge(values, is_known=True).regressions
    return hits / count


STEPS = (0.05, 0.1, 0.2, 0.4, 0.8)


def row(lab: Lab, count: int, seed: int) -> str:
    """What becomes of labs with nothing changed, and of labs where one cell's figure became worse by each step."""
    labs, _ = false_alarms(lab, count, seed)
    shares = "".join(f" {found(lab, max(count // 5, 1), seed, step):6.0%}" for step in STEPS)
    width = "all alike" if lab.is_alike else "0.5 to 2"
    return f"{lab.kind:<10} {lab.boots:>5} {lab.between:>7} {width:>9}  {labs:>3} of {count}  {shares}"


# How likely a boot has a figure that is 0 without it.
CHANCES = (0.01, 0.03, 0.07, 0.15, 0.3, 0.5)


def appearing(draws: Generator, chances: Values) -> NightVerdict:
    """The verdict of a second night, whose first kernel is another, of a figure that boots have by chance."""
    values = 100.0 * (draws.random((len(CELLS), 2, 3)) < chances)
    figures = [
        Series(
            SeriesKey(cell, "default/waits"),
            "",
            "count",
            "lower",
            tuple(
                Point(name, float(np.median(boots)), tuple(boots)) for name, boots in zip(NAMES, by_night, strict=False)
            ),
            machine="box",
        )
        for cell, by_night in zip(CELLS, values.tolist(), strict=True)
    ]
    return night.judge(figures, NAMES[:2], {}, kernel_of=_changed(NAMES[1]))


def appearances(count: int, seed: int) -> Iterator[str]:
    """How often a figure that boots have by chance is told to have appeared with the kernel."""
    for what, has in (
        ("in every cell alike", np.ones((len(CELLS), 1, 1))),
        ("in one cell alone", np.zeros((len(CELLS), 1, 1))),
    ):
        has[0] = 1.0
        for chance in CHANCES:
            draws = np.random.default_rng([seed, round(chance * 100), int(has.sum())])
            told = sum(bool(appearing(draws, chance * has).regressions) for _ in range(count))
            yield f"in {chance:.0%} of boots, {what}: told in {told} of {count} pairs of nights"
    draws = np.random.default_rng([seed, 1])
    for cells in (1, 2, 4):
        sure = np.zeros((len(CELLS), 2, 1))
        sure[:cells, 1] = 1.0
        told = sum(bool(appearing(draws, sure).regressions) for _ in range(20))
        yield f"in every boot of {cells} cells of the kernel that is another: told in {told} of 20"


def table(count: int, seed: int) -> Iterator[str]:
    """The lines of a table of labs of two nights, and one of labs of fifteen, night after night."""
    yield f"{'noise':<10} {'boots':>5} {'between':>7} {'cells':>9}  {'false':>10}  " + "".join(
        f" {step:6.0%}" for step in STEPS
    )
    for kind, between, is_alike in (
        ("normal", 0.0, True),
        ("normal", 0.0, False),
        ("normal", 1.0, False),
        ("outliers", 0.5, False),
        ("bimodal", 0.5, False),
        ("rare mode", 0.5, False),
    ):
        for boots in (2, 3, 5):
            yield row(Lab(kind, boots, 2, between, is_alike), count, seed)
    for kind in ("normal", "outliers", "bimodal", "ar1 0.5"):
        few = max(count // 20, 1)
        labs, series = false_alarms(Lab(kind, 3, len(NAMES), 0.5), few, seed)
        yield (
            f"{kind}, 3 boots, night after night up to the {len(NAMES)}th: {labs} of {few} labs alarm, "
            f"{series / few / len(CELLS) / FIGURES:.2%} of their series"
        )
