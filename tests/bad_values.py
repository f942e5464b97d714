"""Values that no option can mean, by what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bad_box import Box

HUGE = str(2**63)
CONTROL = "\x1b[2J\x07\x08\x9b"
# Right-to-left override, combining characters, and bytes that are no UTF-8, as Python has them in sys.argv.
BACKWARDS, COMBINING, NO_UTF_8 = "\u202edlrow", "e\u0301\u0323", "\udcff\udc80"
LONG, DEEP = "x" * 100_000, '{"a":' * 10_000

TEXTS = (
    *("", " ", CONTROL, BACKWARDS, COMBINING, NO_UTF_8, LONG, DEEP, "a\nb", "-1", "nan", "1e400", HUGE, "9" * 5000),
    *("../../../etc/passwd", "/dev/zero", "%s%n{0}$(id)`id`", ",", "--help"),
)
# Those that a terminal shows as they are.
PLAIN = tuple(text for text in TEXTS if text.strip() and text.isascii() and text.isprintable())
NUMBERS = ("", "x", CONTROL, NO_UTF_8, LONG, "nan", "1e400")
INTEGERS = (*NUMBERS, "1.5", "-1", HUGE, "9" * 5000)
FLOATS = (*NUMBERS, "-1", "inf", "1e300")
FEW = (CONTROL, HUGE)


def paths(of: str, box: Box) -> dict[str, str]:
    """Bad paths by what is wrong with them, for what is read (`file`), or written (`target`, `directory`)."""
    if of == "target":
        return no_targets(box)
    return no_directories(box) if of == "directory" else {**no_files(box), **no_contents(box)}


def no_files(box: Box) -> dict[str, str]:
    """Paths at which there is no file to read, by what is wrong with them."""
    return {
        "nothing": "",
        "missing": "missing",
        "missing, in control characters": f"missing{CONTROL}",
        "missing, no UTF-8": f"missing{NO_UTF_8}",
        "missing, long": LONG,
        "missing, of many parts": "a/" * 3000,
        "below a file": str(box.inputs / "text/below"),
        "a loop": str(box.inputs / "loop"),
        "dangling": str(box.inputs / "dangling"),
    }


def no_contents(box: Box) -> dict[str, str]:
    """Files that hold nothing of what is asked for, or may not be read."""
    names = ("empty", "rubbish", "cut.json", "deep.json", "deep.toml", "text", "unreadable", "fifo", "directory")
    return {name: str(box.inputs / name) for name in names} | {"zeros": "/dev/zero", "null": "/dev/null"}


def no_targets(box: Box) -> dict[str, str]:
    """Paths at which no file can be written."""
    return {
        "nothing": "",
        "a directory": str(box.inputs / "directory"),
        "below a file": str(box.inputs / "text/below"),
        "below nothing": "missing/below",
        "read-only": str(box.kept / "read-only/file"),
        "full": "/dev/full",
        "long": LONG,
        "control characters, below nothing": f"missing{CONTROL}/below{NO_UTF_8}",
        "a fifo that nobody reads": str(box.kept / "fifo"),
        "a loop": str(box.inputs / "loop"),
    }


def no_directories(box: Box) -> dict[str, str]:
    """Paths at which no directory can be made, or nothing written to it."""
    return {
        "a file": str(box.kept / "precious"),
        "below a file": str(box.kept / "precious/below"),
        "read-only": str(box.kept / "read-only"),
        "below what is read-only": str(box.kept / "read-only/below"),
        "full": "/dev/full",
        "long": LONG,
        "a loop": str(box.inputs / "loop"),
        "a fifo": str(box.kept / "fifo"),
    }
