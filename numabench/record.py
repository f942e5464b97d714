"""A run as recorded: what docs/result-format.md describes, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MEASURE, WARM_UP = "measure", "warmup"
# Before the name of what a pass observes: `observe:cpu`.
OBSERVE = "observe:"
KILLED = "killed"
# Drivers that are unlike the others: no call of ours, no call at all, and one that places pages anew.
AUTONUMA, NULL, HOME_NODE = "autonuma", "null", "home-node"
WORKER, MOVER, VICTIM = "worker", "mover", "victim"
RUNNING = "running"
# What a finding about the machine does to a run: nothing can be run, its figures are off or may be, or good to know.
BLOCKS, BIASES, INFORMS = "blocks", "biases", "informs"
# What became of a sweep's unit.
DONE, CANNOT_RUN, LOST, DAMAGED, PENDING = "done", "cannot-run", "lost", "damaged", "pending"


@dataclass(frozen=True)
class MoverPlan:
    """How movers were to move pages, in the words of the options (docs/workload-protocol.md).

    `batch` is in units a call, None where a driver has no batches.
    """

    mover: str
    flags: tuple[str, ...]
    batch: int | None
    order: str
    pages: str
    mover_on: str
    route: str
    retries: int
    sharing: str


@dataclass(frozen=True)
class VictimPlan:
    """How many threads were to touch the pages meanwhile, and how."""

    count: int
    access: str
    pattern: str
    on: str


@dataclass(frozen=True)
class FamilyPlan:
    """The processes that were to inherit the memory, which of them moves it, and what the others do meanwhile."""

    depth: int
    fanout: int
    mover_at: str
    churn: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What reports use of a run's plan; None where it was not recorded or there was none to decide.

    `order` has a placement and a role a trial; `knobs` are by their short names, and empty where none was to be set.
    `threads` is the number of movers where the workload is driven, which is where `mover` or `victims` are there.
    """

    argv: tuple[str, ...]
    driver: str
    order: tuple[tuple[str, str], ...]
    size_bytes: int
    threads: int
    loops: int
    duration_s: float | None
    start_node: int | None
    interval_s: float | None
    seed: int | None
    scaled: tuple[str, ...]
    knobs: dict[str, str] | None
    mover: MoverPlan | None = None
    victims: VictimPlan | None = None
    verify: bool = False
    obstacles: dict[str, int] = field(default_factory=dict)
    family: FamilyPlan | None = None

    @property
    def has_movers(self) -> bool:
        """Whether movers called a driver; else the kernel was to migrate by itself."""
        return self.driver != AUTONUMA


@dataclass(frozen=True)
class Machine:
    """What reports use of a run's identity; what is not known is an empty text or 0.

    `knobs` are the values in force when the first trial began, by full name.
    """

    where: str
    accelerator: str
    virtualization: str
    hostname: str
    kernel_release: str
    kernel_version: str
    cpu_model: str
    cpu_count: int
    thp_enabled: str
    knobs: dict[str, str]


@dataclass(frozen=True)
class KnobWrite:
    """A knob that the run wanted: what it held before, and whether it was `set`, `kept`, `denied` or `absent`."""

    name: str
    path: str
    before: str
    wanted: str
    outcome: str
    message: str


@dataclass(frozen=True)
class KnobRestore:
    """A knob put back: `restored`, `foreign` (somebody else changed it meanwhile: left alone) or `failed`."""

    name: str
    path: str
    value: str
    outcome: str
    message: str


@dataclass(frozen=True)
class Note:
    """Something that was known when the run began: what, and what to do about it."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class MachineFinding:
    """Something about the machine's state that stands between it and a valid run.

    `weight` is `blocks`, `biases` or `informs`; `subject` what was looked at; `cause` what was seen there, `effect`
    what it does to which result, `remedy` the command that mends it or what to do, and `source` where to read of it.
    """

    code: str
    weight: str
    subject: str
    cause: str
    effect: str
    remedy: str
    source: str = ""


@dataclass(frozen=True)
class Clock:
    """A trial's moments in CLOCK_MONOTONIC nanoseconds; None for what did not come."""

    started_ns: int | None
    ready_ns: int | None
    go_ns: int | None
    stop_ns: int | None
    ended_ns: int | None


@dataclass(frozen=True)
class MemorySlice:
    """Memory that some threads of one process use; `threads` are the `WorkloadThread.index` of each."""

    pid: int
    size_bytes: int
    threads: tuple[int, ...]


@dataclass(frozen=True)
class WorkloadThread:
    """A thread of the workload; `index` counts over all processes and is its place in a sample's `cpu_nodes`.

    `role` is `mover`, `victim`, or `worker`; `cpus` those that it may use, in the kernel's list format.
    """

    index: int
    pid: int
    tid: int
    name: str
    policy: str
    role: str = WORKER
    cpus: str = ""


