"""What could not be known, with the reason: never a zero, never a guess."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """A value that a run does not have; `reason` says why, as the end of a sentence."""

    reason: str
