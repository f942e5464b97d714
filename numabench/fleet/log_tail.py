"""The end of what a cell's last run in an attempt has printed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from numabench.fleet.publish import LOG_FILE

if TYPE_CHECKING:
    from pathlib import Path

# A log of a whole block may be long; what a run that failed had to say is at its end.
_READ_BYTES = 1 << 20
_MOST_LINES, _LONGEST_LINE = 40, 400
_COMMAND = "+ "


def log_tail(attempt: Path, cell: str) -> str:
    """The last lines, behind the command that they are of; empty where the log does not have the cell."""
    try:
        with (attempt / LOG_FILE).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _READ_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    begins = [place for place, line in enumerate(lines) if line.startswith(_COMMAND)]
    own = [place for place in begins if f"-{cell} " in f"{lines[place]} "]
    if not own:
        return ""
    end = next((place for place in begins if place > own[-1]), len(lines))
    command, said = lines[own[-1]], lines[own[-1] + 1 : end]
    left_out = [f"... {len(said) - _MOST_LINES} lines ..."] if len(said) > _MOST_LINES else []
    return "\n".join(line[:_LONGEST_LINE] for line in (command, *left_out, *said[-_MOST_LINES:]))
