"""Labs of two nights, whose truth is known: what changed is named, and what every cell did is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import polygamma
from scipy.stats import fisher_exact

from numabench.analysis.history import appeared, controls, night
from numabench.analysis.history.series import FEW_NIGHTS, ONE_BOOT, TWO_NIGHTS, Series
from numabench.analysis.history.types import KernelId, Point, SeriesKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from numabench.analysis.history.young import KernelOf

    Values = NDArray[np.float64]

NAMES = tuple(f"2026-10-{1 + day:02}" for day in range(20))
CELLS = tuple(f"{workload}.{kernel}.box" for kernel in ("old", "new", "next") for workload in ("a", "b", "c", "d"))
FIGURE = "default/seconds"


def values(nights: int = 2, boots: int = 3, deviation: float = 0.02, seed: int = 1) -> Values:
    """By cell, night and boot."""
    return 100 * np.exp(np.random.default_rng(seed).normal(0, deviation, (len(CELLS), nights, boots)))


def lab(of_cells: Values, name: str = FIGURE, step: float = 0.0) -> list[Series]:
    return [
        Series(
            SeriesKey(cell, name),
            "",
            "s",
            "lower",
            tuple(Point(day, float(np.median(boots)), tuple(boots)) for day, boots in zip(NAMES, rows, strict=False)),
            step=step,
            machine="box",
        )
        for cell, rows in zip(CELLS, of_cells.tolist(), strict=True)
    ]


def judged(of_cells: Values, kernel_of: KernelOf = night.unknown) -> dict[str, tuple[str, ...]]:
    """Which cells are told to have changed, and how."""
    series = [
        one
        for number in range(8)
        for one in lab(values(of_cells.shape[1], of_cells.shape[2], seed=50 + number), f"default/{number}")
    ]
    verdict = night.judge([*lab(of_cells), *series], NAMES[: of_cells.shape[1]], {}, kernel_of=kernel_of)
    return {
        one.key.cell: tuple(change.direction for change in one.changes)
        for one in verdict.series
        if one.changes and one.key.metric == FIGURE
    }


@pytest.mark.parametrize("boots", [2, 3])
def test_the_second_night_names_the_cell_that_changed(boots: int) -> None:
    changed = values(boots=boots)
    assert judged(changed) == {}
    changed[5, 1] *= 1.8
    assert judged(changed) == {CELLS[5]: ("worse",)}
    changed[5, 1] /= 1.8**2
    assert judged(changed) == {CELLS[5]: ("better",)}


def test_what_moves_all_cells_alike_is_the_nights_and_no_change() -> None:
    moved = values()
    moved[:, 1] *= 3
    assert judged(moved) == {}
    moved[2, 1] *= 1.8
    assert judged(moved) == {CELLS[2]: ("worse",)}


def test_the_cells_of_a_kernel_that_is_another_are_no_controls() -> None:
    """All four of them changed; that the kernel is another is known, and said."""
    changed = values()
    changed[4:8, 1] *= 1.6

    def kernel_of(name: str, cell: str) -> KernelId:
        is_new = name == NAMES[1] and ".new." in cell
        return KernelId("6.12", "b" * 40 if is_new else "a" * 40, ("quiet", "excl") if is_new else ("quiet",))

    assert judged(changed) == {}
    assert judged(changed, kernel_of=kernel_of) == dict.fromkeys(CELLS[4:8], ("worse",))
    told = night.judge(lab(changed), NAMES[:2], {}, kernel_of=kernel_of).series[4]
    (change,) = told.changes
    assert change.kernel == "build id aaaaaaaaaaaa became bbbbbbbbbbbb, with excl"
    assert (change.judged_by, change.is_new, change.night) == ("boots", True, NAMES[1])
    assert change.ratio is not None
    assert change.ratio_low < change.ratio < change.ratio_high
    assert change.ratio_low < 1.6 < change.ratio_high
    assert told.notes == (TWO_NIGHTS,)


def test_cells_that_move_apart_for_no_reason_make_a_change_hard_to_see() -> None:
    restless = values() * np.exp(np.random.default_rng(3).normal(0, 0.3, (len(CELLS), 2, 1)))
    assert judged(restless) == {}
    still = night.judge(lab(values()), NAMES[:2], {}).series[0].smallest_visible
    moved = night.judge(lab(restless), NAMES[:2], {}).series[0].smallest_visible
    assert still is not None
    assert moved is not None
    assert 0.05 < still < moved / 3


def test_the_smallest_visible_change_of_a_second_night_is_found_in_four_cases_of_five() -> None:
    draws = np.random.default_rng(4)
    hits = 0
    for seed in range(100):
        now = values(seed=100 + seed)
        smallest = night.judge(lab(now), NAMES[:2], {}).series[0].smallest_visible
        assert smallest is not None
        stepped = now.copy()
        stepped[0, 1] = 100 * np.exp(draws.normal(np.log1p(smallest), 0.02, 3))
        hits += SeriesKey(CELLS[0], FIGURE) in night.judge(lab(stepped), NAMES[:2], {}).regressions
    assert 65 <= hits <= 95


def test_boots_that_overlap_with_those_before_are_no_change() -> None:
    overlapping = values()
    overlapping[0, 1, :2] *= 3
    assert judged(overlapping) == {}


def test_who_cannot_be_judged_is_said_to_have_few_nights() -> None:
    few_cells = [one for one in lab(values()) if ".old." in one.key.cell]
    one_boot = lab(values(boots=1))
    first = lab(values(nights=1))
    elsewhere = [Series(one.key, "", "s", "lower", one.points, machine=one.key.cell) for one in lab(values())]
    for series, nights, notes in (
        (few_cells, 2, (FEW_NIGHTS,)),
        (one_boot, 2, (FEW_NIGHTS, ONE_BOOT)),
        (first, 1, (FEW_NIGHTS,)),
        (elsewhere, 2, (FEW_NIGHTS,)),
    ):
        verdict = night.judge(series, NAMES[:nights], {})
        assert {one.notes for one in verdict.series} == {notes}
        assert {one.smallest_visible for one in verdict.series} == {None}


def test_a_change_stays_told_and_what_only_one_night_had_does_not() -> None:
    changed = values(nights=8)
    changed[3, 5:] *= 1.8
    changed[7, 4] *= 1.8
    told = [night.judge(lab(changed[:, :count]), NAMES[:count], {}) for count in range(2, 9)]
    assert [[key.cell for key in verdict.regressions] for verdict in told] == [
        [], [], [], [CELLS[7]], [CELLS[3], CELLS[7]], [CELLS[3]], [CELLS[3]],
    ]  # fmt: skip
    (change,) = told[-1].series[3].changes
    assert (change.night, change.direction) == (NAMES[5], "worse")


def test_from_the_sixteenth_night_on_nights_decide_and_nothing_is_forgotten_meanwhile() -> None:
    changed = values(nights=19, deviation=0.01)
    changed[3, 12:] *= 1.3
    for count, judged_by in ((13, "boots"), (15, "boots"), (16, "boots"), (17, "boots"), (19, "nights")):
        verdict = night.judge(lab(changed[:, :count]), NAMES[:count], {})
        assert [key.cell for key in verdict.regressions] == [CELLS[3]]
        (change,) = verdict.series[3].changes
        assert (change.night, change.judged_by) == (NAMES[12], judged_by)


def test_a_new_cell_of_an_old_lab_is_judged_beside_the_others() -> None:
    both = values(nights=20)
    both[0, 19] *= 1.8
    series = lab(both)
    series[0] = Series(series[0].key, "", "s", "lower", series[0].points[17:], machine="box")
    verdict = night.judge(series, NAMES, {})
    assert [one.notes for one in verdict.series[:2]] == [(TWO_NIGHTS,), ()]
    assert verdict.regressions == (series[0].key,)


def test_what_was_never_seen_and_then_in_every_boot_is_a_change() -> None:
    waits = np.zeros((len(CELLS), 2, 3))
    waits[6, 1] = [290.0, 300.0, 297.0]
    assert judged(waits) == {CELLS[6]: ("worse",)}
    waits[6, 1] = [290.0, 3.0, 40.0]
    assert judged(waits) == {}
    assert judged(np.zeros((len(CELLS), 2, 3))) == {}


def _new_kernel(name: str, cell: str) -> KernelId:
    return KernelId("6.12", "a" * 40, ("excl",) if name >= NAMES[1] and ".new." in cell else ())


def waits(nights: int = 2) -> Values:
    """What only two cells of the new kernel have, and by far not alike: each boot of theirs has some."""
    found = np.zeros((len(CELLS), nights, 3))
    found[4, 1:] = [108.0, 76.0, 143.0]
    found[6, 1:] = [8.0, 158.0, 92.0]
    return found


def test_what_appears_with_a_kernel_that_is_another_is_a_change_however_much_it_varies() -> None:
    assert CELLS[6] not in judged(waits())
    assert judged(waits(), _new_kernel) == {CELLS[4]: ("worse",), CELLS[6]: ("worse",)}
    told = night.judge(lab(waits()), NAMES[:2], {}, kernel_of=_new_kernel).series[4]
    (change,) = told.changes
    assert (change.before, change.after, change.night, change.kernel) == (0, 108, NAMES[1], "with excl")
    # Nights that have it, too, keep it; one that has not does not.
    assert judged(waits(5), _new_kernel) == {CELLS[4]: ("worse",), CELLS[6]: ("worse",)}
    gone = waits(5)
    gone[6, 3] = 0
    assert judged(gone, _new_kernel) == {CELLS[4]: ("worse",)}


def test_what_another_boot_had_before_or_a_boot_of_tonight_has_not_did_not_appear() -> None:
    before = waits()
    before[0, 0, 1] = 1
    assert judged(before, _new_kernel) == {}
    some = waits()
    some[6, 1, 0] = 0
    assert judged(some, _new_kernel) == {CELLS[4]: ("worse",)}
    few = waits()
    few[6, 1] = few[4, 1, 1:] = 0
    assert judged(few, _new_kernel) == {}


def test_what_appears_is_tested_as_fisher_does() -> None:
    boots = [{"a": (0.0,) * 3, "b": tuple(row)} for row in waits()[:, 1].tolist()]
    (found,) = appeared.find([(boots, [4, 5, 6, 7])], "b")
    table = [[6, 6], [0, 3 * (2 * len(CELLS) - 4)]]
    assert found.p == pytest.approx(fisher_exact(table, "greater").pvalue)
    assert (found.rows, found.q) == ((4, 6), found.p)


def test_what_comes_and_goes_hardly_ever_appears() -> None:
    """Each boot has it with a chance that is the same for all: the worst one for a test of what never was before."""
    draws = np.random.default_rng(3)
    told = 0
    for number in range(400):
        chance = (0.01, 0.05, 0.1, 0.2)[number % 4]
        values_ = 100.0 * (draws.random((len(CELLS), 2, 3)) < chance)
        told += bool(night.judge(lab(values_), NAMES[:2], {}, kernel_of=_new_kernel).regressions)
    assert told <= 1


def test_variances_are_shrunk_as_smyth_does() -> None:
    """Variances drawn from his prior: its degrees of freedom are found again."""
    draws = np.random.default_rng(8)
    for worth in (4.0, 12.0):
        figures = []
        for _ in range(60):
            true = worth / draws.chisquare(worth, 20)
            boots = draws.normal(0, np.sqrt(true)[:, None], (20, 6))
            by_night = tuple({"a": tuple(row[:3]), "b": tuple(row[3:])} for row in boots.tolist())
            one = controls.contrast(by_night, np.full(20, 1e-9), ("a",), ("b",))
            figures.append((one, np.ones(20, bool)))
        found = controls.prior(figures)
        assert found.cells == pytest.approx(worth, rel=0.25)
        # No night moves anything: the squared ratio is that of chance, the same for all figures.
        assert found.ratio == pytest.approx(1, abs=0.15)
        assert found.figures > 15


def test_the_inverse_of_trigamma_is_its_inverse() -> None:
    for x in (0.01, 0.5, 3.0, 400.0):
        assert controls._trigamma_inverse(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)