@dataclass(frozen=True)
class ThreadWork:
    """What one thread had done when it stopped."""

    pid: int
    thread: int
    stored_bytes: int
    elapsed_ns: int
    cpu_ns: int


@dataclass(frozen=True)
class Latency:
    """How long something took, each time: a histogram in nanoseconds.

    `buckets` are (lowest value, count), ascending, only those that hold something; 32 to a power of two, exact below
    64 ns.
    """

    min_ns: int
    max_ns: int
    sum_ns: int
    buckets: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many times."""
        return sum(count for _, count in self.buckets)


@dataclass(frozen=True)
class Direction:
    """What a mover moved from the node `source` to the node `target`: confirmed units, and the calls for it."""

    source: int
    target: int
    units: int
    calls: int
    busy_ns: int
    latency: Latency


@dataclass(frozen=True)
class MixedCalls:
    """Calls whose pages went several ways at once, so that they are of no direction."""

    calls: int
    busy_ns: int
    latency: Latency


@dataclass(frozen=True)
class MoverWork:
    """What one mover asked for and got, in units, and what its calls returned.

    `requested` are units asked for at least once a pass; `confirmed` those that were elsewhere before and found on
    their target; `already` those that were there before; `left` those that were not there after all retries. `retried`
    counts units asked for again. `status` has every status that was not the target's node, by errno's name, each time
    it was seen; `unset` where none came back and no query could tell. `positive` are calls that returned more than 0,
    `asked_again` queries because statuses were untouched. `elapsed_ns` is from GO to its last call; `query_ns`, in
    queries of any kind, is a part of it that is not the driver's. `directions` have all pages, but no calls that went
    several ways at once: these are `mixed`.
    """

    pid: int
    thread: int
    passes: int
    calls: int
    call_errors: dict[str, int]
    positive: int
    requested: int
    confirmed: int
    already: int
    retried: int
    left: int
    status: dict[str, int]
    asked_again: int
    query_ns: int
    elapsed_ns: int
    cpu_ns: int
    directions: tuple[Direction, ...]
    mixed: MixedCalls | None = None

    @property
    def call_ns(self) -> int:
        """The time in the driver's calls."""
        mixed_ns = 0 if self.mixed is None else self.mixed.busy_ns
        return mixed_ns + sum(direction.busy_ns for direction in self.directions)


@dataclass(frozen=True)
class UnitCheck:
    """What became of the pages of the type asked for: how many of them were no single page any more at the end.

    Where the kernel did not let them be looked at (`is_seen`), `split` are those whose ends are on two nodes.
    """

    units: int
    split: int
    is_seen: bool


@dataclass(frozen=True)
class MoverCall:
    """A mover's call: by which thread, from when to when (0: it was under way), and between which nodes."""

    thread: int
    begin_ns: int
    end_ns: int
    source: int
    target: int


@dataclass(frozen=True)
class LongAccess:
    """One of a victim's longest accesses: `t_ns` is its end, `page` the base page's number in the memory.

    `call` is the last mover's call that covered the page, None where there was none or it was not recorded.
    """

    t_ns: int
    ns: int
    page: int
    is_write: bool
    call: MoverCall | None = None


@dataclass(frozen=True)
class VictimWork:
    """What one victim's accesses took; `clock_ns`, what two readings of the clock cost, is in each of them.

    `preempted` is how often another thread was put on its CPU while it had work, None where it was not counted;
    `longest` are the longest first; `checked` words were compared with what had been stored, and `wrong` differed.
    """

    pid: int
    thread: int
    accesses: int
    elapsed_ns: int
    cpu_ns: int
    clock_ns: int
    latency: Latency
    longest: tuple[LongAccess, ...]
    checked: int
    wrong: int
    preempted: int | None = None


@dataclass(frozen=True)
class WrongWord:
    """A word that did not hold what was stored there, found while pages moved.

    `page` is the base page's number in the memory and `offset` the byte's in it; `kind` is `stale`, `other-page`,
    `garbage` or `zero`; `call` the last mover's call that covered the page, None where there was none, or where too
    many came after it (`is_call_forgotten`). `thread` is who found it, or -1 where a process of a family did, or the
    last check in a line that no thread writes.
    """

    pid: int
    thread: int
    t_ns: int
    address: int
    page: int
    offset: int
    expected: int
    found: int
    kind: str
    call: MoverCall | None
    is_call_forgotten: bool = False


