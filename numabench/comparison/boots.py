"""Recordings by the boot that they are of: boots are what can differ for no reason, so they are what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from numabench.comparison.side import Recorded

_2_MIB = 2 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Boots:
    """How columns by recording become columns by boot, A's boots first.

    `average` (recordings by boots) averages shares over the recordings of a boot, `cost` turns them into the event's
    weight for each 2 MiB migrated, NaN for a boot of which that is not known. `samples` are a boot's, and
    `noise` the variance that counting alone gives to the arcsine of the root of a share.
    """

    count_a: int
    count_b: int
    average: NDArray[np.float64]
    cost: NDArray[np.float64]
    samples: NDArray[np.float64]
    noise: NDArray[np.float64]

    def means(self, by_boot: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The means over A's boots and over B's of columns by boot; of the known ones where some are not known."""
        import numpy as np

        sides = by_boot[..., : self.count_a], by_boot[..., self.count_a :]
        known = [side[..., ~np.isnan(side).any(axis=tuple(range(side.ndim - 1)))] for side in sides]
        a, b = (side.mean(axis=-1) if side.shape[-1] else np.full(side.shape[:-1], np.nan) for side in known)
        return a, b


def of_recordings(
    a: Sequence[Recorded], b: Sequence[Recorded], samples: NDArray[np.int64], weight: NDArray[np.float64]
) -> Boots:
    """The boots of two sides' recordings; `samples` and `weight` are of each recording, A's first."""
    import numpy as np

    keys = [("a", _boot(recording)) for recording in a] + [("b", _boot(recording)) for recording in b]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    member = np.zeros((len(keys), len(numbers)))
    member[np.arange(len(keys)), [numbers[key] for key in keys]] = 1
    average = member / member.sum(axis=0)
    migrated = np.array([recording.migrated_bytes or 0 for recording in (*a, *b)], np.float64)
    known = member * (migrated > 0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        per_2mb = np.where(migrated > 0, weight * _2_MIB / migrated, 0.0)
        cost = known / known.sum(axis=0) * per_2mb[:, None]
    counts = np.maximum(samples, 1).astype(np.float64)
    return Boots(
        count_a=sum(side == "a" for side, _ in numbers),
        count_b=sum(side == "b" for side, _ in numbers),
        average=average,
        cost=cost,
        samples=counts @ member,
        noise=(0.25 / counts) @ average**2,
    )


def _boot(recording: Recorded) -> str:
    """A run whose boot is not known is taken to be one of its own."""
    return f"boot {recording.boot_id}" if recording.boot_id else f"run {recording.run_id}"
