"""What speaks for or against believing a run, as data."""

from __future__ import annotations

from dataclasses import dataclass

INVALID, BIASES, INFORMS = "invalid", "biases", "informs"
WEIGHTS = (INVALID, BIASES, INFORMS)


@dataclass(frozen=True)
class Finding:
    """Something to know about a run's validity.

    `weight`: `invalid` (the run does not answer its question), `biases` (its figures are off, or may be), `informs`.
    `trials` are the numbers of those concerned, none where it is the run.
    """

    code: str
    weight: str
    cause: str
    remedy: str
    placement: str = ""
    trials: tuple[int, ...] = ()
