"""How a driven workload is moved: what is decided of its driver, movers, victims and family."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.drivers import catalog as drivers
from numabench.drivers.driver import INSIDE, MOVE, Circumstances
from numabench.errors import CannotRun, UsageError
from numabench.experiment.drive_request import (
    DEPTH,
    FANOUT,
    FOUR_K,
    HUGETLB,
    LARGE_FOLIOS,
    ONE_WAY,
    PING_PONG,
    THP,
    DriveRequest,
    driver_of,
    parse_churn,
    parse_obstacles,
    thread_nodes,
)
from numabench.host import huge_pages, libnuma
from numabench.idset import format_ids
from numabench.record import FamilyPlan, MoverPlan, VictimPlan
from numabench.units import HUGE_2M, KIB, format_bytes, parse_size

if TYPE_CHECKING:
    from numabench.drivers.driver import Driver
    from numabench.host.root import Root
    from numabench.host.topology import Topology
    from numabench.workload.catalog import Workload

DEFAULT_BATCH = 512
MAX_VICTIMS = 64
# Balancing has no pass that could end: it is watched for this long.
BALANCING_S = 25.0
# Processes of a family treat each quarter of their memory otherwise (workloads/churn.c).
FAMILY_PARTS = 4


@dataclass(frozen=True)
class Drive:
    """What is decided: parts of the plan (docs/result-format.md). `family` is of forktree alone."""

    driver: str
    mover: MoverPlan
    victims: VictimPlan
    verify: bool
    obstacles: dict[str, int]
    family: FamilyPlan | None


def target_of(nodes: tuple[int, ...], source: int) -> int:
    """The next node after the source, in a ring."""
    return nodes[(nodes.index(source) + 1) % len(nodes)]


def visited(asked: DriveRequest, nodes: tuple[int, ...], source: int) -> tuple[int, ...]:
    """The nodes on which all of the memory may lie at one time."""
    return (source, target_of(nodes, source)) if asked.route == ONE_WAY else nodes


class BatchTooLarge(UsageError):
    """More pages a call than a mover has. Of a sweep's cells some may be so: batches times page types times movers."""


def unit_bytes(pages: str, root: Root) -> int:
    """The size of the pages that were asked for; where the kernel has no hugetlb pages, what they would have."""
    if pages == HUGETLB:
        return huge_pages.hugetlb_bytes(root) or HUGE_2M
    return {FOUR_K: 4 * KIB, THP: HUGE_2M}.get(pages) or parse_size(pages)


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
        count = min(count, MAX_VICTIMS)
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
            mover=asked.mover or (INSIDE if spec.has_family else driver.movers[0]),
            flags=asked.flags if driver.has_movers and driver.flags else (),
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
        obstacles=parse_obstacles(asked.obstacles),
        family=_family(asked) if spec.has_family else None,
    )


def _batch(asked: DriveRequest, driver: Driver, pages: str) -> int | None:
    if not driver.has_batches:
        return None
    return asked.batch or (1 if pages == THP else DEFAULT_BATCH)


def settle_batch(drive: Drive, asked: DriveRequest, size_bytes: int, threads: int, root: Root) -> Drive:
    """The drive with a batch that a mover's slice has pages for. Raises `BatchTooLarge` where one asked for is more.

    Slices are of equal size, one for each of the `threads` that move.
    """
    batch, page_bytes = drive.mover.batch, unit_bytes(drive.mover.pages, root)
    pages = size_bytes // max(threads, 1) // page_bytes
    if batch is None or batch <= pages:
        return drive
    if asked.batch is not None:
        raise BatchTooLarge(
            f"--batch {batch} is more than the {pages} pages of {format_bytes(page_bytes)} that a mover has",
            "ask for a smaller batch, more memory (--size) or fewer movers (--threads)",
        )
    return replace(drive, mover=replace(drive.mover, batch=pages))


def _family(asked: DriveRequest) -> FamilyPlan:
    return FamilyPlan(
        asked.depth or DEPTH, asked.fanout or FANOUT, asked.mover_at or "parent", parse_churn(asked.churn)
    )


def _cpus(topology: Topology, nodes: tuple[int, ...]) -> set[int]:
    """The CPUs of some nodes that the caller may use."""
    return {cpu for node in topology.nodes if node.id in nodes for cpu in node.cpus} & set(topology.allowed_cpus)


def thread_cpus(asked: DriveRequest, topology: Topology) -> set[int]:
    """The CPUs of the nodes that threads are put on by name."""
    return _cpus(topology, tuple(thread_nodes(asked).values()))


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
    if pages == HUGETLB and huge_pages.hugetlb_bytes(root) is None:
        return "this kernel has no hugetlb pages (CONFIG_HUGETLBFS)"
    if pages in LARGE_FOLIOS and not huge_pages.has_large_folios(root, unit_bytes(pages, root) // KIB):
        return "this kernel has no folios of that size for anonymous memory, which Linux has since 6.8"
    return None


def knobs(drive: Drive, topology: Topology, nodes: tuple[int, ...], size_bytes: int, root: Root) -> dict[str, str]:
    """The knobs that the drive needs, by short names, with their values."""
    wanted = dict(drivers.find(drive.driver).knobs)
    pages = drive.mover.pages
    if pages == THP and huge_pages.thp_enabled(root) == "never":
        wanted["thp_enabled"] = "madvise"
    if pages in LARGE_FOLIOS:
        wanted |= _folio_knobs(unit_bytes(pages, root) // KIB, root)
    if pages == HUGETLB:
        wanted |= _hugetlb_knobs(topology, nodes, size_bytes, unit_bytes(pages, root))
    if "ksm" in drive.obstacles:
        wanted["ksm_run"] = "1"
    return wanted


def _folio_knobs(size_kib: int, root: Root) -> dict[str, str]:
    """Folios of that size and of none above it: a fault takes the largest that is on (mm/memory.c)."""
    larger = [size for size in huge_pages.FOLIOS_KIB if size > size_kib and huge_pages.has_large_folios(root, size)]
    return {f"hugepages-{size_kib}kB": "madvise", **{f"hugepages-{size}kB": "never" for size in larger}}


def _hugetlb_knobs(topology: Topology, nodes: tuple[int, ...], size_bytes: int, page_bytes: int) -> dict[str, str]:
    """As many huge pages on each node of the ring as the memory needs, beside those that are in use.

    The workload demands them of all, whatever the route: what a driver is asked for must not fail for want of a page.
    """
    needed = -(-size_bytes // page_bytes)
    pools = {
        node.id: pool
        for node in topology.nodes
        if node.id in nodes
        for pool in node.huge_pages
        if pool.page_bytes == page_bytes and pool.free < needed
    }
    return {
        f"node{node}-hugepages-{page_bytes // KIB}kB": str(pool.total - pool.free + needed)
        for node, pool in pools.items()
    }


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
            "--order": mover.order,
            "--mover-on": mover.mover_on,
            "--route": mover.route,
            "--retries": mover.retries,
        }
    if mover.flags:
        found["--flags"] = ",".join(mover.flags)
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
