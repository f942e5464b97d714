"""What is asked of drivers, movers, victims and families, and what of that is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from numabench.drivers import catalog as drivers
from numabench.drivers.driver import MOVE, MOVE_ALL, OUTSIDE, STRICT
from numabench.errors import UsageError

if TYPE_CHECKING:
    from numabench.drivers.driver import Driver
    from numabench.workload.catalog import Workload

FOUR_K, THP, HUGETLB = "4k", "thp", "hugetlb"
# Folios between a base page and a huge one, by the sizes that x86 has knobs for.
LARGE_FOLIOS = ("16k", "32k", "64k", "128k", "256k", "512k", "1m")
PAGES = (FOUR_K, THP, HUGETLB, *LARGE_FOLIOS)
PLACES = ("all", "source", "target")
PING_PONG, ONE_WAY = "ping-pong", "one-way"
OBSTACLES = ("untouched", "zero", "pinned", "unmapped", "ksm")
CHURN = ("fork", "mremap", "split", "write")
# What the workloads take (workloads/driven_options.c).
MAX_BATCH, MAX_OBSTACLES = 1 << 20, 1 << 16
# Each mover has eight mappings or ten, its stack and lists among them, and a process 65,530 (vm.max_map_count).
MAX_MOVERS = 4096
MAX_PROCESSES = 512
DEPTH, FANOUT = 3, 2


@dataclass(frozen=True)
class DriveRequest:
    """What was asked of the driver, its movers and victims, and a family; None where the choice was left open."""

    driver: str | None = None
    mover: str | None = None
    move_all: bool | None = None
    strict: bool | None = None
    batch: int | None = None
    order: str | None = None
    pages: str | None = None
    mover_on: str | None = None
    victims: int | None = None
    victim_access: str | None = None
    victim_pattern: str | None = None
    victim_on: str | None = None
    sharing: str | None = None
    route: str | None = None
    retries: int | None = None
    verify: bool | None = None
    obstacles: str | None = None
    depth: int | None = None
    fanout: int | None = None
    mover_at: str | None = None
    churn: str | None = None

    def asked(self) -> dict[str, object]:
        """What was asked for, by the options' names."""
        values = {f"--{field.name.replace('_', '-')}": getattr(self, field.name) for field in fields(self)}
        return {option: value for option, value in values.items() if value is not None}

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags as drivers name them."""
        return (MOVE_ALL if self.move_all else MOVE, *((STRICT,) if self.strict else ()))


_OF_FAMILY = ("--depth", "--fanout", "--mover-at", "--churn")
_OF_MOVERS = (
    *("--mover", "--move-all", "--strict", "--batch", "--order", "--mover-on", "--route", "--retries"),
    *("--threads", "--mover-at"),
)
_OF_VICTIMS = ("--victim-access", "--victim-pattern", "--victim-on", "--verify")
_CHOICES = {
    "--mover": ("inside", OUTSIDE),
    "--order": ("sequential", "random", "interleaved"),
    "--pages": PAGES,
    "--victim-access": ("read", "write"),
    "--victim-pattern": ("sequential", "random"),
    "--sharing": ("private", "shared"),
    "--route": (PING_PONG, ONE_WAY),
    "--mover-at": ("parent", "child", "sibling"),
}


def driver_of(asked: DriveRequest, *, is_driven: bool) -> Driver:
    """The driver of a run: balancing, unless the workload is driven or another was asked for. Raises `UsageError`."""
    return drivers.find(asked.driver or (drivers.MOVE_PAGES if is_driven else drivers.AUTONUMA))


def check(asked: DriveRequest, spec: Workload | None, placements: tuple[str, ...], *, threads: int | None) -> None:
    """Refuse, with `UsageError`, what the workload or the driver does not take, by the option's name."""
    is_driven = spec is not None and spec.is_driven
    driver = driver_of(asked, is_driven=is_driven)
    bound = [placement for placement in placements if placement != "default"]
    if asked.driver == drivers.AUTONUMA and len(placements) == 1 and bound:
        raise UsageError(
            f"--driver autonuma moves nothing in --placement {bound[0]}: a strict bind without MPOL_F_NUMA_BALANCING "
            "keeps balancing away (mbind(2))",
            "take --placement default; for the bounds around it --all-placements",
        )
    if spec is None or not spec.is_driven:
        _check_undriven(asked, "a program of your own" if spec is None else spec.name, driver)
        return
    if bound:
        raise UsageError(f"--placement {bound[0]} is not of {spec.name}: its driver places its pages", "leave it out")
    options = asked.asked()
    if not spec.has_family:
        _refuse(options, _OF_FAMILY, "forktree")
    for option, choices in _CHOICES.items():
        if option in options and options[option] not in choices:
            raise UsageError(f"{option} cannot be '{options[option]}'", f"choose from {', '.join(choices)}")
    thread_nodes(asked)
    parse_obstacles(asked.obstacles)
    parse_churn(asked.churn)
    if asked.batch is not None and not 1 <= asked.batch <= MAX_BATCH:
        raise UsageError(f"--batch {asked.batch} is out of range", f"it is pages a call, from 1 to {MAX_BATCH}")
    _check_pages(asked, driver)
    if spec.has_family:
        _check_family(asked, driver)
    else:
        _check_victims(options, driver)
    _check_driver(asked, driver, options if threads is None else {**options, "--threads": threads}, threads)


