"""The machine's knobs as they are, beside what a profile wants of them, and what differs between two such states."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from numabench.host import cgroup, cpuset, knobs, kprobes
from numabench.host.knob_table import ACTION, KNOBS, Knob, keys
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.host.profiles import Profile

# Of what is written and has no value to be read.
NO_STATE = "no state"


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
        return NO_STATE if any(root.exists(path) for path in knob.paths) else None
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
    for name, meaning, limit in (
        ("cgroup.memory", "bytes that the cgroups allow", cgroup.memory_limit(root)),
        ("cgroup.cpus", "CPUs that the cgroups' quotas allow", cgroup.cpu_quota(root)),
        ("cgroup.tasks", "processes and threads that the cgroups allow", cgroup.task_limit(root)),
    ):
        told = f"{meaning} ({limit.file})" if limit else meaning
        found.append(
            (
                name,
                f"{limit.value:g}" if limit and limit.value % 1 else f"{limit.value:.0f}" if limit else "no limit",
                told,
            )
        )
    return found


def values(found: tuple[Row, ...]) -> dict[str, str]:
    """The values by name, as a snapshot keeps them."""
    return {row.name: row.value for row in found if row.value not in {None, NO_STATE}}


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
