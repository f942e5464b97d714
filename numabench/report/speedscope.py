"""Call chains in speedscope's file format, which the Firefox Profiler and other viewers read, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numabench.analysis.callchain import Stack

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def document(stacks: Iterable[Stack], name: str) -> dict[str, Any]:
    """A speedscope document with one sampled profile for each command, the heaviest first.

    Weights are samples. Frames are shared by all profiles and stand outermost caller first, as the format has them.
    """
    frames: dict[str, int] = {}
    profiles: dict[str, tuple[list[list[int]], list[int]]] = {}
    for stack in stacks:
        chains, weights = profiles.setdefault(stack.comm, ([], []))
        chains.append([frames.setdefault(frame, len(frames)) for frame in reversed(stack.frames)])
        weights.append(stack.samples)
    ordered = sorted(profiles.items(), key=lambda item: (-sum(item[1][1]), item[0]))
    return {
        "$schema": _SCHEMA,
        "exporter": "numabench",
        "name": name,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": comm,
                "unit": "none",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": chains,
                "weights": weights,
            }
            for comm, (chains, weights) in ordered
        ],
    }
