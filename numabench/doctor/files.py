"""Small files of the kernel, read without trust: what is absent, cut or no number is None."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numabench.host.root import Root

_NUMBER = re.compile(r"-?\d{1,20}")


def word(root: Root, name: str) -> str | None:
    """The text of a file without the space around it."""
    text = root.read_or_none(name)
    return None if text is None else text.strip()


def number(root: Root, name: str) -> int | None:
    """The number that a file holds alone."""
    return as_number(root.read_or_none(name))


def as_number(text: str | None) -> int | None:
    """The number that a text is."""
    shown = (text or "").strip()
    return int(shown) if _NUMBER.fullmatch(shown) else None


def numbers(text: str | None, separator: str | None = None) -> dict[str, int]:
    """Lines of a name and a number, with `separator` between them (none: space); what follows the number is left out.

    Lines that are otherwise are passed over.
    """
    found = {}
    for line in (text or "").splitlines():
        name, *rest = line.split(separator, 1)
        value = as_number(rest[0].split()[0]) if rest and rest[0].split() else None
        if value is not None:
            found[name.strip()] = value
    return found
