"""A sweep as CSV: a line a unit, with its axes' values and what it measured."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from numabench.analysis.latency import known_percentile
from numabench.analysis.missing import Missing
from numabench.analysis.moves import Moves
from numabench.analysis.sweep import figures

if TYPE_CHECKING:
    from numabench.analysis.sweep import UnitFigures
    from numabench.record import Latency, Sweep, SweepUnit

_HEAD = ("unit", "repeat", "status", "run")
_PERCENTILES = ((0.5, "p50"), (0.99, "p99"), (0.999, "p999"))
_TIMES = tuple(
    f"{what}_{name}_ns" for what in ("call", "stall") for name in (*(name for _, name in _PERCENTILES), "max")
)
_COUNTS = ("requested", "confirmed", "already", "retried", "left")
_FIGURES = ("mb_per_s", "pages_per_s", *_TIMES, "calls", *(f"{name}_pages" for name in _COUNTS))


def render(sweep: Sweep) -> str:
    """The lines, in the order of the units; a figure that is not known is empty.

    `status` is the trial's where there is one (`ok`, `workload-failed`, `timeout`), else the unit's; pages are base
    pages, `run` the run's directory.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*_HEAD, *(axis.name for axis in sweep.axes), *_FIGURES))
    for unit in sweep.units:
        status = unit.status if unit.trial is None else unit.trial.status
        run = "" if unit.run is None else str(unit.run.path)
        values = sweep.cells[unit.cell].values
        writer.writerow((unit.index, unit.repeat, status, run, *values, *_figures(unit)))
    return text.getvalue()


def _figures(unit: SweepUnit) -> tuple[object, ...]:
    found = figures(unit)
    if found is None:
        return ("",) * len(_FIGURES)
    rates = ("" if isinstance(rate, Missing) else repr(rate) for rate in (found.mb_per_s, found.pages_per_s))
    return (*rates, *_times(found.call), *_times(found.stall), *_counts(found))


def _times(latency: Latency | Missing) -> tuple[object, ...]:
    if isinstance(latency, Missing):
        return ("",) * (len(_PERCENTILES) + 1)
    known = (known_percentile(latency, share) for share, _ in _PERCENTILES)
    return (*("" if isinstance(each, Missing) else round(each) for each in known), latency.max_ns)


def _counts(found: UnitFigures) -> tuple[object, ...]:
    if not isinstance(found.moves, Moves):
        return ("",) * (len(_COUNTS) + 1)
    return (found.moves.calls, *(getattr(found.moves, name).pages for name in _COUNTS))
