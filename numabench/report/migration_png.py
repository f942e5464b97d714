"""Where each second of migration goes, as one picture: a stacked bar a run, by seconds per GiB and by share."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis import phases, run_settings
from numabench.analysis.migration_time import BETWEEN, CPU, NOT_SPLIT, OFF, QUERIES
from numabench.analysis.missing import Missing
from numabench.analysis.thread_time import OTHER, PREEMPTED
from numabench.errors import ResultError
from numabench.report import png_file
from numabench.report.axes import safe
from numabench.report.migration_text import PHASE_ORDER, comparability, guests_note, letters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numabench.analysis.migration_time import MigrationTime, Part

FILE_NAME = "migration-time.png"
_WIDTH_INCHES, _PANEL_INCHES = 15.0, 6.0
_HEAD_INCHES, _ROW_INCHES = 3.0, 0.62
_DPI = 110
_FONT_POINTS = 7.5
_NOTE_CHARS = 100
_LABEL_CHARS, _LABEL_LINES = 36, 3
# A character of a label in a segment takes so much.
_CHAR_INCHES, _MARGIN_INCHES = 0.062, 0.06
# Chosen so that no two are alike to the colour-blind; waiting is hatched, and what is not migration is white.
COLOURS = {
    phases.ENTRY: "#000041",
    "isolate": "#56b4e9",
    "prepare": "#332288",
    "allocate": "#f0e442",
    phases.UNMAP: "#e2501b",
    "tlb flush": "#19af51",
    "copy": "#0072b2",
    "move": "#2d5968",
    phases.REMAP: "#0b5d2a",
    "put back": "#e69f00",
    phases.WAIT_ENTRY: "#7e0300",
    phases.RECEIVED: "#d2e5ff",
    "scan": "#737964",
    phases.UNPLACED: "#000000",
    OTHER: "#ffd9ca",
    NOT_SPLIT: "#b1b1b1",
}
_SPINNING = "at a lock"
_WHITE, _PALE = "#ffffff", "#e4e4e4"


@dataclass(frozen=True)
class Kind:
    """What a segment of a bar stands for, and how it looks; `short` is its name inside of the bar."""

    name: str
    short: str
    colour: str
    hatch: str = ""


_FOR_LOCKS = Kind("off the CPU: for a lock", "lock", _PALE, "xxx")
_PREPARING = Kind("off the CPU: asleep in prepare", "asleep: prepare", _PALE, "...")
_ASLEEP = Kind("off the CPU: asleep elsewhere", "asleep", _PALE, "\\\\\\")
_PREEMPTED = Kind("off the CPU: preempted", "preempted", _PALE, "---")
_OFF = Kind("off the CPU: not split", "off the CPU", _PALE)
_QUERIES = Kind("queries where pages are", "queries", _WHITE, "ooo")
_BETWEEN = Kind("between calls", "between calls", _WHITE)
KINDS = (
    *(
        kind
        for phase in PHASE_ORDER
        for kind in (
            Kind("on the CPU: not split" if phase == NOT_SPLIT else phase, phase, COLOURS[phase]),
            Kind(f"{phase}, {_SPINNING}", f"{phase}: lock", COLOURS[phase], "///"),
        )
    ),
    *(_FOR_LOCKS, _PREPARING, _ASLEEP, _PREEMPTED, _OFF, _QUERIES, _BETWEEN),
)


def kind_of(part: Part) -> Kind:
    """What a part of the time is drawn as."""
    if part.where == QUERIES:
        return _QUERIES
    if part.where == BETWEEN:
        return _BETWEEN
    if part.where == CPU:
        return KINDS[2 * PHASE_ORDER.index(part.phase) + bool(part.lock)]
    assert part.where == OFF
    if part.lock:
        return _FOR_LOCKS
    return {"prepare": _PREPARING, PREEMPTED: _PREEMPTED, NOT_SPLIT: _OFF}.get(part.phase, _ASLEEP)


def shares(one: MigrationTime) -> dict[Kind, float]:
    """The share of each kind in the whole, in the order in which they are stacked; they add up to 1."""
    found = dict.fromkeys(KINDS, 0.0)
    for part in one.parts:
        found[kind_of(part)] += part.share
    return {kind: share for kind, share in found.items() if share}


def draw(times: Sequence[MigrationTime], directory: Path) -> Path:
    """Draw the picture into a directory, made if need be, and return its path. Raises `ResultError`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size_inches = (_WIDTH_INCHES, _HEAD_INCHES + _ROW_INCHES * len(times))
    figure = Figure(figsize=size_inches, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    _paint(figure, times)
    path = directory / FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        png_file.save(figure, path)
    except OSError as error:
        raise ResultError(
            f"cannot write pictures to {directory}: {error.strerror}", "choose another directory"
        ) from None
    return path


def _paint(figure: Figure, times: Sequence[MigrationTime]) -> None:
    figure.suptitle("Where each second of migration goes", fontsize=12)
    seconds, percent = figure.subplots(1, 2, sharey=True)
    stacked = [shares(one) for one in times]
    rates = [0.0 if isinstance(one.total_per_gib_s, Missing) else one.total_per_gib_s for one in times]
    longest = max(rates) or 1.0
    for row, (one, found) in enumerate(zip(times, stacked, strict=True)):
        _bar(seconds, row, {kind: share * rates[row] for kind, share in found.items()}, longest * 1.12, "")
        _bar(percent, row, {kind: 100 * share for kind, share in found.items()}, 100, " %")
        _end_of_bar(seconds, row, one)
    seconds.set_xlim(0, longest * 1.12)
    seconds.set_xlabel("seconds of all threads that migrate, per GiB migrated")
    percent.set_xlim(0, 100)
    percent.set_xlabel("% of that time")
    seconds.set_yticks(range(len(times)), _labels(times), fontsize=8)
    seconds.set_ylim(len(times) - 0.5, -0.5)
    for axes in (seconds, percent):
        axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _legend(figure, [kind for kind in KINDS if any(kind in found for found in stacked)])
    for axes, note in ((seconds, guests_note(times)), (percent, comparability(times))):
        axes.set_title(_wrapped(note), fontsize=8, color="#a00000", loc="left")


def _wrapped(text: str) -> str:
    """A note in lines that fit above a panel."""
    return "\n".join(textwrap.wrap(text, _NOTE_CHARS)).replace("$", r"\$")


def _bar(axes: Axes, row: int, sizes: dict[Kind, float], full: float, unit: str) -> None:
    left = 0.0
    for kind, size in sizes.items():
        axes.barh(
            row,
            size,
            left=left,
            height=0.66,
            color=kind.colour,
            hatch=kind.hatch,
            edgecolor=_edge(kind),
            linewidth=0.5,
        )
        label = _fitting(kind, size, full, unit)
        if label:
            _write(axes, left + size / 2, row, label, kind)
        left += size


def _edge(kind: Kind) -> str:
    """The colour of lines and hatches: white on a phase's colour, unless that is light itself."""
    return "#555555" if _is_light(kind.colour) else _WHITE


def _is_light(colour: str) -> bool:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue > 150


def _fitting(kind: Kind, size: float, full: float, unit: str) -> str:
    """The longest label that fits into a segment, empty where none does."""
    inches = size / full * _PANEL_INCHES
    amount = f"{size:.0f}{unit}"
    labels = (f"{kind.short} {amount}", kind.short, amount) if unit else (kind.short,)
    return next((label for label in labels if _CHAR_INCHES * len(label) + _MARGIN_INCHES <= inches), "")


def _write(axes: Axes, x: float, row: int, label: str, kind: Kind) -> None:
    """A label in a segment, on a ground of its own where the segment is hatched."""
    axes.text(
        x,
        row,
        label,
        ha="center",
        va="center",
        fontsize=_FONT_POINTS,
        color="black" if _is_light(kind.colour) else _WHITE,
        bbox={"facecolor": kind.colour, "edgecolor": "none", "pad": 1.0} if kind.hatch else None,
    )


def _end_of_bar(axes: Axes, row: int, one: MigrationTime) -> None:
    rate = one.total_per_gib_s
    text = rate.reason if isinstance(rate, Missing) else f"{rate:.3g} s"
    axes.annotate(
        text,
        (0.0 if isinstance(rate, Missing) else rate, row),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _labels(times: Sequence[MigrationTime]) -> list[str]:
    """The letter and the driver of each, and below them the settings that not all have alike."""
    all_settings = [run_settings.settings(one.run, one.placement) for one in times]
    names = run_settings.differing(all_settings)
    labels = []
    for letter, one, settings in zip(letters(times), times, all_settings, strict=True):
        told = ", ".join(f"{name} {settings[name]}" for name in names if name in settings)
        lines = textwrap.wrap(told, _LABEL_CHARS, max_lines=_LABEL_LINES, placeholder=" ...")
        labels.append("\n".join((f"{letter}  {safe(one.run.planned.driver)}", *(safe(line) for line in lines))))
    return labels


def _legend(figure: Figure, kinds: Sequence[Kind]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=kind.colour, hatch=kind.hatch, edgecolor=_edge(kind), linewidth=0.5, label=kind.name)
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False, handlelength=2.4)
