"""How figures, changes and notes of a history are put into words, alike in every form of the morning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.report.html.element import MINUS
from numabench.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.analysis.history.types import Change
    from numabench.report.nightly.morning import Changed, Morning, Mover, Shift

# From so many times on a ratio reads better than a percentage.
_TIMES = 3.0
# What people ask for first. Behind the placement a figure's name begins with one of these; all others come after.
_MAIN = (
    *("mb_per_s", "seconds_per_gib", "time_to.pages_local_90", "time_to.threads_settled", "call_ns.p50", "call_ns.p99"),
    *("access_ns.p99", "lock_wait_ns", "lock_waits", "failures", "pages_left", "kernel.", "cost."),
)
BY_BOOTS = "two-nights"
_NOTES = {
    "few-nights": "too few nights to judge",
    BY_BOOTS: "few nights: judged by its boots, beside the other cells of the same nights",
    "bimodal": "values fall into two groups: the noise is as large as they are apart",
    "autocorrelated": "nights resemble their neighbours: look twice",
    "one-boot": "one boot a night: what the boot did and what the night did cannot be told apart",
}


def rank(metric: str) -> tuple[int, str]:
    """What sorts a cell's figures, the main ones first; `metric` is `placement/name`."""
    name = metric.rpartition("/")[2]
    return next((place for place, main in enumerate(_MAIN) if name.startswith(main)), len(_MAIN)), metric


def is_main(metric: str) -> bool:
    """Whether a figure is one of those that people ask for first."""
    return rank(metric)[0] <= _MAIN.index("failures")


def amount(value: float, unit: str) -> str:
    """A figure with its unit."""
    scale = {"s": 1.0, "ns": 1e-9}.get(unit)
    if scale is not None:
        return format_seconds(value * scale)
    if unit in {"B", "bytes"}:
        return format_bytes(value)
    if unit == "share":
        return f"{value * 100:.1f} %"
    text = format_count(value) if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def label(text: str, metric: str) -> str:
    """A figure's name, with its placement where that is not the default."""
    placement = metric.rpartition("/")[0]
    return text if placement in {"", "default"} else f"{text}, {placement}"


def relative(ratio: float) -> str:
    """A ratio as a percentage more or less, or as so many times."""
    if ratio >= _TIMES or ratio <= 1 / _TIMES:
        return f"{ratio:.3g} times"
    return f"{(ratio - 1) * 100:+.1f} %".replace("-", MINUS)


def size(change: Change) -> str:
    """How large a change is, with its 95 % interval; empty where there is no ratio."""
    if change.ratio is None:
        return ""
    if change.ratio_low is None or change.ratio_high is None:
        return relative(change.ratio)
    low, high = relative(change.ratio_low), relative(change.ratio_high)
    return f"{relative(change.ratio)} ({low.removesuffix(' %')} to {high})"


def size_and_night(change: Change) -> str:
    """How large a change is, where that can be said, and since which night it is."""
    return ", ".join(filter(None, (size(change), f"since {change.night}")))


def levels(change: Change, unit: str) -> str:
    """From where to where."""
    return f"{amount(change.before, unit)} -> {amount(change.after, unit)}"


def moved(mover: Mover) -> str:
    """A function's share before and after, and the difference in points."""
    difference = f"{(mover.after - mover.before) * 100:+.1f}".replace("-", MINUS)
    return f"{mover.before * 100:.1f} % -> {mover.after * 100:.1f} %, {difference}"


def note(name: str) -> str:
    """What a note of a series means."""
    return _NOTES.get(name, name)


def doubts(shift: Shift) -> list[str]:
    """What must be known to believe a change: how it was found, where not by its nights, and what made that harder."""
    by_boots = [BY_BOOTS] if shift.change.judged_by == "boots" else []
    return [note(name) for name in dict.fromkeys((*by_boots, *shift.figure.notes))]


def kernel(changed: Changed) -> str:
    """What of the kernel is another since a cell changed; empty where nothing is, or it is not known."""
    return next((shift.change.kernel for shift in changed.shifts if shift.change.kernel), "")


def count(number: int, what: str) -> str:
    """A number and what it is of."""
    return f"{format_count(number)} {what}{'' if number == 1 else 's'}"


def one_or_all(names: Sequence[str]) -> str:
    """A few names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def verdict(morning: Morning) -> str:
    """The night in one sentence."""
    parts = [
        f"{_figures(changed, direction)} {words}"
        for changed, direction, words in (
            (morning.worse, "", "got worse"),
            (morning.other, "better", "got better"),
            (morning.other, "changed", "changed"),
            (morning.known, "", "changed as is known"),
        )
        if any(_shifts(one, direction) for one in changed)
    ]
    if not parts:
        parts = ["nothing changed" if morning.figures else "nothing was measured"]
    if morning.not_ok:
        parts.append(f"{len(morning.not_ok)} of {count(len(morning.cells), 'cell')} did not end well")
    return "; ".join(parts)


def _figures(changed: Sequence[Changed], direction: str) -> str:
    numbers = [number for one in changed if (number := _shifts(one, direction))]
    return f"{count(sum(numbers), 'figure')} of {count(len(numbers), 'cell')}"


def _shifts(changed: Changed, direction: str) -> int:
    return sum(direction in {"", shift.change.direction} for shift in changed.shifts)
