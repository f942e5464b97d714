"""What is known of a figure over nights. `verdict.json` is `NightVerdict` as plain data, without points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "neither"]
Direction = Literal["worse", "better", "changed"]
# What became of a cell: its state and the reason.
Outcome = tuple[str, str]


# How a change was found: by the nights before and after, or by boots and by the other cells of the same nights.
JudgedBy = Literal["nights", "boots"]


@dataclass(frozen=True)
class KernelId:
    """What kernel a cell ran: its release, its build id where that is known, and the parameters it was asked with."""

    release: str
    build_id: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, order=True)
class SeriesKey:
    """A cell's figure; `metric` is `placement/name`, the name being that of `comparison.metrics`."""

    cell: str
    metric: str


@dataclass(frozen=True)
class Point:
    """A figure in one night: `boots` are the medians of each boot's values, `value` is the median of these."""

    night: str
    value: float
    boots: tuple[float, ...]


@dataclass(frozen=True)
class Change:
    """A new level. `night` is its first night, `before` and `after` are the levels, in the figure's unit.

    `ratio` is after by before, `ratio_low` to `ratio_high` its 95 % interval; all three None where a value is not
    above 0. `p` is of the test of this change, `q` after Benjamini and Hochberg over the night's series. `is_new` says
    that it began within the last nights, so that it alarms unless `acknowledged` holds the reason why it is known.
    `judged_by` says how it was found: in a lab of few nights by its boots, less what all cells of the machine moved by,
    so that `ratio` may differ from after by before. `kernel` says what of the kernel is another than in the night
    before; empty where nothing is, or it is not known.
    """

    night: str
    before: float
    after: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    p: float
    q: float
    direction: Direction
    is_new: bool
    acknowledged: str = ""
    judged_by: JudgedBy = "nights"
    kernel: str = ""


@dataclass(frozen=True)
class SeriesVerdict:
    """A figure's history up to one night, and where its level changed, oldest first.

    `level` is that of tonight. `noise` is the standard deviation between nights of one level, and `smallest_visible`
    the smallest change that would be found by its fourth night in 80 of 100 cases, or in its first where the series has
    two nights or a few more. Both are relative to the level (in the figure's unit where values are not above 0), and
    None where there are too few nights to tell. `notes` say what made it harder to judge: `few-nights`, `two-nights`
    (or a few more), `bimodal`, `autocorrelated`, `one-boot`.
    """

    key: SeriesKey
    label: str
    unit: str
    better: Better
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    level: float
    noise: float | None
    smallest_visible: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NightVerdict:
    """All figures of a night, what became of its cells, and the figures that are new, worse and not acknowledged."""

    night: str
    series: tuple[SeriesVerdict, ...]
    cells: dict[str, Outcome]
    regressions: tuple[SeriesKey, ...]
