"""verdict.json: what changed in a night, derived from the index and made anew at will."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from numabench.analysis.history import night as of_night
from numabench.analysis.history.series import Series
from numabench.analysis.history.types import Change, NightVerdict, Point, SeriesKey, SeriesVerdict
from numabench.errors import ResultError, UsageError
from numabench.fields import Fields, parse
from numabench.fleet import acknowledged, ledger, night_file
from numabench.fleet.kernel_ids import KernelIds
from numabench.store.files import NIGHTS
from numabench.store.index import open_index, update
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numabench.analysis.history.types import Better, Direction, JudgedBy, Outcome
    from numabench.fleet.night_file import Night
    from numabench.store.index import CellRow, Index, Measured, MetricRow

VERDICT_FILE = "verdict.json"
# 1: the first.
SCHEMA_VERSION = 1
# A comparison of call graphs takes the runs of so many nights on either side.
NIGHTS_AROUND = 3


@dataclass(frozen=True)
class Around:
    """The runs on both sides of a change, for a comparison, and the command that runs its cell again."""

    before: tuple[Path, ...]
    after: tuple[Path, ...]
    again: tuple[str, ...]


def bring_up(lab: Path, night: str, metrics_of: Callable[[Path], Measured], say: Callable[[str], None]) -> NightVerdict:
    """Bring the lab's index up to what is published, judge a night by it, and write its verdict.json.

    `metrics_of` reads a run's directory (`cli.index.measured`); `say` is told of each boot that cannot be read, and is
    left out. Raises `UsageError` for a night that the lab does not have, `ResultError` where something cannot be read
    or written.
    """
    path = night_file.path_of(lab, night)
    if night not in night_file.names(lab):
        raise UsageError(f"the lab has no night {night!a}", f"its last is {(night_file.names(lab) or ('none',))[-1]}")
    for message in update(lab, metrics_of).unreadable:
        say(f"left out: {message}")
    verdict = judge(lab, night, ledger.cell_states(night_file.load(path), lab))
    write(lab, verdict)
    return verdict


def judge(lab: Path, night: str, cells: Mapping[str, Outcome]) -> NightVerdict:
    """The verdict of a night from the lab's index, by what was known then and is acknowledged now.

    `cells` says what became of each cell in it. Raises `UsageError` for a night that the index does not have,
    `ResultError` where there is no index or acknowledged.toml cannot be read.
    """
    known = acknowledged.read(lab)
    with open_index(lab) as index:
        nights = up_to(index, night)
        series = [one for cell in index.cells() for one in series_of(index, cell, nights)]
    return of_night.judge(series, nights, cells, known, KernelIds(lab))


def up_to(index: Index, night: str) -> tuple[str, ...]:
    """The nights up to one, which is the last of them. Raises `UsageError` where the index does not have it."""
    nights = index.nights()
    if night not in nights:
        raise UsageError(f"the index has no night {night!a}", f"its last is {nights[-1] if nights else 'none'}")
    return nights[: nights.index(night) + 1]


def series_of(index: Index, cell: CellRow, nights: tuple[str, ...]) -> Iterator[Series]:
    """The figures of a cell in some nights, those that it has none of left out."""
    wanted = frozenset(nights)
    for metric, levels in index.every_series(cell.name):
        points = tuple(
            Point(night, statistics.median(boots), boots) for night, boots in levels if night in wanted and boots
        )
        if points:
            yield _series(cell, metric, points)


def _series(cell: CellRow, metric: MetricRow, points: tuple[Point, ...]) -> Series:
    return Series(
        SeriesKey(cell.name, metric.name),
        metric.label,
        metric.unit,
        cast("Better", metric.better),
        points,
        metric.step,
        metric.relative_step,
        cell.machine,
    )


def smallest_visible(lab: Path) -> dict[str, dict[str, float]]:
    """What tonight can show, by machine and figure and relative, from each machine's own A/A cells.

    It is what the last verdict says of those cells that it has, and of what they are the twins of. A machine without
    such cells is not there; where no verdict can be read, none is.
    """
    for name in reversed(night_file.names(lab)):
        if (lab / NIGHTS / name / VERDICT_FILE).exists():
            try:
                return _smallest(night_file.load(night_file.path_of(lab, name)), read(lab, name))
            except ResultError:
                return {}
    return {}


def _smallest(night: Night, verdict: NightVerdict) -> dict[str, dict[str, float]]:
    found = {}
    for machine in night.machines:
        twins = [cell for cell in night.cells.values() if cell.machine == machine and cell.is_aa]
        own = {name for cell in twins for name in (cell.id, cell.twin_of)}
        smallest = of_night.smallest_by_figure(one for one in verdict.series if one.key.cell in own)
        if smallest:
            found[machine] = smallest
    return found


def around(index: Index, key: SeriesKey, change: Change, *, nights: int = NIGHTS_AROUND) -> Around:
    """The runs of the last nights before a change and of the first ones after it, as far as they have the cell.

    `again` is the command of the newest of these, empty where its cell.json has none. Raises `ResultError` where that
    cannot be read.
    """
    order = index.nights()
    place = order.index(change.night)
    by_night = [index.runs(key.cell, night) for night in order]
    before = [runs for runs in by_night[:place] if runs][-nights:]
    after = [runs for runs in by_night[place:] if runs][:nights]
    newest = after[-1][-1].path.parents[1] / "cell.json"
    return Around(
        tuple(run.path for runs in before for run in runs),
        tuple(run.path for runs in after for run in runs),
        tuple(parse(newest, read_bytes(newest)).texts("again")),
    )


def write(lab: Path, verdict: NightVerdict) -> None:
    """Write a night's verdict, in the place of an older one; what is in the index is not said again.

    Raises `ResultError`.
    """
    plain = dataclasses.asdict(without_points(verdict))
    replace(lab / NIGHTS / verdict.night / VERDICT_FILE, {"schema_version": SCHEMA_VERSION, **plain})


def without_points(verdict: NightVerdict) -> NightVerdict:
    """A verdict as its file has it: after two years the points of all its series are 100 times as much as the rest."""
    return dataclasses.replace(
        verdict, series=tuple(dataclasses.replace(series, points=()) for series in verdict.series)
    )


def read(lab: Path, night: str) -> NightVerdict:
    """Read a night's verdict, without the points of its series, which the index has.

    Raises `ResultError` where there is none, or it is damaged or of a newer numabench.
    """
    path = lab / NIGHTS / night / VERDICT_FILE
    fields = parse(path, read_bytes(path))
    check_version(fields, SCHEMA_VERSION)
    cells = fields.object("cells")
    return NightVerdict(
        night=fields.text("night"),
        series=tuple(_read_series(row) for row in fields.rows("series")),
        cells={name: _outcome(cells, name) for name in cells.fields},
        regressions=tuple(_key(row) for row in fields.rows("regressions")),
    )


def _outcome(cells: Fields, name: str) -> Outcome:
    pair = cells.array(name)
    if len(pair) != 2 or not all(isinstance(word, str) for word in pair):
        cells.wrong(name, "a state and a reason")
    return pair[0], pair[1]


def _key(row: Fields) -> SeriesKey:
    return SeriesKey(row.text("cell"), row.text("metric"))


def _read_series(row: Fields) -> SeriesVerdict:
    return SeriesVerdict(
        key=_key(row.object("key")),
        label=row.text("label"),
        unit=row.text("unit", ""),
        better=cast("Better", _word(row, "better", ("higher", "lower", "neither"))),
        points=(),
        changes=tuple(_read_change(change) for change in row.rows("changes")),
        level=row.number("level", 0.0),
        noise=row.optional_quantity("noise"),
        smallest_visible=row.optional_quantity("smallest_visible"),
        notes=tuple(row.texts("notes")),
    )


def _read_change(row: Fields) -> Change:
    ratios: dict[str, Any] = {key: row.optional_quantity(key) for key in ("ratio", "ratio_low", "ratio_high")}
    return Change(
        night=row.text("night"),
        before=row.number("before", 0.0),
        after=row.number("after", 0.0),
        **ratios,
        p=row.number("p", 1.0),
        q=row.number("q", 1.0),
        direction=cast("Direction", _word(row, "direction", ("worse", "better", "changed"))),
        is_new=row.fields.get("is_new") is True,
        acknowledged=row.text("acknowledged", ""),
        judged_by=cast("JudgedBy", _word(row, "judged_by", ("nights", "boots"))),
        kernel=row.text("kernel", ""),
    )


def _word(row: Fields, key: str, words: tuple[str, ...]) -> str:
    word = row.text(key)
    if word not in words:
        row.wrong(key, " or ".join(words))
    return word
