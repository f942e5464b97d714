"""Whether two sides may be compared: the identity keys that differ, and which of them forbid it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """An identity key whose values differ; `forbids` says why a comparison would mean nothing then, if it would."""

    key: str
    a: str
    b: str
    forbids: str = ""
