"""How often nights of one level alarm, and how soon a step is found, night after night as a user sees it.

Run it as `python tests/bench/bench_verdicts.py`. Each series is judged in every night from the tenth to the sixtieth,
by what was known then; it alarms where in any of them a new level is called new. A step of 5 % begins in the 41st
night, and is found by a night where it alarms by then, the level being said to have begun within three nights of it.
Beside it stand two others, by the same rules: PELT alone with the usual penalty of 3 sigma ln n (the cut is that of
ruptures, see tests/unit/test_history.py), and Mann and Whitney's test of the last five nights against the 25 before at
0.001. The bound knows the level and the noise, and is told its threshold by the truth: no test can find more of normal
noise at one false series of a hundred. Labs of few nights, which are judged by another rule: see young_labs.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import mannwhitneyu

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import young_labs

from numabench.analysis.history import levels, night
from numabench.analysis.history.segments import absolute_costs, best_cut
from numabench.analysis.history.series import Series
from numabench.analysis.history.types import Point, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    # The first places of the levels that began within the last nights, from all values and their costs.
    Detector = Callable[[Values, Values], list[int]]

NIGHTS, FIRST, BEGIN = 60, 10, 40
STEP, SD = math.log(1.05), 0.02
SHOWN = (3, 4, 5, 7, 10)
WINDOW, AGAINST, WINDOW_P = 5, 25, 1e-3


@dataclass(frozen=True)
class Noise:
    """A night's value: the median of `boots` boots, each with a standard deviation of 2 % of a kind.

    outliers: one boot in twenty is 10 % off; bimodal: half of the boots are 3.5 % off, with 1 % around each mode;
    rare mode: a fifth are 4.3 % off; ar1: nights resemble each other by 0.5, and have 1.4 % in common beside 1.4 % of
    each boot's own.
    """

    kind: str
    boots: int

    def draw(self, draws: Generator) -> Values:
        """The logarithms of a series' values."""
        shape = (NIGHTS, self.boots)
        normal = draws.normal(0, SD, shape)
        if self.kind == "outliers":
            normal += 0.1 * (draws.random(shape) < 0.05)
        elif self.kind == "bimodal":
            normal = normal / 2 + 0.0346 * (draws.random(shape) < 0.5)
        elif self.kind == "rare mode":
            normal = normal / 2 + 0.0433 * (draws.random(shape) < 0.2)
        elif self.kind == "ar1 0.5":
            share = 1.0 if self.boots == 1 else math.sqrt(0.5)
            own = normal * math.sqrt(1 - share**2)
            return _ar1(draws, 0.5) * SD * share + np.median(own, axis=1)
        return np.median(normal, axis=1)


def _ar1(draws: Generator, correlation: float) -> Values:
    values = draws.normal(size=NIGHTS)
    for place in range(1, NIGHTS):
        values[place] = correlation * values[place - 1] + math.sqrt(1 - correlation**2) * values[place]
    return values


def ours(values: Values, costs: Values) -> list[int]:
    found = levels.find(values, 1e-3, costs)
    return [level.begin for level in found.begun if level.begin >= len(values) - levels.NEW_NIGHTS]


def pelt(values: Values, costs: Values) -> list[int]:
    sigma = float(np.median(np.abs(np.diff(values)))) / 0.6745 / math.sqrt(2)
    cuts = best_cut(costs[: len(values) + 1, : len(values)], 3 * sigma * math.log(len(values)), 3)
    return [cut for cut in cuts if cut >= len(values) - levels.NEW_NIGHTS]


def window(values: Values, _: Values) -> list[int]:
    before, after = values[:-WINDOW][-AGAINST:], values[-WINDOW:]
    if len(before) < FIRST - WINDOW or mannwhitneyu(before, after).pvalue > WINDOW_P:
        return []
    return [len(values) - WINDOW]


DETECTORS: tuple[tuple[str, Detector], ...] = (("numabench", ours), ("PELT alone", pelt), ("MWU window", window))


def alarms(detector: Detector, values: Values, costs: Values) -> bool:
    return any(detector(values[:count], costs) for count in range(FIRST, NIGHTS + 1))


def found_after(detector: Detector, values: Values, costs: Values) -> int | None:
    """In which night of the new level it is found."""
    for count in range(BEGIN + 1, BEGIN + max(SHOWN) + 1):
        if any(abs(begin - BEGIN) <= 3 for begin in detector(values[:count], costs)):
            return count - BEGIN
    return None


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z2 = 1.96**2
    middle, half = share + z2 / (2 * count), 1.96 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return (middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)