def _check_pages(asked: DriveRequest, driver: Driver) -> None:
    """Refuse pages that cannot be shared, and obstacles where nobody stumbles over them."""
    pages, is_shared = asked.pages or FOUR_K, asked.sharing == "shared"
    if is_shared and pages in LARGE_FOLIOS:
        raise UsageError(f"--pages {pages} is of private memory", "leave out --sharing shared")
    if asked.obstacles is None:
        return
    if pages != FOUR_K or is_shared:
        raise UsageError("--obstacles are private pages of 4k", "leave out --pages and --sharing")
    if not driver.has_movers:
        raise UsageError(f"--obstacles are for movers, and driver {driver.name} has none", "leave it out")
    if driver.name == drivers.HOME_NODE:
        raise UsageError(
            "--obstacles are for pages that are migrated, and driver home-node places anew", "leave it out"
        )


def _check_victims(options: dict[str, object], driver: Driver) -> None:
    """Refuse what is asked of victims where there are none."""
    if options.get("--victims") or not driver.has_movers:
        return
    for option in _OF_VICTIMS:
        if option in options:
            raise UsageError(
                f"{option} is of victims, and there are none",
                "leave it out" if driver.name == drivers.HOME_NODE else "pass --victims 1, or leave it out",
            )


def family_size(asked: DriveRequest) -> int:
    """The processes of a family: the root, and the fan-out for each process of a generation above the last."""
    fanout = asked.fanout or FANOUT
    return sum(fanout**generation for generation in range((asked.depth or DEPTH) + 1))


def _check_family(asked: DriveRequest, driver: Driver) -> None:
    """Refuse what forktree does not take: its memory is one private mapping, its victims are the other processes."""
    if driver.name not in {drivers.MOVE_PAGES, "mbind", drivers.MIGRATE_PAGES, drivers.NULL}:
        raise UsageError(
            f"driver {driver.name} is not of forktree", "take move_pages, mbind, migrate_pages or null, or run pingpong"
        )
    processes = family_size(asked)
    if processes > MAX_PROCESSES:
        raise UsageError(
            f"a family of {processes:,} processes is too large",
            f"choose --depth and --fanout for {MAX_PROCESSES} at most",
        )
    others = "in forktree the other processes are the victims"
    refused = (
        (asked.victims, f"--victims {asked.victims}", others),
        (asked.victim_access, "--victim-access", others),
        (asked.victim_pattern, "--victim-pattern", others),
        (asked.victim_on, "--victim-on", others),
        (asked.verify, "--verify", "in forktree every process always compares what it must see"),
        (asked.sharing == "shared", "--sharing shared", "what children inherit is private memory"),
        (asked.mover == OUTSIDE, "--mover outside", "--mover-at says which process moves"),
        (asked.pages == HUGETLB, "--pages hugetlb", "a copy on write may find no free huge page, which kills"),
        (asked.obstacles, "--obstacles", "in forktree the other processes are in the way"),
    )
    for is_asked, option, why in refused:
        if is_asked:
            raise UsageError(f"{option} is of pingpong: {why}", "leave it out")
    if asked.mover_at == "sibling" and (driver.name == "mbind" or (asked.fanout or FANOUT) == 1):
        why = "mbind moves the caller's own memory" if driver.name == "mbind" else "an only child has no sibling"
        raise UsageError(f"--mover-at sibling cannot be: {why}", "take --mover-at child")
    pages = asked.pages or FOUR_K
    if asked.mover_at == "sibling" and pages != FOUR_K and "write" in parse_churn(asked.churn):
        raise UsageError(
            f"--pages {pages} at a sibling cannot be with --churn write, which copies base pages out of larger ones",
            "take --churn fork,mremap,split",
        )


def _check_undriven(asked: DriveRequest, who: str, driver: Driver) -> None:
    if driver.name != drivers.AUTONUMA:
        raise UsageError(
            f"--driver {driver.name} moves the memory of a workload that is made for it, and {who} is not",
            f"take pingpong: numabench run pingpong --driver {driver.name}",
        )
    _refuse(asked.asked(), tuple(option for option in asked.asked() if option != "--driver"), "pingpong and forktree")


