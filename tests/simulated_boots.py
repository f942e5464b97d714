"""Comparisons whose truth is known: boots that differ among themselves, values that differ within them, and a drift.

Values are 1000 times e to the sum of what is drawn: standard deviations and steps are relative.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import synthetic_run

from numabench import store
from numabench.comparison.change import Metric
from numabench.comparison.side import Side

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from numabench.record import Run

LEVEL = 1000.0
BETWEEN, WITHIN = 0.015, 0.01
PLACEMENT = "default"


@dataclass(frozen=True)
class Setting:
    """How boots are laid out and what they are like.

    `noise` is normal, t3 (heavy tails), bimodal (half of the boots are 5 % off), rare mode (a fifth are), or walk
    (normal and a random walk, by 4 % from the first boot to the last).
    """

    boots: int
    values: int
    order: str = "ABBA"
    drift: float = 0.0
    noise: str = "normal"


@cache
def _run() -> Run:
    with tempfile.TemporaryDirectory() as directory:
        return store.load(synthetic_run.write(Path(directory)))


def sides(order: str) -> tuple[Side, Side]:
    """Two sides whose boots ran in the order given by letters, one run a boot."""
    runs = [
        replace(
            _run(),
            run_id=f"run-{place:03}",
            created_utc=f"2026-11-23T{place // 60:02}:{place % 60:02}:00+00:00",
            identity={**_run().identity, "boot_id": f"boot-{place:03}"},
        )
        for place in range(len(order))
    ]
    return tuple(Side(name, tuple(run for run, side in zip(runs, order, strict=True) if side == name)) for name in "AB")


def order(setting: Setting) -> str:
    """The letters of a setting's boots."""
    if setting.order == "ABBA":
        return ("ABBA" * setting.boots)[: 2 * setting.boots]
    return "A" * setting.boots + "B" * setting.boots


def draw(
    setting: Setting, draws: Generator, metrics: int = 1, shared: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values by metric, boot and value, of A and of B, without any step between them.

    `shared` is the correlation of the metrics' differences between boots.
    """
    letters = order(setting)
    count = len(letters)
    own = _between(setting.noise, (metrics, count), draws)
    if metrics > 1:
        own = np.sqrt(1 - shared) * own + np.sqrt(shared) * _between(setting.noise, (1, count), draws)
    drift = setting.drift * np.arange(count) / (count - 1)
    within = draws.normal(0, WITHIN, (metrics, count, setting.values))
    values = LEVEL * np.exp((own + drift)[:, :, None] + within)
    is_b = np.array([letter == "B" for letter in letters])
    return values[:, ~is_b], values[:, is_b]


def _between(noise: str, shape: tuple[int, int], draws: Generator) -> NDArray[np.float64]:
    if noise == "t3":
        return draws.standard_t(3, shape) * BETWEEN / np.sqrt(3)
    if noise in {"bimodal", "rare mode"}:
        share = 0.5 if noise == "bimodal" else 0.2
        return draws.normal(0, BETWEEN / 3, shape) + 0.05 * (draws.random(shape) < share)
    if noise == "walk":
        return draws.normal(0, BETWEEN, shape) + np.cumsum(draws.normal(0, 0.04 / np.sqrt(shape[1]), shape), axis=1)
    assert noise == "normal"
    return draws.normal(0, BETWEEN, shape)


def by_run(values: NDArray[np.float64]) -> list[dict[tuple[str, Metric], tuple[float, ...]]]:
    """What `metrics.values` would give for each run, from values by metric, boot and value."""
    named = [Metric(f"metric_{number}", f"metric {number}", "MB/s") for number in range(len(values))]
    return [
        {(PLACEMENT, metric): tuple(values[number, boot].tolist()) for number, metric in enumerate(named)}
        for boot in range(values.shape[1])
    ]
