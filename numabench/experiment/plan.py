"""The plan of a run: everything decided before the first trial, from what was asked and what the machine has."""

from __future__ import annotations

import mmap
import random
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from numabench.drivers import catalog as drivers
from numabench.errors import CannotRun, UsageError
from numabench.experiment import drive as driving
from numabench.experiment import drive_request
from numabench.experiment.drive_request import DriveRequest
from numabench.host import profiles
from numabench.host.knob_table import find
from numabench.host.root import LIVE, Root
from numabench.idset import format_ids, parse_ids
from numabench.record import MEASURE, OBSERVE, WARM_UP
from numabench.units import HUGE_2M, format_bytes, format_seconds
from numabench.workload import catalog

if TYPE_CHECKING:
    from numabench.experiment.drive import Drive
    from numabench.host.profiles import Profile
    from numabench.host.topology import Node, Topology
    from numabench.workload.catalog import Workload

PLACEMENTS = ("default", "hard", "inverse", "inverse-compat")
ALL_PLACEMENTS = ("default", "hard", "inverse")
THP_MODES = ("default", "always", "never")
MAPPINGS = ("one", "per-thread")
FOREIGN = "foreign"
# A node must keep room for the kernel and everybody else while a workload fills it.
USABLE_SHARE = 0.75
# A sample of 512 pages is good for 4.4 points of a share at worst, one of 128 for 8.8 (95 %); in a guest it is 20 times
# as dear, and many rough samples tell more of a migration than few good ones.
SAMPLE_PAGES, GUEST_SAMPLE_PAGES = 512, 128
DEFAULT_TIMEOUT_S = 1800.0
# What workloads of our own take (workloads/options.c).
MAX_INTERVAL_S = 3600.0


@dataclass(frozen=True)
class Request:
    """What the user asked for; None where the choice was left open.

    `knobs` are those asked for by name, above those of `profile`; with `no_tune` a plan sets none, not even those that
    its driver needs.
    """

    argv: tuple[str, ...]
    workload: str
    command: tuple[str, ...] = ()
    nodes: str = "2"
    placements: tuple[str, ...] = ("default",)
    start_node: int | None = None
    size_bytes: int | None = None
    threads: int | None = None
    loops: int | None = None
    duration_s: float | None = None
    thp: str = "default"
    mapping: str = "one"
    repeats: int = 3
    warmup: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S
    interval_s: float = 1.0
    sample_pages: int | None = None
    seed: int | None = None
    knobs: tuple[tuple[str, str], ...] = ()
    profile: Profile = field(default_factory=profiles.default)
    no_tune: bool = False
    drive: DriveRequest = field(default_factory=DriveRequest)
    observe: tuple[str, ...] = ()
    observe_repeats: int = 1
    frequency_hz: int | None = None

    @property
    def name(self) -> str:
        """The workload's name, or the foreign program's."""
        return _name(self.workload, self.command)


@dataclass(frozen=True)
class Plan:
    """A run decided: the `plan` of run.json (docs/result-format.md). `drive` is of a driven workload."""

    argv: tuple[str, ...]
    workload: str
    command: tuple[str, ...]
    nodes: tuple[int, ...]
    cpus: tuple[int, ...]
    placements: tuple[str, ...]
    start_node: int | None
    size_bytes: int
    threads: int
    loops: int
    duration_s: float | None
    thp: str
    mapping: str
    repeats: int
    warmup: int
    timeout_s: float
    interval_s: float
    sample_pages: int
    seed: int
    driver: str
    profile: str
    knobs: tuple[tuple[str, str], ...]
    observe: tuple[str, ...]
    order: tuple[tuple[str, str], ...]
    published: bool
    scaled: tuple[str, ...]
    drive: Drive | None = None

    @property
    def name(self) -> str:
        """The workload's name, or the foreign program's."""
        return _name(self.workload, self.command)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        plain = asdict(self)
        drive = plain.pop("drive") or {"mover": None, "victims": None, "verify": False, "obstacles": {}, "family": None}
        return {**plain, "knobs": dict(self.knobs), **drive}


def _name(workload: str, command: tuple[str, ...]) -> str:
    return PurePath(command[0]).name if workload == FOREIGN else workload