@dataclass(frozen=True)
class Family:
    """Processes that inherited one memory, and what they did while it was moved.

    `vmas_per_page` is how many of them map each page, which is how long a walk over the root's anon_vma is; `chain` the
    anon_vma_chain entries of a mapping, by generation; `mapmax` that of numa_maps, None where it was not to be had.
    """

    processes: int
    depth: int
    fanout: int
    vmas_per_page: int
    chain: tuple[int, ...]
    mapmax: int | None
    forks: int
    mremaps: int
    splits: int
    writes: int


@dataclass(frozen=True)
class DataCheck:
    """How much was read back at the end, and how many bytes held what no thread can have left there."""

    checked_bytes: int
    wrong_bytes: int
    first_wrong: dict[str, Any] | None


@dataclass(frozen=True)
class PageCensus:
    """Every page's node at READY and at the end, and the pages that changed node, by (from, to)."""

    before: dict[int, int]
    after: dict[int, int]
    before_status: dict[str, int]
    after_status: dict[str, int]
    moved: dict[tuple[int, int], int]
    unknown: int


@dataclass(frozen=True)
class Snapshot:
    """The kernel's counters at one moment; what a kernel lacks is absent.

    `cpu_stalled_us` is for how long some task had waited for a CPU (Documentation/accounting/psi.rst); `lock_events`
    are those of rw-semaphores, which only kernels with CONFIG_LOCK_EVENT_COUNTS count.
    """

    t_ns: int
    vmstat: dict[str, int]
    interrupts: dict[str, int]
    nodes: dict[str, Any]
    sched: dict[str, Any]
    pressure: dict[str, Any]
    loadavg: tuple[float, ...]
    cpu_stalled_us: int | None
    lock_events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Where sampled pages and all threads were at one moment.

    `pages` has a row a slice, with a column a node of the plan and one for everywhere else. `slice_bytes` is None
    where the trial's slices stayed as they were. `due_ns` is when it was planned, None for the ones before GO and after
    the stop.
    """

    t_ns: int
    pages: tuple[tuple[int, ...], ...]
    cpu_nodes: tuple[int, ...]
    status: dict[str, int]
    vmstat: dict[str, int]
    slice_bytes: tuple[int, ...] | None = None
    due_ns: int | None = None

    @property
    def has_pages(self) -> bool:
        """Whether any page was found: a program of the user's own has none before its start and after its end."""
        return any(sum(row) for row in self.pages)


@dataclass(frozen=True)
class SamplerCost:
    """What sampling took: `busy_share` is of one CPU."""

    samples: int
    interval_ns: int
    cpu_ns: int
    busy_share: float


@dataclass(frozen=True)
class Observed:
    """What was attached to a trial in a pass of its own.

    `file` is the recording or the counts, None where the pass failed before it was written, and `size_bytes` its size;
    `kallsyms` the kernel's symbols. `enabled_ns` and `disabled_ns` of CLOCK_MONOTONIC enclose what was recorded.
    `functions` has the kernel's functions by the events that count them, `not_counted` the reasons why others are not
    counted, by function; `missed` are the entries that a probe missed.
    """

    recipe: str
    file: Path | None
    kallsyms: Path | None
    events: tuple[str, ...]
    frequency_hz: int | None
    size_bytes: int
    perf_version: str
    enabled_ns: int | None
    disabled_ns: int | None
    functions: dict[str, str]
    not_counted: dict[str, str]
    missed: dict[str, int]


