"""The machine's knobs as they are, beside what a profile wants of them, and what differs between two such states."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from numabench.host import cpuset, knobs, kprobes
from numabench.host.knob_table import ACTION, KNOBS, Knob, keys
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.host.profiles import Profile


@dataclass(frozen=True)
class Row:
    """A knob here: its value (None: this kernel has none, or it may not be read), and what the profile wants."""

    group: str
    name: str
    value: str | None
    wanted: str
    meaning: str
    why: str
    is_settable: bool

    @property
    def differs(self) -> bool:
        """Whether the profile would set it to something else."""
        return bool(self.wanted) and self.value is not None and self.value != self.wanted


def rows(profile: Profile, root: Root = LIVE) -> tuple[Row, ...]:
    """Every knob of the table in its order, and the caller's own limits last."""
    found = [
        Row(
            knob.group,
            knob.name,
            _value(knob, root),
            profile.knobs.get(knob.name, ""),
            knob.meaning,
            knob.why,
            knob.is_settable,
        )
        for knob in KNOBS
    ]
    limits = [
        Row("limits of the caller", name, value, "", meaning, "", False) for name, value, meaning in _limits(root)
    ]
    return (*found, *limits)


def _value(knob: Knob, root: Root) -> str | None:
    if knob.kind == ACTION:
        return None
    if knob.name == "swap":
        return _swap(root)
    if knob.name == "memory_tiers":
        told = [f"{key.path.split('/')[-2]}: {(root.read_or_none(key.path) or '').strip()}" for key in keys(knob, root)]
        return "; ".join(told) or None
    return knobs.value_of(knob, root)


def _swap(root: Root) -> str | None:
    text = root.read_or_none("/proc/swaps")
    return None if text is None else ", ".join(line.split()[0] for line in text.splitlines()[1:] if line) or "none"


def _limits(root: Root) -> list[tuple[str, str | None, str]]:
    status = dict(
        line.split(":", 1) for line in (root.read_or_none("/proc/self/status") or "").splitlines() if ":" in line
    )
    found = [
        ("Cpus_allowed_list", status.get("Cpus_allowed_list", "").strip() or None, "CPUs that threads may run on"),
        ("Mems_allowed_list", status.get("Mems_allowed_list", "").strip() or None, "nodes that memory may be taken of"),
    ]
    group = _cgroup(root)
    for name, meaning in (
        ("memory.max", "most memory of the cgroup"),
        ("memory.high", "memory above which the cgroup is slowed"),
        ("cpu.max", "CPU time of the cgroup: microseconds in a period"),
    ):
        value = None if group is None else root.read_or_none(f"{group}/{name}")
        found.append((name, None if value is None else value.strip(), meaning))
    return found


def _cgroup(root: Root) -> str | None:
    """The caller's directory in the unified hierarchy (cgroups(7)), where it is mounted at its usual place."""
    for line in (root.read_or_none("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return "/sys/fs/cgroup" + line[3:].rstrip("/")
    return None


def values(found: tuple[Row, ...]) -> dict[str, str]:
    """The values by name, as a snapshot keeps them."""
    return {row.name: row.value for row in found if row.value is not None}


def snapshot(found: tuple[Row, ...], profile: str, root: Root = LIVE) -> dict[str, Any]:
    """What `state show --json` prints, and `state diff` reads."""
    return {
        "kind": "numabench state",
        "schema_version": 1,
        "boot_id": (root.read_or_none("/proc/sys/kernel/random/boot_id") or "").strip(),
        "release": (root.read_or_none("/proc/sys/kernel/osrelease") or "").strip(),
        "profile": profile,
        "values": values(found),
        "rows": [{**asdict(row), "differs": row.differs} for row in found],
        "altered": [asdict(entry) for entry in knobs.altered(root)],
        "left": list(left_behind(root)),
    }


@dataclass(frozen=True)
class Difference:
    """A knob that two states have differently; None where one does not have it."""

    name: str
    first: str | None
    second: str | None


def differences(
    first: Mapping[str, str], second: Mapping[str, str], *, only_common: bool = False
) -> tuple[Difference, ...]:
    """What differs, by name. With `only_common` names that one of them lacks are left out: a profile has few."""
    names = [name for name in {**first, **second} if not only_common or (name in first and name in second)]
    return tuple(
        Difference(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    )


def left_behind(root: Root = LIVE) -> tuple[str, ...]:
    """What runs that were killed have left beside knobs: cpusets and probes, one sentence each."""
    return (
        *(f"the cpuset {path} of a run that was killed" for path in cpuset.stale(root)),
        *(f"the probes {group} of a run that was killed" for group in kprobes.stale(root)),
    )


def remove_left_behind(root: Root = LIVE) -> None:
    """Remove these. Raises what the kernel says where it refuses."""
    if os.geteuid() == 0:
        cpuset.recover(root)
        kprobes.remove_stale(root)