def asked_nodes(text: str) -> int | tuple[int, ...]:
    """What `--nodes` means: a plain number is how many, a list or range (`0,2`, `0-1`) is which.

    Raises `UsageError` for anything else, and for fewer than one node.
    """
    if text.strip().isdecimal():
        # Of nodes there are no more than numbers for them.
        (count,) = parse_ids(text)
        if count < 1:
            raise UsageError("--nodes 0 leaves nothing to run on", "ask for at least 1, or name nodes as 0,1")
        return count
    named = parse_ids(text)
    if not named:
        raise UsageError("--nodes names no node", "ask for how many, as 2, or name them as 0,1")
    return named


def guest_nodes(request: Request) -> int:
    """How many nodes a guest needs to serve the request: in a guest they are numbered from 0.

    Raises `UsageError` where the start node would not be among them.
    """
    asked = asked_nodes(request.nodes)
    named = tuple(range(asked)) if isinstance(asked, int) else asked
    check_start(request.start_node, named)
    return max((*named, *drive_request.thread_nodes(request.drive).values())) + 1


def missing_nodes(request: Request, topology: Topology) -> tuple[str, ...]:
    """Why this machine's nodes do not serve the request, one sentence each; none when they do.

    All of these are mended by a guest with enough nodes.
    """
    asked = asked_nodes(request.nodes)
    usable = [node for node in topology.nodes if _is_usable(node, topology)]
    have = {node.id for node in topology.nodes}
    lacking = tuple(
        f"{option} {number}: {_nonexistent(number, topology)}"
        for option, number in drive_request.thread_nodes(request.drive).items()
        if number not in have
    )
    if isinstance(asked, int):
        if len(usable) >= asked:
            return lacking
        noun = "memory node" if asked == 1 else "memory nodes"
        here = f"this machine has {len(usable)}" + _beside(topology, usable)
        return (f"needs {asked} {noun}, {here}",)
    return (*(reason for number in asked if (reason := _why_not(number, topology))), *lacking)


def _beside(topology: Topology, usable: list[Node]) -> str:
    others = [reason for node in topology.nodes if node not in usable and (reason := _why_not(node.id, topology))]
    return f" ({'; '.join(others)})" if others else ""


def _nonexistent(number: int, topology: Topology) -> str:
    have = format_ids(node.id for node in topology.nodes)
    return f"node {number} does not exist, this machine has node {have}"


def _why_not(number: int, topology: Topology) -> str | None:
    node = next((node for node in topology.nodes if node.id == number), None)
    if node is None:
        return _nonexistent(number, topology)
    if not node.size_bytes:
        return f"node {number} has no memory"
    if number not in topology.allowed_nodes:
        return f"node {number} is outside the caller's cpuset (Mems_allowed_list {format_ids(topology.allowed_nodes)})"
    return None


def _is_usable(node: Node, topology: Topology) -> bool:
    return node.size_bytes > 0 and node.id in topology.allowed_nodes


def choose_nodes(request: Request, topology: Topology) -> tuple[int, ...]:
    """The nodes of this machine that serve the request. Raises `CannotRun` where there are too few."""
    reasons = missing_nodes(request, topology)
    if reasons:
        raise CannotRun(request.name, reasons)
    asked = asked_nodes(request.nodes)
    if not isinstance(asked, int):
        return asked
    # Nodes with CPUs first: a node without any can hold pages but nobody who uses them.
    usable = sorted(
        (node for node in topology.nodes if _is_usable(node, topology)),
        key=lambda node: (not set(node.cpus) & set(topology.allowed_cpus), node.id),
    )
    return tuple(sorted(node.id for node in usable[:asked]))


