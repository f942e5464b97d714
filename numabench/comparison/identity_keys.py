"""What a run was measured on and with, as texts by key: the kernel, the machine, the setting, and the work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from numabench.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.record import Run

# Options of the kernel's command line that say how it was started and where it prints, not what it does: of boot
# loaders and initial file systems, of virtme-ng (virtme/commands/run.py), and our own, which are other keys.
_PLUMBING = re.compile(
    r"(?:(?:BOOT_IMAGE|initrd|init|rdinit|root|rootflags|rootfstype|rootdelay|resume|console|earlyprintk|earlycon|"
    r"loglevel|panic|nr_open|ip|netroot|BOOTIF|cryptdevice|boot|reboot)="
    r"|(?:virtme|numabench|rd|systemd|dracut)[._]).*|ro|rw|quiet|splash|debug|ignore_loglevel"
)
_WORDS = re.compile(r'(?:[^\s"]|"[^"]*")+')

COMMAND_LINE, KNOB = "kernel command line", "knob "
WHERE, ACCELERATOR, VIRTUALIZATION = "where", "accelerator", "virtualization"
PAGE_SIZE, PAGES = "page size", "pages of the workload"
NODE_MEMORY = "node memory"
WORKLOAD, NODE_COUNT = "workload", "number of nodes"
PLACEMENTS = "placements"
# What was known not to be there or not to be asked for, unlike what is not known.
NONE = "none"
# What of the plan makes it another work, by what people call it. Seeds are drawn anew each time, and repeats, warm-ups
# and time limits say how often it was looked at.
CONSTANTS = {
    "command": "command",
    "size": "size_bytes",
    "threads": "threads",
    "loops": "loops",
    "duration": "duration_s",
    "start node": "start_node",
    "thp": "thp",
    "mapping": "mapping",
    "driver": "driver",
    "verify": "verify",
    "obstacles": "obstacles",
}
# Plans within the plan, whose keys are constants, too.
NESTED = ("mover", "victims", "family")
_SAMPLING = {"sampling interval": "interval_s", "sampled pages": "sample_pages"}


def kernel_options(cmdline: str) -> str:
    """The options of a kernel's command line that set how it behaves, sorted; those after `--` are init's."""
    words = _WORDS.findall(cmdline)
    own = words[: words.index("--")] if "--" in words else words
    return " ".join(sorted(word for word in own if not _PLUMBING.fullmatch(word)))


def identity_keys(run: Run) -> dict[str, str]:
    """Everything that may tell two runs apart, in the order to tell it; an empty text is not known, or not set."""
    return _kernel(run) | _knobs(run) | _machine(run) | _versions(run) | work(run)


def rank(key: str) -> int:
    """Where a key belongs among those told: the kernel, its knobs, and all the rest."""
    return 0 if key.startswith("kernel") else 1 if key.startswith(KNOB) else 2


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _size(value: Any) -> str:
    return format_bytes(value) if isinstance(value, int) else ""


def _object(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = fields.get(key)
    return found if isinstance(found, dict) else {}


def _kernel(run: Run) -> dict[str, str]:
    kernel = _object(run.identity, "kernel")
    return {
        "kernel": run.machine.kernel_release,
        "kernel version": run.machine.kernel_version,
        "kernel build id": _text(kernel.get("build_id")),
        COMMAND_LINE: kernel_options(_text(kernel.get("cmdline"))),
    }


def _knobs(run: Run) -> dict[str, str]:
    return {f"{KNOB}{name}": value for name, value in sorted(run.machine.knobs.items())}


def _machine(run: Run) -> dict[str, str]:
    machine, cpu = run.machine, _object(run.identity, "cpu")
    return {
        WHERE: machine.where,
        ACCELERATOR: machine.accelerator,
        VIRTUALIZATION: machine.virtualization,
        "host": machine.hostname,
        "machine": _text(run.identity.get("machine_id_hash")),
        "CPU": machine.cpu_model,
        "microcode": _text(cpu.get("microcode")),
        "CPUs": _text(machine.cpu_count or ""),
        PAGE_SIZE: format_bytes(run.page_bytes),
        "huge page size": _size(run.huge_page_bytes or None),
        "transparent huge pages": _thp_enabled(run),
        PAGES: _pages(run),
        **_topology(_object(run.identity, "topology")),
        "swap": _size(run.identity.get("swap_total_bytes")),
    }


def _topology(topology: Mapping[str, Any]) -> dict[str, str]:
    rows = topology.get("nodes")
    nodes = [node for node in rows if isinstance(node, dict)] if isinstance(rows, list) else []
    return {
        "nodes": " ".join(f"{node.get('id')}:{node.get('cpus') or '-'}" for node in nodes),
        NODE_MEMORY: " ".join(_text(node.get("size_bytes")) for node in nodes),
        "distances": _text(topology.get("distances")),
    }


def _versions(run: Run) -> dict[str, str]:
    return {name: _text(run.identity.get(name)) for name in ("compiler", "numabench", "python", "libnuma")}


def _thp_enabled(run: Run) -> str:
    """What was in force while it ran; the identity's own is what was found before knobs were set."""
    return run.machine.knobs.get("thp.enabled", run.machine.thp_enabled)


def _pages(run: Run) -> str:
    """The kind of pages that the workload's memory has, where that was decided: `4k`, `thp`, ..."""
    if run.planned.mover is not None:
        return run.planned.mover.pages
    asked, enabled = _text(run.plan.get("thp")) or "default", _thp_enabled(run)
    if run.plan.get("command") or not enabled:
        # What the program asks for is its own affair.
        return f"thp {enabled}" if enabled else ""
    is_huge = asked != "never" if enabled == "always" else enabled == "madvise" and asked == "always"
    return "thp" if is_huge else "base pages"


def work(run: Run) -> dict[str, str]:
    """What was to be done, by key; nested plans by `mover batch` and the like."""
    found = {WORKLOAD: run.workload, NODE_COUNT: str(len(run.nodes)), PLACEMENTS: ", ".join(run.placements)}
    found |= {name: _shown(name, run.plan[key]) for name, key in CONSTANTS.items() if key in run.plan}
    for name in NESTED:
        for key, value in _object(run.plan, name).items():
            found[f"{name} {key.replace('_', ' ')}"] = _shown(key, value)
    return found | {name: _shown(name, run.plan[key]) for name, key in _SAMPLING.items() if key in run.plan}


def is_constant(key: str) -> bool:
    """Whether a key of `work` makes it another work."""
    return key in {WORKLOAD, NODE_COUNT} or key in CONSTANTS or key.partition(" ")[0] in NESTED


def may_be_empty(key: str) -> bool:
    """Whether an empty text of a key is what it is, and not something that is not known."""
    return key in {COMMAND_LINE, ACCELERATOR, VIRTUALIZATION} or key.partition(" ")[0] in NESTED


def _shown(name: str, value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return NONE
    if name == "size" and isinstance(value, int):
        return format_bytes(value)
    if name in {"duration", "sampling interval"} and isinstance(value, int | float):
        return format_seconds(value)
    if isinstance(value, dict):
        return " ".join(f"{key}={value[key]}" for key in sorted(value))
    return " ".join(str(word) for word in value) if isinstance(value, list) else str(value)
