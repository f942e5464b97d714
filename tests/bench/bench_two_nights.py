"""Two nights of three kernels x four workloads in guests, one kernel changed between them: does the morning name it?

`python tests/bench/bench_two_nights.py LAB` takes an hour on two CPUs, and 20 minutes more where two kernels have to be
built. In the second night 6.12 is booted with `anon_vma_excl`: walks of the reverse map take the anon_vma lock
exclusively, as before v3.8. It exits with 0 where the report names cells of that kernel and no other, says what is
another about it, and has rmap_walk in its call graphs. Nights that are there are not run again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from numabench import process
from numabench.errors import EXIT_REGRESSION

PARAMETER = "anon_vma_excl"
PLAN = """\
[lab]
name = "two-nights"

[night]
boots = 3
repeats = 2

[kernels.v6_1]
build = { source = "debian:6.1", patch = ["anon-vma-excl-6.1"] }

[kernels.v6_12]
build = { source = "debian:6.12", patch = ["anon-vma-excl-6.12"] }

[kernels.v7_2]
package = "debian:sid"

[machines.vm]
guest = { nodes = 2 }

# Two threads, each sending its half of one mapping to and fro: every page's walk takes the mapping's one anon_vma lock.
[[experiment]]
name = "one-mapping"
workload = "pingpong"
options = { nodes = 2, driver = "move_pages", threads = 2, size = "32M", loops = 8, batch = 512, observe = "cpu" }

# The objection of 2012: pages that eight children inherited hang on the lock of their family.
[[experiment]]
name = "family"
workload = "forktree"

[experiment.options]
nodes = 2
driver = "move_pages"
move-all = true
threads = 2
size = "8M"
loops = 8
depth = 1
fanout = 8
churn = "none"
batch = 512
observe = "cpu"

[[experiment]]
name = "memset"
workload = "memset"
options = { nodes = 2, threads = 1, size = "32M", duration = "6s" }

[[experiment]]
name = "numa02"
workload = "numa02"
options = { nodes = 2, threads = 2, size = "32M", duration = "6s" }
"""
NIGHTS = ("2026-11-24", "2026-11-25")
_PATIENCE_S = 4 * 3600.0


def numabench(*words: str) -> process.Completed:
    """Run a command of the lab's, and pass on what it says of its progress once it has ended."""
    done = process.run([sys.executable, "-m", "numabench", "nightly", *words], timeout_s=_PATIENCE_S)
    print(done.stderr, end="", file=sys.stderr)
    return done


def main() -> int:
    """Run both nights, print the morning, and judge it."""
    lab = Path(sys.argv[1])
    lab.mkdir(parents=True, exist_ok=True)
    file = lab / "lab.toml"
    for night, parameters in zip(NIGHTS, ("", f'parameters = ["{PARAMETER}"]\n'), strict=True):
        file.write_text(PLAN.replace("\n[kernels.v7_2]", f"{parameters}\n[kernels.v7_2]"))
        if not (lab / "nights" / night).exists():
            print(numabench("run", str(file), "--night", night).stdout, end="", flush=True)
    told = numabench("report", str(file))
    print(told.stdout, end="")
    found = json.loads(numabench("report", str(file), "--json", "--no-site").stdout)
    cells = {one["cell"] for one in found["worse"]}
    texts = json.dumps(found["worse"])
    wanted = bool(cells) and all(".v6_12." in cell for cell in cells) and PARAMETER in texts and "rmap_walk" in texts
    print(f"named: {', '.join(sorted(cells)) or 'none'}; exit code {told.exit_status}")
    return 0 if wanted and told.exit_status == EXIT_REGRESSION else 1


if __name__ == "__main__":
    sys.exit(main())