def _clip_size(
    request: Request, spec: Workload, topology: Topology, nodes: tuple[int, ...], start: int | None
) -> tuple[int, str]:
    """The bytes per process that fit, and why they are not the published ones (empty when they are).

    `default` has everything on the start node at first, `hard` and `inverse` a share on each node. Driven memory lies
    whole on one node after another: move_pages(2) to a full one fails (ENOMEM).
    """
    free = {node.id: node.free_bytes for node in topology.nodes}
    fullest = min(nodes, key=lambda number: free[number])
    spread_bytes = len(nodes) * free[fullest]
    tightest, room_bytes = fullest, spread_bytes
    if spec.is_driven and start is not None:
        tightest = min(driving.visited(request.drive, nodes, start), key=lambda number: free[number])
        room_bytes = free[tightest]
    elif "default" in request.placements and start is not None and free[start] < spread_bytes:
        tightest, room_bytes = start, free[start]
    fits_bytes = int(room_bytes * USABLE_SHARE) // spec.processes
    if request.size_bytes is not None:
        if request.size_bytes > fits_bytes:
            raise CannotRun(
                spec.name,
                (_does_not_fit(spec.processes, request.size_bytes, tightest, free[tightest]),),
                f"pass --size {max(fits_bytes >> 20, 1)}M or less, or drop the page cache, which balancing does not "
                "reclaim: sync; echo 1 > /proc/sys/vm/drop_caches",
            )
        differs = request.size_bytes != spec.size_bytes and not spec.is_driven
        return request.size_bytes, _differs("size", spec.size_bytes, request.size_bytes, "asked") if differs else ""
    if fits_bytes >= spec.size_bytes:
        return spec.size_bytes, ""
    whole = HUGE_2M * len(nodes)
    size_bytes = max(fits_bytes // whole * whole, HUGE_2M)
    return size_bytes, _differs("size", spec.size_bytes, size_bytes, f"what node {tightest} has free")


def _does_not_fit(processes: int, size_bytes: int, node: int, free_bytes: int) -> str:
    need, have = f"{processes} x {format_bytes(size_bytes)}", format_bytes(free_bytes)
    return f"{need} do not fit: node {node} has {have} free, of which {USABLE_SHARE:.0%} may be used"


def _differs(what: str, published: int, chosen: int, why: str) -> str:
    show = format_bytes if what == "size" else str
    return f"{what} {show(published)} -> {show(chosen)} ({why})"


def _trial_order(request: Request, observe: tuple[str, ...], seed: int) -> tuple[tuple[str, str], ...]:
    """Warm-ups first; then every repeat holds each placement once, shuffled within the repeat against drift.

    What observes comes when all is measured, each repeat of it with every pass once, shuffled likewise.
    """
    order = [(placement, WARM_UP) for placement in request.placements for _ in range(request.warmup)]
    shuffled = random.Random(seed)  # noqa: S311  an experiment's order, not a secret
    for repeats, roles in (
        (request.repeats, [MEASURE]),
        (request.observe_repeats if observe else 0, [OBSERVE + name for name in observe]),
    ):
        for _ in range(repeats):
            block = [(placement, role) for role in roles for placement in request.placements]
            shuffled.shuffle(block)
            order += block
    return tuple(order)


def check_request(request: Request) -> None:
    """Refuse, with `UsageError`, what no machine could run."""
    asked_nodes(request.nodes)
    for placement in request.placements:
        if placement not in PLACEMENTS:
            raise UsageError(f"there is no placement '{placement}'", f"choose from {', '.join(PLACEMENTS)}")
    if request.thp not in THP_MODES:
        raise UsageError(f"there is no THP mode '{request.thp}'", f"choose from {', '.join(THP_MODES)}")
    if request.mapping not in MAPPINGS:
        raise UsageError(f"there is no mapping '{request.mapping}'", f"choose from {', '.join(MAPPINGS)}")
    if request.workload == "memset" and "inverse-compat" in request.placements:
        raise UsageError("there is no published inverse of memset", "use --placement inverse")
    spec = None if request.workload == FOREIGN else catalog.find(request.workload)
    is_driven = spec is not None and spec.is_driven
    if request.mapping != "one" and request.workload not in {"memset", "pingpong"}:
        raise UsageError(f"--mapping {request.mapping} is for memset and pingpong", "leave it out")
    if spec is not None and request.interval_s > MAX_INTERVAL_S:
        raise UsageError("--interval is an hour at most", "ask for 1h or less")
    drive_request.check(request.drive, spec, request.placements, threads=request.threads)
    if is_driven:
        _check_driven(request)
    if spec is None:
        _check_foreign(request)


def _check_driven(request: Request) -> None:
    """Refuse what driven workloads, unlike the others, do not take."""
    driver = drive_request.driver_of(request.drive, is_driven=True)
    balancing = dict(request.knobs).get("numa_balancing", "0")
    if driver.name != drivers.AUTONUMA and balancing != "0":
        raise UsageError(
            f"--balancing {balancing} has the kernel move pages, too, while driver {driver.name} does",
            "leave it out, or take --driver autonuma",
        )
    if request.thp != "default":
        raise UsageError(f"--thp is not of {request.workload}", "ask for huge pages by --pages thp")
    if request.drive.route == drive_request.ONE_WAY and request.loops not in (None, 1):
        raise UsageError("--route one-way is one pass, and --loops asks for more", "leave out --loops")
    if driver.name == drivers.AUTONUMA and request.loops is not None:
        raise UsageError("--loops are passes of movers, and driver autonuma has none", "pass --duration")


def _check_foreign(request: Request) -> None:
    own = {"--size": request.size_bytes, "--threads": request.threads, "--loops": request.loops}
    for option, value in own.items():
        if value is not None:
            raise UsageError(f"{option} is for numabench's own workloads", "give it to the program after '--'")
    if request.thp != "default":
        raise UsageError("--thp is for numabench's own workloads", "the program after '--' decides for its memory")
    if request.start_node is not None:
        raise UsageError(
            "--start-node is for numabench's own workloads",
            "a policy that places a program's first touches also keeps balancing away from them (mbind(2))",
        )
    if "inverse-compat" in request.placements:
        raise UsageError("--placement inverse-compat is for numa01 and numa02 alone", "use inverse")


def make_plan(
    request: Request,
    spec: Workload | None,
    topology: Topology,
    *,
    emulated: bool,
    observe: tuple[str, ...] = (),
    root: Root = LIVE,
) -> Plan:
    """Decide a run. `spec` is None for a program of the user's own; `emulated` when the CPUs are.

    `observe` are the passes that can take place here, of those that the request asks for.

    Raises `UsageError` for a request that cannot be meant, and `CannotRun` where this machine does not serve it.
    """
    check_request(request)
    nodes = choose_nodes(request, topology)
    allowed = set(topology.allowed_cpus)
    own = {cpu for node in topology.nodes if node.id in nodes for cpu in node.cpus if cpu in allowed}
    if not own:
        raise CannotRun(request.name, (f"node {format_ids(nodes)} has no CPUs that the caller may use",))
    cpus = tuple(sorted(own | driving.thread_cpus(request.drive, topology)))
    seed = request.seed if request.seed is not None else random.SystemRandom().randrange(2**31)
    start, size_bytes, threads, loops = None, 0, 0, 0
    duration_s, scaled = request.duration_s, []
    drive = None
    if spec is not None:
        start = _choose_start(request, nodes)
        if spec.is_driven:
            drive = driving.decide(request.drive, spec, topology, nodes, start)
        size_bytes, why = _clip_size(request, spec, topology, nodes, start)
        threads = _threads(request, spec, drive, len(cpus))
        _check_share(size_bytes, threads, drive, root)
        if drive is not None:
            drive = driving.settle_batch(drive, request.drive, size_bytes, threads, root)
        scaled = [why] if why else []
        if drive is None and threads != spec.threads(len(cpus)):
            scaled.append(_differs("threads", spec.threads(len(cpus)), threads, "asked"))
        _check_binds(request, spec, topology, nodes, size_bytes)
        loops, duration_s, told = _extent(request, spec, drive, emulated=emulated)
        scaled += told
    return Plan(
        argv=request.argv,
        workload=request.workload,
        command=request.command,
        nodes=nodes,
        cpus=cpus,
        placements=request.placements,
        start_node=start,
        size_bytes=size_bytes,
        threads=threads,
        loops=loops,
        duration_s=duration_s,
        thp=request.thp,
        mapping=request.mapping,
        repeats=request.repeats,
        warmup=request.warmup,
        timeout_s=request.timeout_s,
        interval_s=request.interval_s,
        sample_pages=request.sample_pages or (GUEST_SAMPLE_PAGES if emulated else SAMPLE_PAGES),
        seed=seed,
        driver=drivers.AUTONUMA if drive is None else drive.driver,
        profile=profiles.NONE if request.no_tune else request.profile.name,
        knobs=() if request.no_tune else _knobs(request, drive, topology, nodes, size_bytes, root=root),
        observe=observe,
        order=_trial_order(request, observe, seed),
        published=_is_published(request, spec) and not scaled,
        scaled=tuple(scaled),
        drive=drive,
    )


def _threads(request: Request, spec: Workload, drive: Drive | None, cpus: int) -> int:
    """Threads of each process; where it is driven, its movers."""
    if drive is not None and not drivers.find(drive.driver).has_movers:
        return 0
    return request.threads if request.threads is not None else spec.threads(cpus)


def _check_share(size_bytes: int, threads: int, drive: Drive | None, root: Root) -> None:
    """Refuse memory of which some thread, or a part of a family's memory, would have no page."""
    page_bytes = mmap.PAGESIZE if drive is None else driving.unit_bytes(drive.mover.pages, root)
    slices = max(threads, 1)
    slice_pages = size_bytes // slices // page_bytes
    less = f"--size {size_bytes} leaves less than a page of {page_bytes} bytes"
    if not slice_pages:
        raise UsageError(f"{less} for each of {slices} threads", "ask for more memory, or fewer threads")
    if drive is not None and drive.family is not None and slices * slice_pages < driving.FAMILY_PARTS:
        needed = -(-driving.FAMILY_PARTS // slices) * slices * page_bytes
        raise UsageError(
            f"{less} for each quarter, of which each is treated otherwise", f"ask for {needed} bytes or more"
        )


def _extent(
    request: Request, spec: Workload, drive: Drive | None, *, emulated: bool
) -> tuple[int, float | None, list[str]]:
    """Loops (0: by the clock alone), duration, and what of that is not the workload's own.

    Where both were asked the first to come ends it. A driven workload is not told what was asked: it has no published
    numbers.
    """
    asked = [] if drive else ["asked"]
    if drive is not None and drive.mover.route == drive_request.ONE_WAY:
        return 1, request.duration_s, []
    if drive is not None and drive.driver == drivers.AUTONUMA:
        return 0, request.duration_s or driving.BALANCING_S, []
    if emulated and request.duration_s is None and request.loops is None:
        told = f"{spec.loops} loops -> {format_seconds(spec.emulated_s)} (the CPUs are emulated)"
        return 0, spec.emulated_s, [told]
    if request.duration_s is not None and request.loops is None:
        return (
            0,
            request.duration_s,
            [f"{spec.loops} loops -> {format_seconds(request.duration_s)} ({why})" for why in asked],
        )
    loops = spec.loops if request.loops is None else request.loops
    return (
        loops,
        request.duration_s,
        [_differs("loops", spec.loops, loops, why) for why in asked if loops != spec.loops],
    )


def _knobs(
    request: Request, drive: Drive | None, topology: Topology, nodes: tuple[int, ...], size_bytes: int, *, root: Root
) -> tuple[tuple[str, str], ...]:
    """The knobs of the profile that are here; above these what the driver needs, and what was asked."""
    of_profile = profiles.here(request.profile, root)
    if drive is None:
        needed = dict(drivers.find(drivers.AUTONUMA).knobs)
    else:
        needed = driving.knobs(drive, topology, nodes, size_bytes, root)
    own = {**needed, **dict(request.knobs)}
    taken = {find(name).name for name in own}
    return tuple({**{name: value for name, value in of_profile.items() if name not in taken}, **own}.items())


def _check_binds(request: Request, spec: Workload, topology: Topology, nodes: tuple[int, ...], size_bytes: int) -> None:
    """Refuse a placement that binds threads or memory where there is nothing to bind to."""
    chosen = [node for node in topology.nodes if node.id in nodes]
    for placement in request.placements:
        if placement != "default" and len(nodes) == 1:
            raise CannotRun(f"placement {placement}", ("it needs 2 nodes, the run has 1",))
        if placement != "default":
            reasons = catalog.requirements(spec, chosen, placement=placement, size_bytes=size_bytes)
            if reasons:
                raise CannotRun(spec.name, reasons)


def _choose_start(request: Request, nodes: tuple[int, ...]) -> int:
    if request.start_node is None:
        return nodes[0]
    check_start(request.start_node, nodes)
    return request.start_node


def _is_published(request: Request, spec: Workload | None) -> bool:
    """Whether, sizes apart, this is what was published: the true swap and huge pages by request are not."""
    return (
        spec is not None
        and spec.origin == catalog.AUTONUMA
        and request.thp == "default"
        and "inverse" not in request.placements
    )


def check_start(start_node: int | None, nodes: tuple[int, ...]) -> None:
    """Refuse, with `UsageError`, a start node that is not among the run's nodes."""
    if start_node is not None and start_node not in nodes:
        raise UsageError(
            f"--start-node {start_node} is not one of the run's nodes ({format_ids(nodes)})",
            "choose one of them, or name the nodes as --nodes 0,1",
        )
