"""What a check gives: findings, and what was looked at and is as it should be."""

from __future__ import annotations

from dataclasses import dataclass

from numabench.record import BIASES, BLOCKS, INFORMS
from numabench.record import MachineFinding as Finding

__all__ = ["BIASES", "BLOCKS", "INFORMS", "RUN_SETS_IT", "WEIGHTS", "WITH_QUIET", "Finding", "Fine", "Seen", "by_state"]

WEIGHTS = (BLOCKS, BIASES, INFORMS)

# What undoes itself is named before what does not.
RUN_SETS_IT = "nothing to do: numabench run sets it for as long as it runs, and puts it back"
WITH_QUIET = (
    "numabench run --profile quiet ... sets it for the run and puts it back; until you say otherwise: "
    "sudo numabench state apply quiet (back: sudo numabench state restore)"
)


def by_state(name: str, value: str) -> str:
    """The command that sets a knob, and the one that puts it back."""
    return f"sudo numabench state apply none --set {name}={value} (back: sudo numabench state restore)"


@dataclass(frozen=True)
class Fine:
    """A subject that was looked at, and what was seen there that is as it should be, with figures."""

    subject: str
    text: str


Seen = Finding | Fine
