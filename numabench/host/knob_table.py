"""The kernel's knobs that matter to page migration, as one table: where they lie, what they mean, what to set and why.

A path may have `*` in place of a CPU, a policy, a node or a state: each file that matches is a key of its own. Sources:
Documentation/admin-guide/sysctl/{kernel,vm}.rst, mm/{transhuge,ksm,numa_memory_policy}.rst, pm/{cpufreq,cpuidle,
intel_pstate}.rst, and where it says so the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from numabench.errors import UsageError
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBUGFS = "/sys/kernel/debug"
_BALANCING = f"{DEBUGFS}/sched/numa_balancing"
THP = "/sys/kernel/mm/transparent_hugepage"
_CPU = "/sys/devices/system/cpu"
_NODES = "/sys/devices/system/node"
# Pools of hugetlb pages, by node: node0-hugepages-2048kB.
_POOL = re.compile(r"(?:hugetlb\.)?(node\d{1,5})-(hugepages-\d{1,10}kB)")
FOLIOS_KIB = (16, 32, 64, 128, 256, 512, 1024, 2048)
# An idle state that takes longer to leave than this delays what wakes a thread, an IPI that flushes TLBs among it.
_SLOW_STATE_US = 10
MEASURE, QUIET = "measure", "quiet"

# How a key is read and written: as a file; as a process that stops and goes on; written alone, without a state; never.
FILE, PROCESS, ACTION, SHOWN = "file", "process", "action", "shown"


@dataclass(frozen=True)
class Knob:
    """A knob: its name in results, the short name it may be asked by, where kernels have it, and what it means.

    `paths` are tried in order, the first that exists counts. `value` is the one for measuring, for the reason `why`,
    and `profile` the smallest built-in profile that sets it: `measure`, `quiet`, or none where a run's needs decide.
    `coupled` names knobs that the kernel may change when this one is written.
    """

    name: str
    alias: str
    paths: tuple[str, ...]
    meaning: str
    is_settable: bool = True
    value: str = ""
    why: str = ""
    profile: str = ""
    coupled: tuple[str, ...] = ()
    kind: str = FILE
    group: str = ""


@dataclass(frozen=True)
class Key:
    """One file of a knob: `cpufreq.scaling_governor[policy0]`."""

    name: str
    path: str
    knob: Knob = field(compare=False)


def _sysctl(name: str, meaning: str, **more: object) -> Knob:
    path = f"/proc/sys/{name.replace('.', '/')}"
    return Knob(name, name.rpartition(".")[2], (path,), meaning, **more)  # type: ignore[arg-type]


def _scan_knob(alias: str, meaning: str) -> Knob:
    # A sysctl until Linux kernel commit 8a99b6833c88 ("sched: Move SCHED_DEBUG sysctl to debugfs") (in v5.13).
    sysctl = f"/proc/sys/kernel/numa_balancing_{alias}"
    return Knob(f"kernel.numa_balancing_{alias}", alias, (f"{_BALANCING}/{alias}", sysctl), meaning)


def _thp(name: str, file: str, meaning: str, **more: object) -> Knob:
    return Knob(f"thp.{name}", f"thp_{name}", (f"{THP}/{file}",), meaning, **more)  # type: ignore[arg-type]


_SWAP_WHY = "reclaim that swaps moves pages out while they are counted"
_FREQUENCIES = ("cpufreq.scaling_min_freq", "cpufreq.scaling_max_freq")
_PREFERENCE = "cpufreq.energy_performance_preference"
_BOOSTS = ("cpufreq.boost", "cpufreq.policy_boost")
_PMU_WHY = "its counter interrupts each CPU, and takes one from perf"

# Written in this order, put back in the reverse: what another write would change comes before it, and the switch of
# balancing last of its group, so that it starts with its periods in place.
_GROUPS: dict[str, tuple[Knob, ...]] = {
    "automatic NUMA balancing": (
        _scan_knob("scan_delay_ms", "how long a new task runs before its memory is scanned"),
        _scan_knob("scan_period_min_ms", "shortest time between two scans of a task"),
        _scan_knob("scan_period_max_ms", "longest time between two scans of a task"),
        _scan_knob("scan_size_mb", "how much memory one scan marks for hint faults"),
        _sysctl("kernel.numa_balancing_promote_rate_limit_MBps", "most that tiering promotes"),
        Knob(
            "kernel.numa_balancing_hot_threshold_ms",
            "hot_threshold_ms",
            (f"{_BALANCING}/hot_threshold_ms",),
            "how soon after its scan a page must be used to be promoted",
        ),
        _sysctl("kernel.numa_balancing", "automatic balancing: 0 off, 1 on, 2 memory tiering, 3 both"),
    ),
    "memory": (
        Knob(
            "mm.numa.demotion_enabled",
            "demotion_enabled",
            ("/sys/kernel/mm/numa/demotion_enabled",),
            "whether reclaim moves pages to a slower node",
            value="false",
            why="pages that reclaim moves are counted as migrated",
            profile=MEASURE,
        ),
        Knob(
            "memory_tiers",
            "memory_tiers",
            ("/sys/devices/virtual/memory_tiering/memory_tier*/nodelist",),
            "the nodes of a tier, the lowest number the fastest",
            is_settable=False,
            kind=SHOWN,
        ),
        _sysctl("vm.zone_reclaim_mode", "whether a node reclaims before it takes memory elsewhere",
                value="0", why="reclaim on a node that fills competes with the migration to it", profile=QUIET),
        _sysctl("vm.numa_stat", "whether numastat is counted; 0 freezes it",
                value="1", why="frozen counters count no page", profile=MEASURE),
        _sysctl("vm.stat_interval", "seconds between folds of per-CPU counters"),
        _sysctl("vm.swappiness", "anonymous memory against page cache in reclaim",
                value="0", why=_SWAP_WHY, profile=QUIET),
        _sysctl("vm.compaction_proactiveness", "how eagerly memory is compacted, which migrates pages",
                value="0", why="compaction migrates pages, which the kernel counts as migrated", profile=QUIET),
        _sysctl("vm.overcommit_ratio", "percent of memory that may be promised in mode 2",
                coupled=("vm.overcommit_kbytes",)),
        # mm/util.c, overcommit_kbytes_handler(): each of the two sets the other to 0.
        _sysctl("vm.overcommit_kbytes", "the same in KiB; 0 where the ratio counts", coupled=("vm.overcommit_ratio",)),
        _sysctl("vm.overcommit_memory", "whether mappings are promised without memory"),
        _sysctl("vm.drop_caches", "1 drops page cache, 2 slabs, 3 both; has no state to put back",
                value="1", why="page cache on the target node leaves less room for what moves there", profile=QUIET,
                kind=ACTION),
    ),
    "huge pages": (
        *(
            Knob(
                f"thp.hugepages-{size_kib}kB",
                f"hugepages-{size_kib}kB",
                (f"{THP}/hugepages-{size_kib}kB/enabled",),
                f"where folios of {size_kib} KiB are used",
            )
            for size_kib in FOLIOS_KIB
        ),
        _thp("enabled", "enabled", "where transparent huge pages are used"),
        _thp("defrag", "defrag", "whether a fault waits for compaction",
             value="never", why="a first touch that compacts migrates other pages", profile=QUIET),
        Knob("thp.khugepaged_defrag", "khugepaged_defrag", (f"{THP}/khugepaged/defrag",), "whether khugepaged compacts",
             value="0", why="khugepaged that compacts migrates other pages; it still collapses", profile=QUIET),
    ),
    "same-page merging": (
        # The kernel takes it only while nothing is merged (mm/ksm.c, merge_across_nodes_store()): never set.
        Knob("ksm.merge_across_nodes", "merge_across_nodes", ("/sys/kernel/mm/ksm/merge_across_nodes",),
             "whether pages of different nodes are merged, too", is_settable=False),
        Knob("ksm.run", "ksm_run", ("/sys/kernel/mm/ksm/run",), "whether equal pages are merged",
             value="0", why="a merged page is many pages that move as one, or not at all", profile=MEASURE),
    ),
    "processors": (
        # Fewer CPUs are another machine: policies, cpusets and affinities go with them. Nothing sets it unasked.
        Knob("cpu.smt", "smt", (f"{_CPU}/smt/control",), "simultaneous multithreading: on, off, forceoff, notsupported",
             is_settable=False, kind=SHOWN),
        # Documentation/admin-guide/pm/intel_pstate.rst; writing a governor has been seen to reset no_turbo (pyperf).
        Knob("cpufreq.scaling_governor", "scaling_governor", (f"{_CPU}/cpufreq/policy*/scaling_governor",),
             "who chooses a CPU's frequency", value="performance",
             why="a frequency that follows the load changes what a page costs", profile=QUIET,
             coupled=(_PREFERENCE, "intel_pstate.no_turbo", *_BOOSTS, *_FREQUENCIES)),
        # drivers/cpufreq/amd-pstate.c, amd_pstate_epp_update_limit(), and intel_pstate.c, intel_pstate_hwp_set(): under
        # `performance` it is 0, and in amd-pstate stays so when the governor goes back.
        Knob(_PREFERENCE, "energy_performance_preference", (f"{_CPU}/cpufreq/policy*/energy_performance_preference",),
             "what the processor prefers when it chooses a frequency itself"),
        Knob("cpufreq.scaling_min_freq", "scaling_min_freq", (f"{_CPU}/cpufreq/policy*/scaling_min_freq",), "kHz"),
        Knob("cpufreq.scaling_max_freq", "scaling_max_freq", (f"{_CPU}/cpufreq/policy*/scaling_max_freq",), "kHz"),
        Knob("intel_pstate.no_turbo", "no_turbo", (f"{_CPU}/intel_pstate/no_turbo",), "1: none above the nominal",
             value="1", why="turbo depends on temperature and on who else runs", profile=QUIET,
             coupled=("cpufreq.scaling_max_freq",)),
        # drivers/cpufreq/cpufreq.c, cpufreq_boost_trigger_state(): the machine's switch sets that of every policy.
        Knob("cpufreq.policy_boost", "policy_boost", (f"{_CPU}/cpufreq/policy*/boost",), "the same of one policy"),
        Knob("cpufreq.boost", "boost", (f"{_CPU}/cpufreq/boost",), "0: no frequency above the nominal",
             value="0", why="boost depends on temperature and on who else runs", profile=QUIET,
             coupled=("cpufreq.policy_boost", *_FREQUENCIES)),
        Knob("cpuidle.disable", "cpuidle_disable", (f"{_CPU}/cpu*/cpuidle/state*/disable",),
             f"1: an idle state that takes longer than {_SLOW_STATE_US} us to leave is not entered",
             value="1", why="an IPI waits until the CPU that must flush its TLB is awake", profile=QUIET),
    ),
    "interrupts and watchdogs": (
        Knob("irqbalance", "irqbalance", ("irqbalance",), "moves interrupts between CPUs: running, stopped",
             value="stopped", why="interrupts that change CPUs while it is measured", profile=QUIET, kind=PROCESS),
        # kernel/watchdog.c, proc_watchdog_common(): kernel.watchdog is the OR of the two others and sets both.
        _sysctl("kernel.watchdog", "both lockup detectors", coupled=("kernel.nmi_watchdog", "kernel.soft_watchdog")),
        _sysctl("kernel.soft_watchdog", "the detector of CPUs that do not schedule", coupled=("kernel.watchdog",)),
        _sysctl("kernel.nmi_watchdog", "the detector of CPUs that take no interrupts",
                value="0", why=_PMU_WHY, profile=QUIET, coupled=("kernel.watchdog",)),
        _sysctl("kernel.timer_migration", "whether timers of idle CPUs go to busy ones"),
    ),
    "perf": (
        _sysctl("kernel.perf_event_paranoid", "what users without CAP_PERFMON may see: -1 all, 2 own user space"),
        _sysctl("kernel.kptr_restrict", "whether the kernel's addresses are hidden"),
        # kernel/events/core.c, perf_cpu_time_max_percent_handler() and perf_event_max_sample_rate_handler().
        _sysctl("kernel.perf_cpu_time_max_percent", "share of a CPU that sampling may take before the kernel slows it"),
        _sysctl("kernel.perf_event_max_sample_rate", "most samples a second; the kernel lowers it by itself",
                coupled=("kernel.perf_cpu_time_max_percent",)),
        _sysctl("kernel.perf_event_mlock_kb", "memory a user's recordings may pin"),
    ),
    "other": (
        _sysctl("kernel.randomize_va_space", "address space layout randomization: 0 off, 2 on",
                value="0", why="where mappings lie decides which share a page table or a cache line", profile=QUIET),
        Knob("x86.tlb_single_page_flush_ceiling", "tlb_single_page_flush_ceiling",
             (f"{DEBUGFS}/x86/tlb_single_page_flush_ceiling",), "above so many pages the whole TLB is flushed"),
        Knob("swap", "swap", ("/proc/swaps",), "devices that pages may be swapped to", is_settable=False, kind=SHOWN),
    ),
}  # fmt: skip
KNOBS = tuple(replace(knob, group=group) for group, knobs in _GROUPS.items() for knob in knobs)
_BY_NAME = {name: knob for knob in KNOBS for name in (knob.name, knob.alias)}


def known() -> dict[str, Knob]:
    """Every knob, by name and by short name."""
    return dict(_BY_NAME)


def find(name: str) -> Knob:
    """The settable knob of that name or short name, or a node's pool. Raises `UsageError` where there is none."""
    knob = _BY_NAME.get(name)
    if knob is not None and knob.is_settable:
        return knob
    if pool := _POOL.fullmatch(name):
        node, size = pool.groups()
        path = f"{_NODES}/{node}/hugepages/{size}/nr_hugepages"
        return Knob(f"hugetlb.{node}-{size}", f"{node}-{size}", (path,), "how many the node's pool has")
    if knob is not None:
        raise UsageError(f"{knob.name} is shown and never set", "numabench state show says what can be set")
    raise UsageError(f"there is no knob '{name}' that a run may set", _nearest(name))


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, [key for key, knob in _BY_NAME.items() if knob.is_settable], n=1)
    return f"did you mean {close[0]}?" if close else "numabench state show lists them"


