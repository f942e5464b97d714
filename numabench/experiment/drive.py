"""How a driven workload is to be moved: what was asked of drivers, movers and victims, and what is decided."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from numabench.drivers import catalog as drivers
from numabench.drivers.driver import MOVE, MOVE_ALL, OUTSIDE, STRICT, Circumstances
from numabench.errors import CannotRun, UsageError
from numabench.host import huge_pages, libnuma
from numabench.idset import format_ids
from numabench.record import FamilyPlan, MoverPlan, VictimPlan
from numabench.units import HUGE_2M, KIB, parse_size

if TYPE_CHECKING:
    from numabench.drivers.driver import Driver
    from numabench.host.root import Root
    from numabench.host.topology import Topology
    from numabench.workload.catalog import Workload

FOUR_K, THP, HUGETLB = "4k", "thp", "hugetlb"
# Folios between a base page and a huge one, by the sizes that x86 has knobs for.
LARGE_FOLIOS = ("16k", "32k", "64k", "128k", "256k", "512k", "1m")
PAGES = (FOUR_K, THP, HUGETLB, *LARGE_FOLIOS)
PLACES = ("all", "source", "target")
PING_PONG, ONE_WAY = "ping-pong", "one-way"
OBSTACLES = ("untouched", "zero", "pinned", "unmapped", "ksm")
CHURN = ("fork", "mremap", "split", "write")
MAX_BATCH = 1 << 20
DEFAULT_BATCH = 512
# Balancing has no pass that could end: it is watched for this long.
BALANCING_S = 25.0


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


@dataclass(frozen=True)
class Drive:
    """What is decided: parts of the plan (docs/result-format.md). `family` is of forktree alone."""

    driver: str
    mover: MoverPlan
    victims: VictimPlan
    verify: bool
    obstacles: dict[str, int]
    family: FamilyPlan | None


_OF_FAMILY = ("--depth", "--fanout", "--mover-at", "--churn")
_OF_MOVERS = ("--mover", "--move-all", "--strict", "--batch", "--order", "--mover-on", "--route", "--retries")
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
    _parse_counts(asked.obstacles)
    _parse_churn(asked.churn)
    if asked.batch is not None and not 1 <= asked.batch <= MAX_BATCH:
        raise UsageError(f"--batch {asked.batch} is out of range", f"it is pages a call, from 1 to {MAX_BATCH}")
    _check_driver(asked, driver, options, threads)


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
        for option in (*_OF_MOVERS, *(("--threads",) if threads is not None else ())):
            if option in options or option == "--threads":
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
    if threads is not None and driver.max_movers is not None and threads > driver.max_movers:
        raise UsageError(
            f"driver {driver.name} moves a whole process in one call: {threads} movers would do the same work",
            f"pass --threads {driver.max_movers}, or leave it out",
        )
    if driver.name == drivers.HOME_NODE and (asked.victims or asked.sharing == "shared"):
        raise UsageError(
            "driver home-node gives pages up and places them anew: nobody may hold on to them",
            "leave out --victims and --sharing shared",
        )


def _parse_counts(text: str | None) -> dict[str, int]:
    """`pinned:8,ksm:16` as counts by kind."""
    found: dict[str, int] = {}
    for word in (text or "").split(",") if text else ():
        kind, colon, count = word.partition(":")
        if kind not in OBSTACLES or not colon or not re.fullmatch("[1-9][0-9]{0,8}", count):
            raise UsageError(
                f"--obstacles cannot hold '{word}'", f"write KIND:COUNT, with a kind of {', '.join(OBSTACLES)}"
            )
        found[kind] = found.get(kind, 0) + int(count)
    return found


def _parse_churn(text: str | None) -> tuple[str, ...]:
    if text is None:
        return CHURN
    if text == "none":
        return ()
    words = tuple(text.split(","))
    for word in words:
        if word not in CHURN:
            raise UsageError(f"--churn cannot hold '{word}'", f"choose from {', '.join(CHURN)}, or none")
    return tuple(dict.fromkeys(words))


def node_named(place: str | None) -> int | None:
    """The node that `--mover-on` or `--victim-on` names by its number, None for the others."""
    if place is None or place in PLACES:
        return None
    if not re.fullmatch("[0-9]{1,5}", place):
        raise UsageError(f"'{place}' is not a place for threads", f"choose from {', '.join(PLACES)}, or name a node")
    return int(place)


def target_of(nodes: tuple[int, ...], source: int) -> int:
    """The next node after the source, in a ring."""
    return nodes[(nodes.index(source) + 1) % len(nodes)]


def visited(asked: DriveRequest, nodes: tuple[int, ...], source: int) -> tuple[int, ...]:
    """The nodes on which all of the memory may lie at one time."""
    return (source, target_of(nodes, source)) if asked.route == ONE_WAY else nodes


def unit_bytes(pages: str) -> int:
    """The size of the pages that were asked for."""
    return {FOUR_K: 4 * KIB, THP: HUGE_2M, HUGETLB: HUGE_2M}.get(pages) or parse_size(pages)


def decide(asked: DriveRequest, spec: Workload, topology: Topology, nodes: tuple[int, ...], source: int) -> Drive:
    """Everything about movers and victims. Raises `CannotRun` where a place for them has no CPUs."""
    driver = driver_of(asked, is_driven=True)
    target = target_of(nodes, source)
    if source == target and driver.name != drivers.NULL:
        raise CannotRun(
            f"driver {driver.name}",
            (f"source and target are both node {source}, and a move that moves nothing succeeds",),
            "ask for two nodes or more: --nodes 2",
        )
    pages = asked.pages or FOUR_K
    on = {"all": nodes, "source": (source,), "target": (target,)}
    mover_on, victim_on = asked.mover_on or "all", asked.victim_on or "target"
    count = asked.victims
    if count is None:
        count = 0 if driver.has_movers else len(_cpus(topology, on.get(victim_on) or (int(victim_on),)))
    for option, place, is_used in (
        ("--mover-on", mover_on, driver.has_movers),
        ("--victim-on", victim_on, count > 0 or not driver.has_movers),
    ):
        there = on.get(place) or (int(place),)
        if is_used and not _cpus(topology, there):
            raise CannotRun(
                f"{option} {place}",
                (f"node {format_ids(there)} has no CPUs that the caller may use",),
                f"choose a node that has some: {option} NODE",
            )
    return Drive(
        driver=driver.name,
        mover=MoverPlan(
            mover=asked.mover or "inside",
            flags=asked.flags if driver.has_movers else (),
            batch=_batch(asked, driver, pages),
            order=asked.order or "sequential",
            pages=pages,
            mover_on=mover_on,
            route=asked.route or PING_PONG,
            retries=10 if asked.retries is None else asked.retries,
            sharing=asked.sharing or "private",
        ),
        victims=VictimPlan(count, asked.victim_access or "write", asked.victim_pattern or "sequential", victim_on),
        verify=bool(asked.verify),
        obstacles=_parse_counts(asked.obstacles),
        family=_family(asked) if spec.has_family else None,
    )


def _batch(asked: DriveRequest, driver: Driver, pages: str) -> int | None:
    if not driver.has_batches:
        return None
    return asked.batch or (1 if pages == THP else DEFAULT_BATCH)


def _family(asked: DriveRequest) -> FamilyPlan:
    return FamilyPlan(asked.depth or 3, asked.fanout or 2, asked.mover_at or "parent", _parse_churn(asked.churn))


def _cpus(topology: Topology, nodes: tuple[int, ...]) -> set[int]:
    """The CPUs of some nodes that the caller may use."""
    return {cpu for node in topology.nodes if node.id in nodes for cpu in node.cpus} & set(topology.allowed_cpus)


def thread_nodes(asked: DriveRequest) -> set[int]:
    """The nodes that threads are put on by name. Raises `UsageError` for what is no place."""
    return {node for place in (asked.mover_on, asked.victim_on) if (node := node_named(place)) is not None}


def thread_cpus(asked: DriveRequest, topology: Topology) -> set[int]:
    """The CPUs of the nodes that threads are put on by name."""
    return _cpus(topology, tuple(thread_nodes(asked)))


def require(drive: Drive, root: Root) -> None:
    """Raise `CannotRun` where the driver, or the pages asked for, cannot be had here."""
    here = Circumstances(libnuma.probe(), drive.mover.flags or (MOVE,), root)
    reasons = drivers.find(drive.driver).requirements(here)
    if reasons:
        raise CannotRun(f"driver {drive.driver}", reasons)
    lacking = _lacking_pages(drive.mover.pages, root)
    if lacking:
        raise CannotRun(f"--pages {drive.mover.pages}", (lacking,))


def _lacking_pages(pages: str, root: Root) -> str | None:
    if pages == THP and huge_pages.thp_enabled(root) is None:
        return "this kernel has no transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE)"
    if pages in LARGE_FOLIOS and not huge_pages.has_large_folios(root, unit_bytes(pages) // KIB):
        return "this kernel has no folios of that size for anonymous memory, which Linux has since 6.8"
    return None


def knobs(drive: Drive, topology: Topology, size_bytes: int, source: int, root: Root) -> dict[str, str]:
    """The knobs that the drive needs, by short names, with their values."""
    wanted = dict(drivers.find(drive.driver).knobs)
    pages = drive.mover.pages
    if pages == THP and huge_pages.thp_enabled(root) == "never":
        wanted["thp_enabled"] = "madvise"
    if pages in LARGE_FOLIOS:
        wanted[f"hugepages-{unit_bytes(pages) // KIB}kB"] = "madvise"
    if pages == HUGETLB:
        wanted |= _hugetlb_knobs(topology, size_bytes, source)
    if "ksm" in drive.obstacles:
        wanted["ksm_run"] = "1"
    return wanted


def _hugetlb_knobs(topology: Topology, size_bytes: int, source: int) -> dict[str, str]:
    """As many huge pages on the source node as the memory needs, beside those that are in use."""
    (node,) = (node for node in topology.nodes if node.id == source)
    pool = next((pool for pool in node.huge_pages if pool.page_bytes == HUGE_2M), None)
    needed = -(-size_bytes // HUGE_2M)
    if pool is None or pool.free >= needed:
        return {}
    return {f"node{source}-hugepages-2048kB": str(pool.total - pool.free + needed)}


def options(drive: Drive) -> dict[str, str | int]:
    """The options of docs/workload-protocol.md for it."""
    driver = drivers.find(drive.driver)
    mover, victims = drive.mover, drive.victims
    found: dict[str, str | int] = {
        "--driver": drive.driver,
        "--pages": mover.pages,
        "--sharing": mover.sharing,
        "--victims": victims.count,
        "--victim-access": victims.access,
        "--victim-pattern": victims.pattern,
        "--victim-on": victims.on,
        "--verify": int(drive.verify),
    }
    if driver.has_movers:
        found |= {
            "--mover": mover.mover,
            "--flags": ",".join(mover.flags),
            "--order": mover.order,
            "--mover-on": mover.mover_on,
            "--route": mover.route,
            "--retries": mover.retries,
        }
    if mover.batch is not None:
        found["--batch"] = mover.batch
    if drive.obstacles:
        found["--obstacles"] = ",".join(f"{kind}:{count}" for kind, count in drive.obstacles.items())
    if drive.family is not None:
        family = drive.family
        found |= {
            "--depth": family.depth,
            "--fanout": family.fanout,
            "--mover-at": family.mover_at,
            "--churn": ",".join(family.churn) or "none",
        }
    return found
