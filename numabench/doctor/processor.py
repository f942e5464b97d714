"""How fast CPUs run and how soon they wake: governor, boost, SMT, idle states, heat, microcode."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.doctor.finding import BIASES, INFORMS, WITH_QUIET, Finding, Fine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen

FREQUENCY, IDLE, HEAT, MICROCODE = "CPU frequency", "CPU idle and SMT", "heat", "microcode"
_CPUS = "/sys/devices/system/cpu"
# A thread that sleeps for a lock or an interrupt is that much later; moving one page takes some microseconds.
_SLOW_WAKE_US = 20


def check_frequency(context: Context) -> Iterator[Seen]:
    """Whether the clock rate stays the same from run to run."""
    found = [*_governor(context), *_boost(context)]
    yield from found
    if found:
        return
    has_policies = bool(context.root.numbers(f"{_CPUS}/cpufreq", "policy"))
    yield Fine(
        FREQUENCY, "governor performance, no boost" if has_policies else "the kernel does not change it (no cpufreq)"
    )


def _governor(context: Context) -> Iterator[Finding]:
    policies = context.root.numbers(f"{_CPUS}/cpufreq", "policy")
    governors = Counter(
        files.word(context.root, f"{_CPUS}/cpufreq/policy{number}/scaling_governor") or "" for number in policies
    )
    others = {name: count for name, count in governors.items() if name not in {"performance", ""}}
    if not others:
        return
    told = ", ".join(f"{name} on {count}" for name, count in sorted(others.items()))
    driver = files.word(context.root, f"{_CPUS}/cpufreq/policy{policies[0]}/scaling_driver")
    yield Finding(
        "governor",
        BIASES,
        FREQUENCY,
        f"the governor is {told} of {len(policies)} frequency domains" + (f" ({driver})" if driver else ""),
        "CPUs that have been idle start slow: short trials and first calls take longer, by how idle the machine was "
        "before",
        WITH_QUIET,
        "Documentation/admin-guide/pm/cpufreq.rst",
    )


def _boost(context: Context) -> Iterator[Finding]:
    # intel_pstate has a switch of its own, with the opposite sense (Documentation/admin-guide/pm/intel_pstate.rst).
    switches = ((f"{_CPUS}/intel_pstate/no_turbo", 0), (f"{_CPUS}/cpufreq/boost", 1))
    for path, on in switches:
        if files.number(context.root, path) == on:
            yield Finding(
                "boost",
                BIASES,
                FREQUENCY,
                f"CPUs may run above their nominal frequency ({path} is {on})",
                "how fast they run is up to heat and to how many are busy: more threads are slower each, and a cold "
                "machine is faster than a warm one",
                WITH_QUIET,
                "Documentation/admin-guide/pm/cpufreq.rst",
            )
            return


def check_idle(context: Context) -> Iterator[Seen]:
    """Whether CPUs share cores, and sleep so deep that waking them is in what is measured."""
    found = [*_smt(context), *_idle_states(context)]
    yield from found
    if not found:
        yield Fine(IDLE, f"no core is shared, none wakes later than {_SLOW_WAKE_US} us")


def _smt(context: Context) -> Iterator[Finding]:
    shared = sum(len(core) > 1 for package in context.topology.packages for core in package.cores)
    if shared:
        yield Finding(
            "smt",
            INFORMS,
            IDLE,
            f"{shared} cores are shared by several CPUs (SMT)",
            "threads that share a core slow each other down: with a thread for each CPU a rate is not that of so many "
            "cores",
            "numabench run numa02-smt has a thread for every second CPU; for all: echo off | sudo tee "
            f"{_CPUS}/smt/control",
            "Documentation/ABI/testing/sysfs-devices-system-cpu",
        )


def _idle_states(context: Context) -> Iterator[Finding]:
    # The states of CPU 0 stand for all: they are the processor model's.
    first = min(context.topology.online_cpus, default=0)
    directory = f"{_CPUS}/cpu{first}/cpuidle"
    slow = {}
    for number in context.root.numbers(directory, "state"):
        latency_us = files.number(context.root, f"{directory}/state{number}/latency") or 0
        is_disabled = files.number(context.root, f"{directory}/state{number}/disable") == 1
        if latency_us > _SLOW_WAKE_US and not is_disabled:
            slow[files.word(context.root, f"{directory}/state{number}/name") or str(number)] = latency_us
    if slow:
        yield Finding(
            "idle-states",
            INFORMS,
            IDLE,
            f"idle CPUs sleep so deep that waking takes up to {max(slow.values())} us ({', '.join(slow)})",
            "latencies of threads that wait, and of interrupts to flush a TLB, have that in them",
            WITH_QUIET,
            "Documentation/admin-guide/pm/cpuidle.rst",
        )


def check_heat(context: Context) -> Iterator[Seen]:
    """Whether CPUs were slowed down for heat."""
    total, now = context.sample.after.throttled, context.sample.throttled()
    if total is None:
        return
    if not total:
        yield Fine(HEAT, "no CPU was slowed down since boot")
        return
    yield Finding(
        "throttled",
        BIASES if now else INFORMS,
        HEAT,
        f"CPUs were slowed down for heat {total:,} times since boot"
        + (f", {now:,} times in the last {context.sample.elapsed_s:.2g} s" if now else ""),
        "rates fall while it lasts, in whichever trial it happens",
        "see fans and power limits (sensors, turbostat); let the machine cool down; put a pause between runs",
        f"{_CPUS}/cpu*/thermal_throttle; drivers/thermal/intel/therm_throt.c",
    )


def check_microcode(context: Context) -> Iterator[Seen]:
    """Whether all CPUs have the same microcode."""
    lines = (context.root.read_or_none("/proc/cpuinfo") or "").splitlines()
    versions = Counter(line.partition(":")[2].strip() for line in lines if line.startswith("microcode"))
    if len(versions) == 1:
        yield Fine(MICROCODE, f"{next(iter(versions))} on all CPUs")
    elif versions:
        told = ", ".join(f"{version} on {count} CPUs" for version, count in versions.items())
        yield Finding(
            "mixed-microcode",
            BIASES,
            MICROCODE,
            f"CPUs differ: {told}",
            "mitigations, and what they cost, differ between CPUs and so between placements",
            "update the firmware, or boot with early microcode for all (packages intel-microcode, amd64-microcode)",
            "Documentation/arch/x86/microcode.rst",
        )