@dataclass(frozen=True)
class Trial:
    """One trial that was started.

    `status` is `ok`, `workload-failed`, `observe-failed`, `timeout` or `interrupted`; `role` is `measure`, `warmup`, or
    `observe:` and what was observed.

    `knobs` are the values in force at its end, by full name; empty where they were not recorded.

    `movers` and `victims` are of a driven workload, `flags` those that its driver moved with; `unit_bytes` is the page
    that its movers count in, and `unit_pages` how many base pages that is.
    """

    index: int
    placement: str
    role: str
    status: str
    message: str
    exit_status: int | None
    clock: Clock
    slices: tuple[MemorySlice, ...]
    threads: tuple[WorkloadThread, ...]
    done: tuple[ThreadWork, ...]
    check: DataCheck | None
    first_touch: dict[int, int] | None
    before: Snapshot | None
    after: Snapshot | None
    pages: PageCensus | None
    sampler: SamplerCost
    samples: tuple[Sample, ...]
    knobs: dict[str, str]
    observed: Observed | None = None
    movers: tuple[MoverWork, ...] = ()
    victims: tuple[VictimWork, ...] = ()
    wrong_words: tuple[WrongWord, ...] = ()
    family: Family | None = None
    units: UnitCheck | None = None
    flags: tuple[str, ...] = ()
    unit_bytes: int | None = None
    unit_pages: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it is a measured trial that went well."""
        return self.role == MEASURE and self.status == "ok"

    def slice_bytes(self, sample: Sample, row: int) -> int | None:
        """The size of the slice that a row of a sample is of; None where it was not recorded."""
        if sample.slice_bytes is not None:
            return sample.slice_bytes[row]
        return self.slices[row].size_bytes if len(self.slices) == len(sample.pages) else None


@dataclass(frozen=True)
class BootTurn:
    """A run's turn among the boots of one command: the `turn`th `of` all, whose runs' names begin with `series`.

    `kernel` is the guest's kernel by its name in the cache, and what was added to its command line.
    """

    series: str
    turn: int
    of: int
    kernel: str


@dataclass(frozen=True)
class Ending:
    """How a run ended: `complete`, `interrupted`, `failed`, `killed` where it could not say, or `running` still."""

    status: str
    message: str
    finished_utc: str
    restored: tuple[KnobRestore, ...]


@dataclass(frozen=True)
class Run:
    """A run as recorded. `identity` and `plan` are kept as they were written (docs/result-format.md).

    `machine` and `planned` are what reports use of them, checked. `doctor` is what was found about the machine's state
    when the knobs were set and no trial had begun, None where nobody looked.
    """

    path: Path
    run_id: str
    created_utc: str
    identity: dict[str, Any]
    plan: dict[str, Any]
    machine: Machine
    planned: Plan
    workload: str
    nodes: tuple[int, ...]
    placements: tuple[str, ...]
    planned_trials: int
    page_bytes: int
    huge_page_bytes: int
    knobs: tuple[KnobWrite, ...]
    notes: tuple[Note, ...]
    trials: tuple[Trial, ...]
    ending: Ending
    boot: BootTurn | None = None
    doctor: tuple[MachineFinding, ...] | None = None

    @property
    def complete(self) -> bool:
        """Whether every planned trial was run and the knobs were put back."""
        return self.ending.status == "complete"

    @property
    def is_running(self) -> bool:
        """Whether it was still going when it was loaded."""
        return self.ending.status == RUNNING

    @property
    def is_guest(self) -> bool:
        """Whether it ran in a virtual machine: then its times say nothing of any hardware."""
        return self.machine.where == "guest"


@dataclass(frozen=True)
class Listed:
    """A directory below the results; `unreadable` says why it is no run, and is empty where it is one.

    A sweep's `trials` are its units that came to their end, and it `is_sweep`.
    """

    path: Path
    run_id: str
    created_utc: str = ""
    workload: str = ""
    where: str = ""
    kernel: str = ""
    nodes: tuple[int, ...] = ()
    status: str = ""
    trials: int = 0
    planned_trials: int = 0
    unreadable: str = ""
    is_sweep: bool = False


@dataclass(frozen=True)
class SweepCell:
    """A combination of a sweep's values: one an axis, in the axes' order, and the words of `numabench run` for it."""

    values: tuple[str, ...]
    argv: tuple[str, ...]


@dataclass(frozen=True)
class SweepUnit:
    """A cell's turn in one repeat; `cell` is its place among the cells, and `run` the run of one trial that it left.

    `status` is `done`; `cannot-run`, `lost` (cut off too often) or `damaged`, with `reasons`; or `pending`: it has not
    come to its end.
    """

    index: int
    name: str
    cell: int
    repeat: int
    status: str
    reasons: tuple[str, ...]
    run: Run | None = None

    @property
    def trial(self) -> Trial | None:
        """Its one trial."""
        return self.run.trials[0] if self.run is not None and self.run.trials else None

    @property
    def is_well(self) -> bool:
        """Whether its trial took place and went well."""
        return self.trial is not None and self.trial.counts


@dataclass(frozen=True)
class SweepAxis:
    """An option of `numabench run` without its dashes, or `pair`, and the values that it takes in turn."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class GuestPlan:
    """The guest that all of a sweep runs in."""

    nodes: int
    kernel: str
    cpus_per_node: int
    memory_per_node_bytes: int | None


@dataclass(frozen=True)
class Sweep:
    """A sweep as recorded (docs/result-format.md); `guest` is None where it runs on the machine itself."""

    path: Path
    sweep_id: str
    created_utc: str
    argv: tuple[str, ...]
    workload: str
    axes: tuple[SweepAxis, ...]
    cells: tuple[SweepCell, ...]
    repeats: int
    seed: int
    timeout_s: float
    stall_budget_s: float | None
    guest: GuestPlan | None
    units: tuple[SweepUnit, ...]
    is_running: bool

    @property
    def pending(self) -> int:
        """How many units have not come to their end."""
        return sum(unit.status == PENDING for unit in self.units)

    @property
    def is_complete(self) -> bool:
        """Whether every unit came to its end."""
        return self.pending == 0
