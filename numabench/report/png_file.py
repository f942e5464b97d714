"""A picture's file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from numabench import named_file

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all. Raises `OSError`."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    named_file.write(path, (drawn.getvalue(),))
