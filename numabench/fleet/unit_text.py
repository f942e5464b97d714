"""Words and paths as systemd's unit files have them (systemd.syntax(7), systemd.service(5), systemd.unit(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def command(argv: Sequence[str], *, may_fail: bool = False) -> str:
    """A command line. No variable is expanded in it; where it `may_fail`, what comes next runs all the same."""
    return f"{'-' if may_fail else ''}:{' '.join(quoted(word) for word in argv)}"


def quoted(word: str) -> str:
    """One word of a command line, an assignment of Environment=, or a path in a list of some."""
    escaped = _checked(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def path(text: str) -> str:
    """A path that is all of a value: nothing is quoted there, and blanks and a backslash at its end would be lost."""
    checked = _checked(text)
    return f"{checked}/" if checked.endswith((" ", "\\")) else checked


def line(text: str) -> str:
    """A text that is all of a value."""
    return _checked(text.replace("\\", "/"))


def _checked(text: str) -> str:
    """A text without what no unit file can hold, `%` written so that it means itself."""
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in text):
        raise UsageError(
            f"{text!a} cannot be written in a systemd unit: it holds a control character, or is not UTF-8",
            "use another path or name",
        )
    return text.replace("%", "%%")
