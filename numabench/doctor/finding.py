"""What a check gives: findings, and what was looked at and is as it should be."""

from __future__ import annotations

from dataclasses import dataclass

from numabench.record import BIASES, BLOCKS, INFORMS
from numabench.record import MachineFinding as Finding

__all__ = ["BIASES", "BLOCKS", "INFORMS", "WEIGHTS", "Finding", "Fine", "Seen"]

WEIGHTS = (BLOCKS, BIASES, INFORMS)


@dataclass(frozen=True)
class Fine:
    """A subject that was looked at, and what was seen there that is as it should be, with figures."""

    subject: str
    text: str


Seen = Finding | Fine
