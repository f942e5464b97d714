"""What the caller may do: capabilities, system calls, and writing knobs."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from numabench.doctor.context import CAP_PERFMON, CAP_SYS_ADMIN
from numabench.doctor.finding import BIASES, BLOCKS, INFORMS, Finding, Fine
from numabench.drivers import catalog as drivers
from numabench.host.seccomp import CAP_SYS_NICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen

RIGHTS, CALLS = "rights", "system calls"
# Every run keeps its own memory from balancing with the first two, and asks for pages' nodes with the third.
_CALLS_OF_EVERY_RUN = frozenset({"get_mempolicy", "set_mempolicy", "move_pages"})
_CALLS_OF_DRIVERS = {
    drivers.MOVE_PAGES: {"move_pages"},
    "mbind": {"mbind"},
    drivers.MIGRATE_PAGES: {"migrate_pages"},
    "weighted-interleave": {"mbind"},
    drivers.HOME_NODE: {"mbind"},
}


def check_rights(context: Context) -> Iterator[Seen]:
    """Whether knobs can be set, and which capabilities are missing and what each costs."""
    found = [*_knobs(context), *_capabilities(context)]
    yield from found
    if not found:
        yield Fine(RIGHTS, "knobs can be set; CAP_SYS_NICE and CAP_PERFMON are there")


def _knobs(context: Context) -> Iterator[Finding]:
    why, needs = context.why_knobs_stay, context.needs
    if not why or needs.has_set_knobs:
        return
    balancing = context.knobs.get("kernel.numa_balancing")
    if needs.driver == drivers.AUTONUMA and balancing == "0":
        weight, effect = BLOCKS, "balancing is off and a run cannot turn it on: no page would be migrated"
    elif needs.balances and balancing == "0":
        weight, effect = BIASES, "balancing is off and a run cannot turn it on: runs that wait for it migrate nothing"
    elif needs.moves and balancing not in {None, "0"}:
        weight = BIASES
        effect = "balancing is on and a run cannot turn it off: it moves pages, too, while a driver does"
    else:
        weight, effect = (
            INFORMS,
            "a run leaves the knobs as they are, and the scan settings that are asked for are not set",
        )
    yield Finding(
        "knobs-not-writable",
        weight,
        RIGHTS,
        why,
        effect,
        "run as root, outside a container: sudo numabench run ...; or set it by hand: sudo sysctl "
        f"kernel.numa_balancing={'1' if needs.balances else '0'}, and pass --no-tune",
        "Documentation/admin-guide/sysctl/kernel.rst",
    )


def _capabilities(context: Context) -> Iterator[Finding]:
    if not context.can(CAP_SYS_NICE):
        yield Finding(
            "no-cap-sys-nice",
            BIASES if context.needs.driver == drivers.MIGRATE_PAGES else INFORMS,
            RIGHTS,
            "CAP_SYS_NICE is missing",
            "pages that several processes map are not moved: --move-all is refused with EPERM, and migrate_pages(2) "
            "leaves them where they are without a word",
            "sudo numabench run ...; in a container: --cap-add SYS_NICE",
            "move_pages(2), migrate_pages(2)",
        )
    if not context.can(CAP_PERFMON) and not context.can(CAP_SYS_ADMIN):
        yield Finding(
            "no-cap-perfmon",
            INFORMS,
            RIGHTS,
            "CAP_PERFMON and CAP_SYS_ADMIN are missing",
            "what passes with --observe may record is for kernel.perf_event_paranoid to say, and tracepoints and "
            "probes are root's alone; measured trials lose nothing",
            "sudo numabench run ...; in a container: --cap-add PERFMON",
            "Documentation/admin-guide/perf-security.rst",
        )


def _driver(context: Context) -> Iterator[Finding]:
    """What the driver that was asked for misses of the kernel."""
    lacks = context.process.driver_lacks
    if lacks:
        yield Finding(
            "driver",
            BLOCKS,
            CALLS,
            f"driver {context.needs.driver}: {'; '.join(lacks)}",
            "numabench run refuses to start with this driver",
            "take another driver: numabench drivers shows what each needs",
            "docs/drivers.md",
        )


def check_calls(context: Context) -> Iterator[Seen]:
    """Whether the NUMA system calls may be made, and what refuses them: a filter, the kernel, or something else."""
    denied = context.process.denied_calls
    yield from _driver(context)
    if not denied:
        filtered = context.limits is not None and context.limits.is_filtered
        under = "; a seccomp filter is set, and lets them pass" if filtered else ""
        if context.root.is_live:
            yield Fine(CALLS, f"move_pages, mbind, migrate_pages and set_mempolicy may be made{under}")
        return
    names = ", ".join(denied)
    needed = _CALLS_OF_EVERY_RUN | _CALLS_OF_DRIVERS.get(context.needs.driver, set())
    weight = BLOCKS if needed & set(denied) else INFORMS
    effect = (
        "numabench itself needs them, to know where pages are and to stay out of the way: nothing can be run"
        if _CALLS_OF_EVERY_RUN & set(denied)
        else "drivers that make them cannot be used"
    )
    errors = ", ".join(sorted({errno.errorcode[number] for number in denied.values()}))
    if context.limits is not None and context.limits.is_filtered:
        yield Finding(
            "seccomp",
            weight,
            CALLS,
            f"a seccomp filter refuses {names} ({errors}), whatever the arguments: the kernel grants them to everybody",
            effect,
            "docker run --security-opt seccomp=unconfined ..., or a profile that allows them",
            "seccomp(2); Seccomp: 2 in /proc/self/status",
        )
    elif set(denied.values()) == {errno.ENOSYS}:
        yield Finding(
            "kernel-without-numa",
            weight,
            CALLS,
            f"this kernel has no {names}",
            effect,
            "boot a kernel with CONFIG_NUMA, CONFIG_MIGRATION and CONFIG_NUMA_BALANCING, or run in a guest: --lab",
            "init/Kconfig, mm/Kconfig",
        )
    else:
        yield Finding(
            "calls-refused",
            weight,
            CALLS,
            f"{names} are refused ({errors}) whatever the arguments, and no seccomp filter is set",
            effect,
            "see what confines this process: a security module (aa-status, sestatus), or a sandbox that is its own "
            "kernel",
            "",
        )
