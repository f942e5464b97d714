"""What kind of machine it is: virtual or emulated, its firmware, and its clocks."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

from numabench.doctor import files
from numabench.doctor.finding import BIASES, INFORMS, Finding, Fine
from numabench.host.identity import virtualization
from numabench.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.doctor.context import Context
    from numabench.doctor.finding import Seen

HARDWARE, FIRMWARE, CLOCK = "hardware", "firmware", "clock"
_CLOCKS = "/sys/devices/system/clocksource/clocksource0"
# Read without a system call (vDSO): arch/*/include/asm/vdso/clocksource.h.
_FAST_CLOCKS = frozenset(
    {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase", "tod", "riscv_clocksource"}
)
_DAYS_A_YEAR = 365.25
_OLD_YEARS = 3
# What NTP still has to slew, beyond which daemons rather step the clock (ntpd(8): 128 ms).
_STEP_S = 0.128


def check_hardware(context: Context) -> Iterator[Seen]:
    """Whether the CPUs are real."""
    kind = virtualization(context.root)
    if _is_emulated(context):
        yield Finding(
            "emulated",
            BIASES,
            HARDWARE,
            "the CPUs are emulated by software (QEMU without KVM)",
            "times, rates and latencies are the emulator's; counts, statuses, placement and call graphs are real",
            "for times run on hardware; with /dev/kvm a guest's CPUs are real",
            "docs/lab.md",
        )
    elif kind:
        yield Finding(
            "virtual-machine",
            BIASES,
            HARDWARE,
            f"this is a virtual machine ({kind})",
            "its nodes need not be the host's: a page moved to another node may stay where it was in real memory, "
            "so that access times and rates of moving say little; and its CPUs stand still while the host runs others",
            "run on the host, or see there (libvirt) whether each node is bound to a real one and each CPU pinned: "
            "sudo virsh numatune DOMAIN; sudo virsh vcpupin DOMAIN",
            "systemd-detect-virt(1)",
        )
    else:
        yield Fine(HARDWARE, "no hypervisor")


def _is_emulated(context: Context) -> bool:
    """Whether every instruction is interpreted: by QEMU without KVM's clock (host.identity), or as the lab says."""
    cmdline = (context.root.read_or_none("/proc/cmdline") or "").split()
    return virtualization(context.root) == "qemu" or "numabench.accel=tcg" in cmdline


def check_firmware(context: Context) -> Iterator[Seen]:
    """Whether the firmware is old: its tables say which memory is near which CPU.

    That of a virtual machine says what its host makes up.
    """
    if virtualization(context.root):
        return
    told = files.word(context.root, "/sys/class/dmi/id/bios_date") or ""
    today = context.process.today
    # SMBIOS 2.3 and later: mm/dd/yyyy.
    shape = re.fullmatch(r"(\d{2})/(\d{2})/(\d{4})", told)
    if shape is None or today is None:
        return
    try:
        made = datetime.date(int(shape[3]), int(shape[1]), int(shape[2]))
    except ValueError:
        return
    years = (today - made).days / _DAYS_A_YEAR
    version = files.word(context.root, "/sys/class/dmi/id/bios_version") or "of unknown version"
    if years > _OLD_YEARS:
        yield Finding(
            "old-firmware",
            INFORMS,
            FIRMWARE,
            f"the firmware ({version}) is of {made.isoformat()}, {years:.0f} years old",
            "it says which memory is near which CPU (SRAT, SLIT, HMAT) and has the microcode: mistakes there look "
            "like the kernel's",
            "see its maker for a newer one; compare distances with a like machine's (numabench topology)",
            "System Management BIOS specification, type 0",
        )
    else:
        yield Fine(FIRMWARE, f"{version} of {made.isoformat()}")


def check_clock(context: Context) -> Iterator[Seen]:
    """Whether reading the clock is cheap, and whether something sets it."""
    found = [*_source(context), *_steps(context)]
    yield from found
    source = files.word(context.root, f"{_CLOCKS}/current_clocksource")
    if not found and source:
        yield Fine(CLOCK, source)


def _source(context: Context) -> Iterator[Finding]:
    source = files.word(context.root, f"{_CLOCKS}/current_clocksource")
    if not source or source in _FAST_CLOCKS:
        return
    available = (files.word(context.root, f"{_CLOCKS}/available_clocksource") or "").split()
    yield Finding(
        "slow-clocksource",
        # Of emulated CPUs no time is worth anything.
        INFORMS if _is_emulated(context) else BIASES,
        CLOCK,
        f"the clock source is {source} (there are {', '.join(available) or 'no others'})",
        "each reading of the clock is a system call, and with hpet and acpi_pm one that all CPUs wait for: latencies "
        "of calls and of victims' accesses have it in them",
        f"echo tsc | sudo tee {_CLOCKS}/current_clocksource"
        if "tsc" in available
        else "see in dmesg why the kernel gave up tsc (dmesg | grep -i tsc), and update the firmware",
        "Documentation/virt/kvm/x86/timekeeping.rst",
    )


def _steps(context: Context) -> Iterator[Finding]:
    state = context.process.clock
    if state is None:
        return
    told = []
    if abs(state.offset_s) > _STEP_S:
        told.append(f"it is {format_seconds(abs(state.offset_s))} off")
    if state.is_leap_second_ahead:
        told.append("a leap second is due today")
    if told:
        yield Finding(
            "clock-steps",
            INFORMS,
            CLOCK,
            f"the system's time may be stepped: {'; '.join(told)}",
            "durations are not touched (CLOCK_MONOTONIC is never stepped); times of day in results and in other "
            "machines' logs may not fit together",
            "wait until it is in step: chronyc tracking, timedatectl timesync-status",
            "adjtimex(2)",
        )
    elif not state.is_synchronised:
        yield Finding(
            "clock-unsynchronised",
            INFORMS,
            CLOCK,
            "no program keeps the clock right (NTP; the kernel's flag STA_UNSYNC is set)",
            "no duration or rate: these are of a clock that is never set. The dates in result files may be wrong",
            "sudo timedatectl set-ntp true",
            "adjtimex(2)",
        )
