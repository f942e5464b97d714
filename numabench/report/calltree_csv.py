"""Functions as CSV: what each weighs itself and with all it called."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numabench.analysis.calltree import CallTree

_HEAD = ("comm", "level", "symbol", "self_weight", "inclusive_weight", "self_share", "inclusive_share")


def render(tree: CallTree) -> str:
    """A line for each function of an inclusive call tree, in its order; weights in the event's unit, shares 0 to 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    total = tree.total_weight or 1
    for entry in tree.entries:
        writer.writerow((
            entry.comm,
            entry.level,
            entry.symbol,
            entry.self_weight,
            entry.inclusive_weight,
            f"{entry.self_weight / total:.6f}",
            f"{entry.inclusive_weight / total:.6f}",
        ))  # fmt: skip
    return text.getvalue()
