"""50 failures injected into nights on a real Slurm: every cell ends, none is published twice or by a stale attempt.

`python tests/bench/bench_slurm_failures.py [ROUNDS]` takes some six minutes for two rounds, most of them waiting. Each
story of tests/slurm_stories.py checks its own night; a boot that fails is one failure, so that two stories inject two.
"""

from __future__ import annotations

import collections
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import slurm_stories as stories
from slurm_cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_stories import Ending

# A round's stories, how often, and how many failures each is; a row is told on a cluster of its own, one by one.
ROWS: tuple[tuple[tuple[Callable[[Cluster], Ending], int, int], ...], ...] = (
    ((stories.never_boots, 2, 2),),
    ((stories.wrong_kernel, 3, 2),),
    ((stories.node_killed, 4, 1), (stories.controller_restarted, 3, 1), (stories.controller_forgets, 2, 1)),
    ((stories.slurmd_killed, 4, 1), (stories.requeued, 3, 1), (stories.night_killed, 1, 1)),
    ((stories.three_kernels, 1, 1),),
)


def _tell(row: tuple[tuple[Callable[[Cluster], Ending], int, int], ...], rounds: int) -> list[tuple[str, int, Ending]]:
    found = []
    with tempfile.TemporaryDirectory(prefix="slurm-") as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start()
            for each, times, failures in row:
                for _ in range(times * rounds):
                    began = time.monotonic()
                    end = each(cluster)
                    found.append((each.__name__, failures, end))
                    print(f"  {each.__name__}: {time.monotonic() - began:.0f} s: {end.states}", file=sys.stderr)
        finally:
            cluster.stop()
    return found


def main() -> None:
    """Tell all, and count."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    began = time.monotonic()
    with ThreadPoolExecutor(len(ROWS)) as pool:
        told = [each for row in pool.map(lambda row: _tell(row, rounds), ROWS) for each in row]
    table = collections.Counter((name, state) for name, _, end in told for state in end.states.values())
    for (name, state), count in sorted(table.items()):
        print(f"{name:22} {state:8} {count:4} cells")
    failures, cells = sum(count for _, count, _ in told), sum(len(end.states) for *_, end in told)
    print(f"{failures} failures in {len(told)} nights: {cells} of {cells} cells ended, none published twice")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
