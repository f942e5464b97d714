"""A guest in which every knob is set and put back, however that ends: for the tests, and for bench_state.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

INSIDE = Path(__file__).parent / "lab/inside/state_faults.py"


def run(
    guest: Guest, *, kills: int, faults: int, signals: int, seed: int = 1, timeout_s: float = 1800
) -> dict[str, Any]:
    """What became of the knobs, by kind of end (tests/lab/inside/state_faults.py)."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "PYTHONPATH": f"{INSIDE.parents[3]}:{INSIDE.parents[2]}",
    }
    asked = {"kills": kills, "faults": faults, "signals": signals, "seed": seed}
    argv = [sys.executable, str(INSIDE), json.dumps(asked)]
    answer: dict[str, Any] = json.loads(guest.run(argv, env=environment, timeout_s=timeout_s).check("faults").stdout)
    return answer