def _refuse(options: dict[str, object], unwanted: tuple[str, ...], owner: str) -> None:
    for option in unwanted:
        if option in options:
            raise UsageError(f"{option} is an option of {owner}", "leave it out, or run that")


def _check_driver(asked: DriveRequest, driver: Driver, options: dict[str, object], threads: int | None) -> None:
    """Refuse what the driver does not take."""
    if not driver.has_movers:
        for option in _OF_MOVERS:
            if option in options:
                raise UsageError(f"{option} is of movers, and driver {driver.name} has none", "leave it out")
        if asked.victims == 0:
            raise UsageError(
                f"driver {driver.name} moves pages to who touches them: --victims 0 leaves nobody", "ask for 1"
            )
        return
    for flag in asked.flags:
        if flag not in driver.flags and flag != MOVE:
            takers = ", ".join(other.name for other in drivers.DRIVERS if flag in other.flags)
            raise UsageError(f"driver {driver.name} has no flag {flag}", f"of {takers} it is one")
    if asked.mover is not None and asked.mover not in driver.movers:
        raise UsageError(f"driver {driver.name} cannot move another process's pages", "leave out --mover outside")
    if asked.order is not None and asked.order not in driver.orders:
        raise UsageError(f"driver {driver.name} has no order {asked.order}", f"it has {', '.join(driver.orders)}")
    if asked.batch is not None and not driver.has_batches:
        raise UsageError(f"driver {driver.name} moves a whole process in one call: it has no --batch", "leave it out")
    _check_count(driver, threads)
    if driver.name == drivers.HOME_NODE and (asked.victims or asked.sharing == "shared"):
        raise UsageError(
            "driver home-node gives pages up and places them anew: nobody may hold on to them",
            "leave out --victims and --sharing shared",
        )


def _check_count(driver: Driver, threads: int | None) -> None:
    """Refuse more movers than there can be, or than a driver has work for."""
    if threads is None:
        return
    if driver.max_movers is not None and threads > driver.max_movers:
        raise UsageError(
            f"driver {driver.name} moves a whole process in one call: {threads} movers would do the same work",
            f"pass --threads {driver.max_movers}, or leave it out",
        )
    if threads > MAX_MOVERS:
        raise UsageError(f"--threads {threads} is out of range: a run has {MAX_MOVERS} movers at most", "ask for fewer")


def parse_obstacles(text: str | None) -> dict[str, int]:
    """`pinned:8,ksm:16` as counts by kind. Raises `UsageError`."""
    found: dict[str, int] = {}
    for word in (text or "").split(",") if text else ():
        kind, colon, count = word.partition(":")
        if kind not in OBSTACLES or not colon or not re.fullmatch("[1-9][0-9]{0,8}", count):
            raise UsageError(
                f"--obstacles cannot hold '{word}'", f"write KIND:COUNT, with a kind of {', '.join(OBSTACLES)}"
            )
        found[kind] = found.get(kind, 0) + int(count)
        if found[kind] > MAX_OBSTACLES:
            raise UsageError(f"--obstacles cannot hold '{word}'", f"ask for {MAX_OBSTACLES} of a kind at most")
    if found.get("ksm") == 1:
        raise UsageError("--obstacles ksm:1 has nothing to be merged with", "ask for ksm:2 or more")
    return found


def parse_churn(text: str | None) -> tuple[str, ...]:
    """`fork,write` as words; all of them where none were asked for. Raises `UsageError`."""
    if text is None:
        return CHURN
    if text == "none":
        return ()
    words = tuple(text.split(","))
    for word in words:
        if word not in CHURN:
            raise UsageError(f"--churn cannot hold '{word}'", f"choose from {', '.join(CHURN)}, or none")
    return tuple(dict.fromkeys(words))


def _node_named(option: str, place: str | None) -> int | None:
    """The node that a place for threads names by its number, None for the others. Raises `UsageError`."""
    if place is None or place in PLACES:
        return None
    if not re.fullmatch("[0-9]{1,5}", place):
        raise UsageError(f"{option} cannot be '{place}'", f"choose from {', '.join(PLACES)}, or name a node")
    return int(place)


def thread_nodes(asked: DriveRequest) -> dict[str, int]:
    """The nodes that threads are put on by name, by option. Raises `UsageError` for what is no place."""
    places = {"--mover-on": asked.mover_on, "--victim-on": asked.victim_on}
    return {option: node for option, place in places.items() if (node := _node_named(option, place)) is not None}