def keys(knob: Knob, root: Root = LIVE) -> tuple[Key, ...]:
    """The files that a knob has here; none where the kernel has none of them."""
    if knob.kind == PROCESS:
        return tuple(Key(f"{knob.name}[{pid}]", f"/proc/{pid}/stat", knob) for pid in _processes(knob.paths[0], root))
    for path in knob.paths:
        if "*" not in path:
            if root.exists(path):
                return (Key(knob.name, path, knob),)
            continue
        found = [Key(f"{knob.name}[{','.join(_between(path, each))}]", each, knob) for each in _expand(path, root)]
        if knob.name == "cpuidle.disable":
            found = [key for key in found if _is_slow(key.path, root)]
        if found:
            return tuple(found)
    return ()


def _between(pattern: str, path: str) -> list[str]:
    pairs = zip(pattern.split("/"), path.split("/"), strict=True)
    return [segment for asked, segment in pairs if "*" in asked]


def _expand(pattern: str, root: Root) -> Iterator[str]:
    """The files that match, numbers in their order."""
    head, _, rest = pattern.lstrip("/").partition("/")
    yield from _walk("", head, rest, root)


def _walk(above: str, segment: str, rest: str, root: Root) -> Iterator[str]:
    names = [segment]
    if "*" in segment:
        names = sorted((name for name in root.names(above) if fnmatchcase(name, segment)), key=_by_number)
    for name in names:
        here = f"{above}/{name}"
        if rest:
            head, _, below = rest.partition("/")
            yield from _walk(here, head, below, root)
        elif root.exists(here):
            yield here


def _by_number(name: str) -> tuple[str, int]:
    digits = re.search(r"\d+$", name)
    return (name[: digits.start()], int(digits[0])) if digits else (name, -1)


def _is_slow(path: str, root: Root) -> bool:
    latency = root.read_or_none(f"{path.rpartition('/')[0]}/latency") or ""
    return latency.strip().isdecimal() and int(latency) > _SLOW_STATE_US


def _processes(name: str, root: Root) -> Iterator[int]:
    for pid in root.numbers("/proc", ""):
        stat = (root.read_or_none(f"/proc/{pid}/stat") or "").rpartition(")")
        # One that has ended and was not waited for still has its name.
        if stat[0].endswith(f"({name}") and stat[2].split()[:1] != ["Z"]:
            yield pid
