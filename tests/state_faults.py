"""A guest in which every knob is set and put back, however that ends: for the tests, and for bench_state.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench.workload import build

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

INSIDE = Path(__file__).parent / "lab/inside/state_faults.py"
CONFINED = ("cpuset", "seccomp", "sandbox")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": f"{INSIDE.parents[3]}:{INSIDE.parents[2]}"}


def run(
    guest: Guest, *, kills: int, faults: int, signals: int, seed: int = 1, timeout_s: float = 1800
) -> dict[str, Any]:
    """What became of the knobs, by kind of end (tests/lab/inside/state_faults.py)."""
    asked = {"kills": kills, "faults": faults, "signals": signals, "seed": seed}
    argv = [sys.executable, str(INSIDE), json.dumps(asked)]
    answer: dict[str, Any] = json.loads(guest.run(argv, env=_environment(), timeout_s=timeout_s).check("faults").stdout)
    return answer


def run_confined(guest: Guest) -> dict[str, Any]:
    """The same of runs in a cpuset without node 1, under a seccomp filter and in a sandbox (doctor_cases.py)."""
    build.build("pingpong")
    argv = [sys.executable, str(INSIDE.with_name("doctor_cases.py")), "/run/confined", *CONFINED]
    ended = guest.run(argv, env=_environment(), timeout_s=600).check("the confined runs")
    return {", ".join(CONFINED): {"cases": len(CONFINED), "wrong": json.loads(ended.stdout)["altered"]}}
