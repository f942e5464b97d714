"""One command line in several boots, of one kernel or of more that take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.record import BootTurn

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BOOTS = 1000


def turns(series: str, kernels: Sequence[str], boots: int) -> tuple[BootTurn, ...]:
    """The boots of a series, `boots` of each kernel, in the order A B, B A, A B...

    What drifts while they run (the host's load, its heat) so meets all kernels alike: A/B/B/A has the same mean place
    for both, which one kernel after the other has not.
    """
    order: list[str] = []
    for block in range(boots):
        order += kernels if block % 2 == 0 else reversed(kernels)
    return tuple(BootTurn(series, turn, len(order), kernel) for turn, kernel in enumerate(order, 1))


def run_id(turn: BootTurn) -> str:
    """The name of a boot's run: that of the series, which all of them begin with, and its turn."""
    return f"{turn.series}-b{turn.turn:0{len(str(turn.of))}}"
