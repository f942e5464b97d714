"""What each pass attaches, in perf's words, and which pass stands in for one that a kernel lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.errors import CannotRun, UsageError
from numabench.observe.offer import INSTALL_PERF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.observe.offer import Offer

CPU, LOCK, SCHED, COST, STAT = "cpu", "lock", "sched", "cost", "stat"
RECIPES = (CPU, LOCK, SCHED, COST, STAT)
# Not a round number: it would keep step with the kernel's own ticks.
FREQUENCY_HZ = 4999
# Unwinding a stack takes an emulated CPU a hundred times longer; the kernel would throttle.
EMULATED_FREQUENCY_HZ = 499
# Of each CPU. 4 MiB hold a second of lock events; all CPUs' together must leave memory for what is measured.
_BUFFER_PAGES, _FEWEST_BUFFER_PAGES = 1024, 128
_ALL_BUFFER_PAGES = 1 << 17
_CONTENTION = ("lock:contention_begin", "lock:contention_end")
_SWITCH, _MIGRATE = "sched:sched_switch", "migrate:mm_migrate_pages"


@dataclass(frozen=True)
class Recipe:
    """One pass: its name, its events, and perf's words before the output file.

    `functions` are the kernel's that kprobes count: their events are added when they are there. `records` says whether
    samples are recorded (`perf record`) or only counted (`perf stat`).
    """

    name: str
    events: tuple[str, ...]
    argv: tuple[str, ...]
    records: bool = True
    frequency_hz: int = 0
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remark:
    """Something asked that is not observed as asked: what, and what to do about it."""

    code: str
    message: str
    remedy: str


def _left_out(name: str, reason: str, remedy: str) -> Remark:
    return Remark("not-observed", f"{name} is not observed: {reason}", remedy)


@dataclass(frozen=True)
class Choice:
    """The passes that take place, in the order asked, and what is to be said of those that do not."""

    recipes: tuple[Recipe, ...]
    remarks: tuple[Remark, ...]


def parse_names(text: str) -> tuple[str, ...]:
    """The recipes in `cpu,lock,sched`, each once. Raises `UsageError` for another word."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for name in names:
        if name not in RECIPES:
            raise UsageError(f"there is nothing to observe named '{name}'", f"choose from {', '.join(RECIPES)}")
    if not names:
        raise UsageError("--observe names nothing", f"choose from {', '.join(RECIPES)}")
    return names


def choose(asked: Sequence[str], offer: Offer, *, emulated: bool, frequency_hz: int | None = None) -> Choice:
    """What of the asked passes can take place here.

    Raises `CannotRun`, with the remedy, where perf or the right to use it is missing; a pass that only this kernel or
    this processor lacks is replaced or left out, and remarked on.
    """
    _require(offer, asked)
    rate_hz = frequency_hz or (EMULATED_FREQUENCY_HZ if emulated else FREQUENCY_HZ)
    rate_hz = min(rate_hz, offer.max_rate_hz)
    recipes: dict[str, Recipe] = {}
    remarks: list[Remark] = []
    wanted = [*asked, STAT] if CPU in asked and STAT not in asked and offer.counters else list(asked)
    for name in wanted:
        found = _recipe(name, offer, rate_hz)
        if isinstance(found, Remark):
            remarks.append(found)
            if name == LOCK:
                recipes.setdefault(SCHED, _sched(offer))
        else:
            recipes.setdefault(name, found)
    if not recipes:
        reasons = tuple(remark.message.partition(": ")[2] for remark in remarks)
        raise CannotRun("--observe " + ",".join(asked), reasons, remarks[0].remedy)
    return Choice(tuple(recipes.values()), tuple(remarks))


