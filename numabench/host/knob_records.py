"""What the lines of a journal tell together: which keys were written, what they were before, and what may be ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numabench.errors import UsageError
from numabench.host.knob_table import Knob, find, known

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Captured:
    """A key as it was before the first write. `began` names a process for good (`knob_access.began`)."""

    name: str
    path: str
    kind: str
    before: str
    began: str = ""


@dataclass
class History:
    """A journal's records as one: of several captures of a key the first counts.

    `values` are those that a key has from us or from the kernel along with our writes. `open` are the keys of writes
    that were announced and not closed: whoever was killed there may have left any value. `lost` are keys that were
    written and whose old value is in no line that can be read.
    """

    is_damaged: bool = False
    boot_ids: set[str] = field(default_factory=set)
    captured: dict[str, Captured] = field(default_factory=dict)
    coupled: dict[str, Captured] = field(default_factory=dict)
    written: dict[str, None] = field(default_factory=dict)
    values: dict[str, set[str]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    @property
    def lost(self) -> list[str]:
        """See above."""
        return [name for name in self.written if name not in self.captured and name not in self.coupled]

    def to_put_back(self) -> list[Captured]:
        """What is to be put back, in that order: what was written, the last first; then what came along with it."""
        # Where lines are gone, the one that announced a write may be among them.
        ours = [name for name in (self.captured if self.is_damaged else self.written) if name in self.captured]
        if not ours and not self.written:
            return []
        along = {name for written in (*ours, *self.written) for name in knob_of(written).coupled}
        unwritten = {name: key for name, key in self.captured.items() if knob_of(name).name in along}
        others = {**self.coupled, **unwritten}
        return [
            *(self.captured[name] for name in reversed(ours)),
            *(key for name, key in others.items() if name not in ours),
        ]

    def may_be_ours(self, name: str, value: str) -> bool:
        """Whether a key may have that value from us. After a kill in the midst of a write, or damage, any may be."""
        if self.is_damaged or name in self.open or value in self.values.get(name, ()):
            return True
        return any(knob_of(name).name in knob_of(written).coupled for written in self.open)


def knob_of(name: str) -> Knob:
    """The knob of a key: `cpuidle.disable[cpu0,state2]` is one of cpuidle.disable's. Raises `UsageError`."""
    return known().get(name.partition("[")[0]) or find(name)


def history(records: Sequence[dict[str, Any]], *, damaged: int = 0, is_latest: bool = False) -> History:
    """What these records tell. With `is_latest` the last capture of a key counts."""
    told = History(is_damaged=damaged > 0)
    done = set()
    for record in records:
        told.boot_ids |= {record["boot_id"]} if record.get("boot_id") else set()
        if "name" in record:
            key = _captured(record["name"], record)
            if is_latest or key.name not in told.captured:
                told.captured[key.name] = key
            _values(told, key.name, record["wanted"])
        elif "before" in record:
            key = _captured(record["coupled"], record)
            told.coupled.setdefault(key.name, key)
        elif "writing" in record:
            told.written.setdefault(record["writing"])
            told.open.add(record["writing"])
            _values(told, record["writing"], record["wanted"])
        elif "wrote" in record:
            done.add(record["wrote"])
            told.open.discard(record["wrote"])
            for name, value in {record["wrote"]: record["shown"], **record["coupled"]}.items():
                _values(told, name, value)
        elif "refused" in record:
            told.open.discard(record["refused"])
            if record["refused"] not in done:
                told.written.pop(record["refused"], None)
    return told


def _captured(name: str, record: dict[str, Any]) -> Captured:
    return Captured(name, record["path"], record["kind"], record["before"], record.get("began", ""))


def _values(told: History, name: str, value: str) -> None:
    told.values.setdefault(name, set()).add(value)


# By the key that a record has, the first that fits.
_SHAPES: dict[str, dict[str, type]] = {
    "name": {"name": str, "path": str, "kind": str, "before": str, "began": str, "wanted": str, "boot_id": str},
    "before": {"coupled": str, "path": str, "kind": str, "before": str},
    "writing": {"writing": str, "wanted": str},
    "wrote": {"wrote": str, "shown": str, "coupled": dict},
    "refused": {"refused": str},
    "boot_id": {"boot_id": str},
}


def is_record(told: object) -> bool:
    """Whether this numabench knows such a record, and the knobs that it names."""
    if not isinstance(told, dict):
        return False
    shape = next((shape for key, shape in _SHAPES.items() if key in told), None)
    if shape is None or not all(isinstance(told.get(key), kind) for key, kind in shape.items()):
        return False
    names = [told[key] for key in ("name", "writing", "wrote", "refused") if key in told]
    coupled = told.get("coupled", {})
    values: dict[Any, Any] = coupled if isinstance(coupled, dict) else {coupled: ""}
    return all(map(_is_known, [*names, *values])) and all(isinstance(value, str) for value in values.values())


def _is_known(name: str) -> bool:
    try:
        knob_of(name)
    except UsageError:
        return False
    return True
