"""What can be observed here: perf's options, the kernel's events, and who may use them. Probed, not assumed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench import process
from numabench.host import kprobes
from numabench.host.kprobes import TRACING
from numabench.host.root import LIVE, Root
from numabench.host.seccomp import read_limits
from numabench.observe import counted, kernel_symbols

if TYPE_CHECKING:
    from collections.abc import Iterable

_PARANOID = "/proc/sys/kernel/perf_event_paranoid"
_KPTR = "/proc/sys/kernel/kptr_restrict"
_MAX_RATE = "/proc/sys/kernel/perf_event_max_sample_rate"
_PMUS = "/sys/bus/event_source/devices"
# Since Linux kernel commit 88a16a130933 ("perf: Add build id data in mmap2 event") (in v5.12).
_BUILD_ID_IN_MMAP = b" build_id_parse\n"
_CAP_PERFMON, _CAP_SYS_ADMIN = 38, 21
_PATIENCE_S = 60.0
# What tells of remote accesses: the generic cache events, then what processors and their uncores call it (perf list).
COUNTERS = (
    *("node-loads", "node-load-misses", "node-stores", "node-store-misses", "dTLB-loads", "dTLB-load-misses"),
    # Intel: data sent over UPI between sockets. AMD Zen 3 and later: fills from the memory of the own and another node.
    *("unc_upi_txl_flits.all_data", "unc_q_txl_flits_g0.data"),
    *("ls_any_fills_from_sys.mem_io_local", "ls_any_fills_from_sys.mem_io_remote"),
    *("ls_any_fills_from_sys.dram_io_near", "ls_any_fills_from_sys.dram_io_far"),
)
_EVENTS = ("lock:contention_begin", "lock:contention_end", "sched:sched_switch", "migrate:mm_migrate_pages")
INSTALL_PERF = "install perf: apt install linux-perf (Debian), linux-tools-generic (Ubuntu), perf (Fedora, Arch)"


@dataclass(frozen=True)
class Offer:
    """What can be observed on a machine.

    `options` are the long options of `perf record`, `tracepoints` those of the asked ones that the kernel has. `pmus`
    are the directories of /sys/bus/event_source/devices. `counters` are the events of a PMU that count here.
    `functions` are those of the kernel's that tell what migration costs, `no_probes` why they cannot be counted.
    """

    perf_version: str
    options: frozenset[str]
    has_zstd: bool
    tracing: str
    tracepoints: frozenset[str]
    pmus: frozenset[str]
    counters: tuple[str, ...]
    cpu_count: int
    max_rate_hz: int
    paranoid: int
    is_privileged: bool
    addresses_hidden: bool
    kptr_restrict: int
    build_id_in_mmap: bool
    functions: tuple[str, ...] = ()
    no_probes: tuple[str, ...] = ()

    @property
    def has_cycles(self) -> bool:
        """Whether there is a processor's PMU, which counts cycles."""
        return _counts_cycles(self.pmus)


def _counts_cycles(pmus: frozenset[str]) -> bool:
    return any(name == "cpu" or name.startswith(("cpu_", "armv8")) for name in pmus)


def perf_missing() -> tuple[str, ...]:
    """Why perf cannot be started here, or nothing."""
    return () if process.find_program("perf") else ("perf is not installed",)


def probe(kallsyms: bytes, root: Root = LIVE) -> Offer:
    """Look at perf and the running kernel, whose /proc/kallsyms is given: it is long to read in a guest.

    Raises `CannotRun` where there is no perf, `ProgramError` where it hangs.
    """
    # Ubuntu's perf is a script that refuses to run for a kernel without its own package: then it has no options.
    told = process.run(["perf", "version", "--build-options"], timeout_s=_PATIENCE_S)
    usage = process.run(["perf", "record", "-h"], timeout_s=_PATIENCE_S)
    version, has_zstd = parse_version(told.stdout + told.stderr)
    tracing = next((path for path in TRACING if root.exists(f"{path}/events")), "")
    limits = read_limits(root)
    # Root in a container may have neither.
    capable = os.geteuid() == 0
    if limits is not None:
        capable = any(map(limits.has_capability, (_CAP_PERFMON, _CAP_SYS_ADMIN)))
    pmus = frozenset(root.names(_PMUS))
    return Offer(
        perf_version=version,
        options=parse_options(usage.stdout + usage.stderr),
        has_zstd=has_zstd,
        tracing=tracing,
        tracepoints=frozenset(name for name in _EVENTS if root.exists(f"{tracing}/events/{name.replace(':', '/')}")),
        pmus=pmus,
        counters=counting(COUNTERS) if _counts_cycles(pmus) else (),
        cpu_count=os.cpu_count() or 1,
        max_rate_hz=_number(root, _MAX_RATE, 100_000),
        paranoid=_number(root, _PARANOID, 2),
        is_privileged=capable,
        addresses_hidden=kernel_symbols.are_hidden(kallsyms),
        kptr_restrict=_number(root, _KPTR, 0),
        build_id_in_mmap=_BUILD_ID_IN_MMAP in kallsyms,
        functions=counted.functions(kallsyms),
        no_probes=kprobes.missing(root),
    )


def parse_version(text: str) -> tuple[str, bool]:
    """The version in `perf version --build-options`, and whether it has zstd."""
    version = re.search(r"^perf version (\S+)", text, re.MULTILINE)
    return version[1] if version else "", bool(re.search(r"^\s*zstd: \[ on", text, re.MULTILINE))


def parse_options(usage: str) -> frozenset[str]:
    """The long options in the usage that `perf record -h` prints."""
    return frozenset(re.findall(r"^ +(?:-., )?--([a-z][a-z-]*)", usage, re.MULTILINE))


def _number(root: Root, name: str, default: int) -> int:
    text = (root.read_or_none(name) or "").strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else default


def counting(events: Iterable[str]) -> tuple[str, ...]:
    """Those of some events that count here, as perf stat tells: `<not supported>` and unknown ones are left out."""
    found = []
    for event in events:
        ended = process.run(["perf", "stat", "-a", "-x,", "-e", event, "--", "true"], timeout_s=_PATIENCE_S)
        if ended.exit_status == 0 and ended.stderr.partition(",")[0].strip().isdecimal():
            found.append(event)
    return tuple(found)