def _require(offer: Offer, asked: Sequence[str]) -> None:
    what = "--observe"
    # CPU events alone need less than the payloads of tracepoints do (perf_event_paranoid in
    # Documentation/admin-guide/sysctl/kernel.rst).
    traces = not set(asked) <= {CPU, STAT}
    most = -1 if traces else 0
    if not offer.options:
        raise CannotRun(what, ("perf does not run for this kernel",), INSTALL_PERF)
    if "control" not in offer.options:
        told = f"perf {offer.perf_version} cannot be started and stopped by another program (--control, since 5.9)"
        raise CannotRun(what, (told,), "install a newer perf; it need not be of the running kernel's version")
    if not offer.is_privileged and offer.paranoid > most:
        reason = f"kernel.perf_event_paranoid is {offer.paranoid} and you have neither CAP_PERFMON nor CAP_SYS_ADMIN"
        remedy = f"run as root, outside a container, or: sysctl kernel.perf_event_paranoid={most}"
        raise CannotRun(what, (reason,), remedy)
    if offer.addresses_hidden:
        reason = f"/proc/kallsyms hides the kernel's addresses (kernel.kptr_restrict is {offer.kptr_restrict})"
        remedy = "sysctl kernel.kptr_restrict=" + ("1" if offer.is_privileged else "0")
        raise CannotRun(what, (reason,), remedy)
    if traces and not offer.tracing:
        raise CannotRun(
            what,
            ("tracefs is not mounted, or not for you to read",),
            "as root: mount -t tracefs tracefs /sys/kernel/tracing, or mount -o remount,mode=755 /sys/kernel/tracing",
        )


def _recipe(name: str, offer: Offer, rate_hz: int) -> Recipe | Remark:
    if name == CPU:
        return _cpu(offer, rate_hz)
    if name == SCHED:
        return _sched(offer)
    if name == LOCK:
        return _lock(offer)
    if name == COST:
        return _cost(offer)
    if not offer.counters:
        why = "no PMU" if not offer.has_cycles else "no event of the PMU that tells remote accesses"
        return _left_out(STAT, f"this machine offers {why}", "run it on hardware")
    return Recipe(STAT, offer.counters, ("perf", "stat", "-a", "-x,", "-e", ",".join(offer.counters)), records=False)


def _record(offer: Offer, *events: str) -> tuple[str, ...]:
    """The words of a recording of all CPUs: a switch back to a thread is one of whatever ran before it."""
    pages = _BUFFER_PAGES
    while pages > _FEWEST_BUFFER_PAGES and pages * offer.cpu_count > _ALL_BUFFER_PAGES:
        pages //= 2
    argv = ["perf", "record", "-a", "-m", str(pages), "-k", "CLOCK_MONOTONIC"]
    # Otherwise perf reads all that it has recorded once more for the build ids of what was hit.
    argv.append("--buildid-mmap" if "buildid-mmap" in offer.options and offer.build_id_in_mmap else "-B")
    if offer.has_zstd:
        argv.append("-z")
    for event in events:
        argv += ["-e", event]
    return tuple(argv)


def _cpu(offer: Offer, rate_hz: int) -> Recipe:
    event = "cycles:P" if offer.has_cycles else "cpu-clock"
    argv = (*_record(offer, event), "-F", str(rate_hz), "--call-graph", "fp")
    return Recipe(CPU, (event,), argv, frequency_hz=rate_hz)


def _lock(offer: Offer) -> Recipe | Remark:
    if not set(_CONTENTION) <= offer.tracepoints:
        # Since Linux kernel commit 16edd9b511a1 ("locking: Add lock contention tracepoints") (in v5.19).
        told = "lock is not observed: this kernel has no lock:contention_begin (since 5.19); sched stands in for it"
        return Remark("observed-otherwise", told, "sched_switch shows the waits that slept; run a newer kernel for all")
    events = [f"{_CONTENTION[0]}/call-graph=fp/", f"{_CONTENTION[1]}/call-graph=no/"]
    if _MIGRATE in offer.tracepoints:
        events.append(f"{_MIGRATE}/call-graph=no/")
    return Recipe(LOCK, tuple(events), _record(offer, *events))


def _cost(offer: Offer) -> Recipe | Remark:
    if offer.no_probes:
        return _left_out(COST, "; ".join(offer.no_probes), "run as root, on a kernel with CONFIG_KPROBE_EVENTS")
    if not offer.functions:
        return _left_out(COST, "this kernel has none of the functions that are counted", "report its /proc/kallsyms")
    return Recipe(COST, (), ("perf", "stat", "-a", "-x,"), records=False, functions=offer.functions)


def _sched(offer: Offer) -> Recipe:
    return Recipe(SCHED, (_SWITCH,), (*_record(offer, _SWITCH), "--call-graph", "fp"))