def row(name: str, detector: Detector, noise: Noise, count: int, seed: int) -> str:
    draws = np.random.default_rng([seed, *repr(noise).encode()])
    false, soon = 0, []
    for _ in range(count):
        values = noise.draw(draws)
        false += alarms(detector, values, absolute_costs(values))
        values[BEGIN:] += STEP
        soon.append(found_after(detector, values, absolute_costs(values)) or math.inf)
    low, high = wilson(false / count, count)
    shares = "".join(f" {sum(each <= wanted for each in soon) / count:6.1%}" for wanted in SHOWN)
    return f"{noise.kind:<10} {noise.boots:>5}  {name:<11} {false / count:6.1%} ({low:4.1%} to {high:5.1%}) {shares}"


def bound(deviation: float, seed: int, count: int = 20000) -> list[float]:
    """The share of steps found by each of `SHOWN` nights, of noise whose size and level are known."""
    draws = np.random.default_rng([seed, 7])
    widths = np.arange(1, 8)

    def largest(values: Values, first: int, last: int) -> Values:
        """The largest mean of the last nights, in its standard errors, in nights `first` to `last`."""
        sums = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
        scores = [
            np.abs(sums[:, end] - sums[:, end - width]) / math.sqrt(width)
            for end in range(first, last + 1)
            for width in widths
        ]
        return np.max(scores, axis=0)

    limit = np.quantile(largest(draws.normal(size=(count, NIGHTS)), FIRST, NIGHTS), 0.99)
    stepped = draws.normal(size=(count, NIGHTS))
    stepped[:, BEGIN:] += STEP / deviation
    return [float((largest(stepped, BEGIN + 1, BEGIN + nights) > limit).mean()) for nights in SHOWN]


def of_deviation(deviation: float, count: int, seed: int) -> str:
    draws = np.random.default_rng([seed, round(deviation * 1e5)])
    soon = []
    for _ in range(count):
        values = draws.normal(0, deviation, NIGHTS)
        values[BEGIN:] += STEP
        soon.append(found_after(ours, values, absolute_costs(values)) or math.inf)
    shares = "".join(f" {sum(each <= wanted for each in soon) / count:6.1%}" for wanted in SHOWN)
    return f"{deviation:9.2%} {shares}   bound {''.join(f' {share:6.1%}' for share in bound(deviation, seed))}"


def whole_nights(count: int, seed: int, series: int = 600) -> str:
    """How many of a night's series alarm where nothing changed, and how many of 30 that changed are found."""
    draws = np.random.default_rng([seed, 600])
    names = [f"2026-{1 + day // 28:02}-{1 + day % 28:02}" for day in range(NIGHTS)]
    noise, false, found = Noise("normal", 3), 0, 0
    for _ in range(count):
        figures = []
        for number in range(series):
            values = noise.draw(draws)
            values[-4:] += STEP * (number < series // 20)
            points = tuple(
                Point(name, float(np.exp(value)), (1.0,) * 3) for name, value in zip(names, values, strict=True)
            )
            figures.append(Series(SeriesKey("cell", str(number)), "", "s", "lower", points))
        alarmed = [int(key.metric) for key in night.judge(figures, names, {}).regressions]
        false += sum(number >= series // 20 for number in alarmed)
        found += sum(number < series // 20 for number in alarmed)
    return (
        f"{count} nights of {series} series, {series // 20} of which became 5 % slower four nights before: "
        f"{found / count / (series // 20):.1%} of these alarm, and {false / count:.2f} of the others a night"
    )


def main() -> None:
    """Print a line for each noise and detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--nights", type=int, default=5)
    parser.add_argument("--labs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    print("$ python", *sys.argv)
    if asked.series:
        _old(asked.series, asked.seed, asked.nights)
    if asked.labs:
        print(f"\nlabs of two nights; one cell's figure became worse by so much in the second (seed {asked.seed})")
        for line in young_labs.table(asked.labs, asked.seed):
            print(line, flush=True)
        print("\na figure that was 0, in the second of two nights, where one kernel of three is another")
        for line in young_labs.appearances(asked.labs, asked.seed):
            print(line, flush=True)


def _old(series: int, seed: int, nights: int) -> None:
    print(
        f"seed {seed}, {series} series a row, for the others a quarter; a step of 5 % is found by its nth "
        "night, n being"
    )
    by_night = "".join(f" {shown:>6}" for shown in SHOWN)
    print(f"{'noise':<10} {'boots':>5}  {'':<11} {'false':>6} {'':16} {by_night}")
    for kind in ("normal", "outliers", "bimodal", "rare mode", "ar1 0.5"):
        for boots in (1, 3, 5):
            for name, detector in DETECTORS if boots != 5 else DETECTORS[:1]:
                count = series if detector is ours else series // 4
                print(row(name, detector, Noise(kind, boots), count, seed), flush=True)
    print(f"\nnormal noise of a night's value\n{'':9} {by_night}")
    for deviation in (0.008, 0.01, 0.0115, 0.0134, 0.016, 0.02):
        print(of_deviation(deviation, series, seed), flush=True)
    print(f"\n{whole_nights(nights, seed)}")


if __name__ == "__main__":
    main()
