"""What a driver of migration is: a system call, a file, or the kernel's own balancing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from numabench.host.root import LIVE, Root
from numabench.host.seccomp import CAP_SYS_NICE, read_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.host import libnuma

INSIDE, OUTSIDE = "inside", "outside"
MOVE, MOVE_ALL, STRICT = "move", "move_all", "strict"
SEQUENTIAL, RANDOM, INTERLEAVED = "sequential", "random", "interleaved"


@dataclass(frozen=True)
class Circumstances:
    """What a driver is to be used for: the flags asked for, and the machine.

    `features` is what `libnuma.probe()` found, `root` where /sys and /proc are read.
    """

    features: libnuma.Features
    flags: tuple[str, ...] = (MOVE,)
    root: Root = field(default=LIVE)


@dataclass(frozen=True)
class Driver:
    """A driver: what it takes, and `lacks`, which says in sentences what it misses here.

    `movers` are where its movers may live, the usual place first, and `orders` the orders that they may take pages in;
    `max_movers` is None where there may be any number of them. Without batches one call moves a whole process. `knobs`
    are what must be set while it works, by short names.
    """

    name: str
    summary: str
    lacks: Callable[[Circumstances], tuple[str, ...]]
    movers: tuple[str, ...] = (INSIDE,)
    flags: tuple[str, ...] = (MOVE,)  # none: the kernel sets them
    orders: tuple[str, ...] = (SEQUENTIAL, RANDOM)
    has_batches: bool = True
    max_movers: int | None = None
    knobs: tuple[tuple[str, str], ...] = (("numa_balancing", "0"),)

    @property
    def has_movers(self) -> bool:
        """Whether threads of the workload call it; else the kernel migrates by itself."""
        return self.max_movers != 0

    def requirements(self, here: Circumstances) -> tuple[str, ...]:
        """Why it cannot be used here, one sentence each; none where it can."""
        return (*self.lacks(here), *_lacking_capability(here))


def _lacking_capability(here: Circumstances) -> tuple[str, ...]:
    limits = read_limits(here.root)
    if MOVE_ALL not in here.flags or limits is None or limits.has_capability(CAP_SYS_NICE):
        return ()
    return ("--move-all moves pages that others map, too, which needs CAP_SYS_NICE: run as root",)
