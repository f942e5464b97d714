"""Whether a night's results have room on the disk, by what those of nights before took."""

from __future__ import annotations

import os
import shutil
import statistics
from typing import TYPE_CHECKING

from numabench.errors import Unfit
from numabench.fleet import night_file
from numabench.store.boot_values import VALUES_FILE
from numabench.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numabench.fleet.prepare import Chosen

# Older nights say less of tonight: workloads and what is recorded have changed since.
_NIGHTS = 5
# A night that would leave less than half of its size is told.
_AMPLE = 1.5
_BLOCK_BYTES = 512


def needed_bytes(lab: Path, chosen: Chosen) -> int | None:
    """What a night's results should take; None where no night before has shown it.

    A cell counts with the mean of its boots in the last nights, one that is new with the median of the others.
    """
    known = _sizes(lab)
    if not known:
        return None
    usual = statistics.median(known.values())
    return round(sum(known.get(cell, usual) for block in chosen.blocks for cell in block.cells))


def free_bytes(lab: Path) -> int:
    """What this user may still write where a lab is, or will be."""
    there = next(path for path in (lab, *lab.parents) if path.exists())
    return shutil.disk_usage(there).free


def told(needed: int | None, free: int) -> str:
    """How much a night needs of what there is, in words; empty where that is not known, or of no concern."""
    if needed is None or free >= _AMPLE * needed:
        return ""
    return f"the night's results should take {format_bytes(needed)}, and {format_bytes(free)} are free"


def check(lab: Path, chosen: Chosen) -> str:
    """Refuse, with `Unfit`, a night that has no room; what there is to tell of it, empty where there is plenty."""
    needed, free = needed_bytes(lab, chosen), free_bytes(lab)
    words = told(needed, free)
    if needed is not None and free < needed:
        raise Unfit(words, "see what can go: numabench nightly prune LAB.toml --dry-run, or make room")
    return words


def _sizes(lab: Path) -> dict[str, float]:
    """The mean size of a boot's results in the last nights, by cell; boots of which runs were removed say nothing."""
    found: dict[str, list[int]] = {}
    for name in night_file.names(lab)[-_NIGHTS:]:
        for boot in (night_file.path_of(lab, name) / night_file.CELLS).glob("*/boot-*"):
            if not (boot / VALUES_FILE).exists():
                found.setdefault(boot.parent.name, []).append(_size(boot))
    return {cell: statistics.mean(sizes) for cell, sizes in found.items()}


def _size(path: Path) -> int:
    """What the files of a directory take on the disk, of several links to one file once."""
    return sum({(stat.st_dev, stat.st_ino): stat.st_blocks * _BLOCK_BYTES for stat in _files(path)}.values())


def _files(path: Path) -> Iterator[os.stat_result]:
    for directory, _, names in os.walk(path):
        for name in names:
            yield os.lstat(f"{directory}/{name}")
