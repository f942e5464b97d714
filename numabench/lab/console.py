"""What a guest's kernel said last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TAIL_BYTES = 64 * 1024
_LINES = 12
# Terminal control sequences, and whatever else is not text (the firmware clears the screen before the kernel starts).
_NOT_TEXT = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[@-Z\\-_c])|[^\t\n\x20-\x7e]")
_CAUSE = re.compile(r"Kernel panic - not syncing|\bBUG: |\bOops: |general protection fault|^qemu-system", re.MULTILINE)


def says_why(console: Path) -> bool:
    """Whether a console log of a guest that ended has a reason in it: a panic, a shutdown, or QEMU's own error."""
    try:
        text = console.read_bytes().decode(errors="replace")
    except OSError:
        return True
    return bool(_CAUSE.search(text) or "reboot: " in text)


def last_words(console: Path) -> str:
    """The end of a console log for an error message: the lines that name a cause, then the last lines. May be empty."""
    try:
        with console.open("rb") as file:
            file.seek(max(0, console.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return "; its console log could not be read"
    lines = [line for line in _NOT_TEXT.sub("", text).splitlines() if line.strip()]
    if not lines:
        return "; its console stayed silent"
    tail = lines[-_LINES:]
    causes = [line for line in lines[:-_LINES] if _CAUSE.search(line)]
    shown = [*causes[:4], "...", *tail] if causes else tail
    return "; its console ended with:\n  " + "\n  ".join(shown)
