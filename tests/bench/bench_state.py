"""Is every knob put back, however a run ends? Figures from real kernels in guests.

    python tests/bench/bench_state.py [--kernel debian:bookworm] [--kills 50] [--faults 300] [--signals 10]

In a guest every knob that its kernel has and that may be set is set and put back: by processes that end by themselves,
by SIGTERM and SIGINT, that are killed at random moments, or killed, cut short or made to fail at a step that outlives
them: each write, sync and removal of a journal and each write of a knob, of a run, of keep, release and recovery
(tests/steps.py). Then by runs in a cpuset, under a seccomp filter and in a sandbox. After each, every key is compared
with what it was. Exit 1 where one was left wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import state_faults

from numabench.lab import kernels
from numabench.lab.accel import probe
from numabench.lab.guest import Guest
from numabench.lab.shapes import shape


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", default="debian:bookworm", help="as `numabench lab kernel add` names it")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--signals", type=int, default=10)
    options = parser.parse_args()
    began = time.monotonic()
    kernel = next(known for known in kernels.cached() if known.source == options.kernel)
    with Guest.boot(kernel, shape("2n"), probe(kernel.image).accel) as guest:
        found = state_faults.run(guest, kills=options.kills, faults=options.faults, signals=options.signals)
        found["kinds"] |= state_faults.run_confined(guest)
    print(f"{kernel.release}: {len(found['knobs'])} knobs set, {found['keys']} keys compared")
    print("steps: " + ", ".join(f"{name} {count}" for name, count in found["steps"].items()))
    print(f"{'ended by':44}{'cases':>6}{'keys left wrong':>18}")
    for kind, entry in found["kinds"].items():
        print(f"{kind:44}{entry['cases']:6}{len(entry['wrong']):18}  {entry['wrong'] or ''}")
    print(f"in {time.monotonic() - began:.0f} s")
    return int(any(entry["wrong"] for entry in found["kinds"].values()))


if __name__ == "__main__":
    sys.exit(main())
