"""Which drivers there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.drivers.driver import INSIDE, INTERLEAVED, MOVE, MOVE_ALL, OUTSIDE, RANDOM, SEQUENTIAL, STRICT, Driver
from numabench.errors import UsageError
from numabench.host import cpuset

if TYPE_CHECKING:
    from numabench.drivers.driver import Circumstances

AUTONUMA, MOVE_PAGES, NULL = "autonuma", "move_pages", "null"
CPUSET, HOME_NODE, MIGRATE_PAGES = "cpuset", "home-node", "migrate_pages"
_ALL_ORDERS = (SEQUENTIAL, RANDOM, INTERLEAVED)


def _told(*reasons: str | None) -> tuple[str, ...]:
    return tuple(reason for reason in reasons if reason is not None)


def _lacks_balancing(here: Circumstances) -> tuple[str, ...]:
    if here.root.exists("/proc/sys/kernel/numa_balancing"):
        return ()
    return ("this kernel cannot balance: it has no kernel.numa_balancing (CONFIG_NUMA_BALANCING)",)


def _lacks_weighted_interleave(here: Circumstances) -> tuple[str, ...]:
    refusal = here.features.weighted_interleave
    weighted = None if refusal is None else f"no MPOL_WEIGHTED_INTERLEAVE, which Linux has since 6.9: {refusal}"
    return _told(here.features.mbind, weighted)


def _lacks_home_node(here: Circumstances) -> tuple[str, ...]:
    refusal = here.features.home_node
    home = None if refusal is None else f"no set_mempolicy_home_node(2), which Linux has since 5.17: {refusal}"
    return _told(here.features.mbind, home)


DRIVERS = (
    Driver(
        AUTONUMA,
        "automatic balancing: the kernel moves pages to the node of the thread that touches them",
        _lacks_balancing,
        orders=(),
        has_batches=False,
        max_movers=0,
        knobs=(("numa_balancing", "1"),),
    ),
    Driver(
        MOVE_PAGES,
        "move_pages(2): each page to its node",
        lambda here: _told(here.features.move_pages),
        movers=(INSIDE, OUTSIDE),
        flags=(MOVE, MOVE_ALL),
        orders=_ALL_ORDERS,
    ),
    Driver(
        "mbind",
        "mbind(2): a range bound to a node, and its pages moved there",
        lambda here: _told(here.features.mbind),
        flags=(MOVE, MOVE_ALL, STRICT),
    ),
    Driver(
        MIGRATE_PAGES,
        "migrate_pages(2): all pages of a process from one node to another, in one call",
        lambda here: _told(here.features.migrate_pages),
        # Inside, each call would move the mover's own lists, too.
        movers=(OUTSIDE, INSIDE),
        flags=(),
        orders=(SEQUENTIAL,),
        has_batches=False,
        max_movers=1,
    ),
    Driver(
        CPUSET,
        "cpuset.mems with memory migration: all pages of its processes, in one write",
        lambda here: cpuset.requirements(here.root),
        flags=(),
        orders=(SEQUENTIAL,),
        has_batches=False,
        max_movers=1,
    ),
    Driver(
        "weighted-interleave",
        "mbind(2) with MPOL_WEIGHTED_INTERLEAVE over all nodes but the source, and back",
        _lacks_weighted_interleave,
        flags=(MOVE, MOVE_ALL),
    ),
    Driver(
        HOME_NODE,
        "set_mempolicy_home_node(2): pages are given up and placed anew, not migrated",
        _lacks_home_node,
    ),
    # The baseline: everything that movers do, but the call.
    Driver(
        NULL,
        "no system call at all: what the movers cost themselves",
        lambda _here: (),
        movers=(INSIDE, OUTSIDE),
        orders=_ALL_ORDERS,
    ),
)


def find(name: str) -> Driver:
    """The driver of that name. Raises `UsageError` with the names there are, and the one that was likely meant."""
    for driver in DRIVERS:
        if driver.name == name:
            return driver
    import difflib

    names = [driver.name for driver in DRIVERS]
    # Names have dashes and underscores, as the kernel's words have them.
    spelled = {word.replace("_", "-"): word for word in names}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), spelled, n=1)
    meant = f"did you mean {spelled[close[0]]}? " if close else ""
    raise UsageError(f"there is no driver '{name}'", f"{meant}There are {', '.join(names)}")
