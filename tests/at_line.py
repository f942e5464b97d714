"""A trace function that acts at one line of some files, for tests that end code anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from types import FrameType


def at_line(
    files: Container[str], left: Iterator[int], act: Callable[[], None]
) -> Callable[[FrameType, str, Any], Any]:
    """For sys.settrace: acts at the line of these files at which the count-down `left` reaches 0."""

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and next(left) == 0:
            act()
        return trace

    return trace
