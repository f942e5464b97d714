"""Kernel and full stacks of a recording of a million samples: CPU seconds against perf's own tools.

    python tests/bench/bench_perf_reader.py [--samples 1000000] [--keep FILE]

Records on all CPUs until there are about as many samples (it needs the right to, and a minute), and prints CPU seconds
(user and system, the best of three) and their ratios. What is timed of numabench is in process, imports apart.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.perf import load

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3
SAMPLES_PER_S = 20_000
MAX_RECORDING_S = 120
WORK = """
while :; do
    find /usr -type f | head -2000 | xargs cat > /dev/null
    perf bench sched messaging -g 4 -l 500
    perf bench sched pipe -l 20000
    perf bench futex hash -r 1
    for i in $(seq 40); do sh -c 'ls /usr/lib'; done
done > /dev/null 2>&1
"""
COLLAPSE = r"""
import collections, sys
stacks, frames = collections.Counter(), []
for line in sys.stdin:
    if line[0] in "\t ":
        words = line.split(None, 1)
        if len(words) == 2:
            frames.append(words[1].strip().rsplit("+0x", 1)[0])
    elif frames:
        stacks[";".join(reversed(frames))] += 1
        frames = []
    if not line.strip() and frames:
        stacks[";".join(reversed(frames))] += 1
        frames = []
print(len(stacks))
"""


def record(path: Path, samples: int) -> None:
    seconds = min(samples / SAMPLES_PER_S / (os.cpu_count() or 1) * 1.1, MAX_RECORDING_S)
    work = f"timeout {seconds:.0f} sh -c '{WORK.replace(chr(39), chr(34))}'; true"
    options = ("-q", "-m", "2048", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-g", "-a", "-o", str(path))
    process.run(("perf", "record", *options, "--", "sh", "-c", work), timeout_s=MAX_RECORDING_S + 60).check(
        "perf record"
    )


def cpu_s(run: Callable[[], object]) -> float:
    """CPU seconds of this process and of the children it waited for."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    run()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def best(run: Callable[[], object]) -> float:
    return min(cpu_s(run) for _ in range(ROUNDS))


def shell(script: str) -> None:
    process.run(("sh", "-c", script), timeout_s=600).check(script)


def stacks(path: Path, *, user: bool) -> int:
    profile = load(path, user=user, threads=user)
    return len(list(profile.tree(kallsyms=profile.kallsyms(), user=user).folded()))


def peak_mib(path: Path, *, user: bool) -> tuple[float, float]:
    """Peak memory of a process that has imported everything, and of one that has read the recording, too."""
    code = (
        "import re, sys, numpy, numabench.perf as perf\n"
        "from pathlib import Path\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) / 1024\n"
        "imports = peak()\n"
        f"profile = perf.load(sys.argv[1], user={user}, threads={user})\n"
        f"list(profile.tree(kallsyms=profile.kallsyms(), user={user}).folded())\n"
        "print(imports, peak())\n"
    )
    printed = process.run((sys.executable, "-c", code, str(path)), timeout_s=120).check("memory").stdout.split()
    return float(printed[0]), float(printed[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="record into this file, or use it where it exists")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = options.keep or Path(directory) / "perf.data"
        if not path.exists():
            record(path, options.samples)
        measure(path)


def measure(path: Path) -> None:
    import numpy  # noqa: F401  imports are not what is timed

    began = time.monotonic()
    profile = load(path, user=False, threads=False)
    print(f"{profile.stats.samples:,} samples, {path.stat().st_size / 1e6:.1f} MB, lost {profile.stats.lost:,}")
    folded = "--no-children --sort sym --stdio -g folded,0,caller,function,count"
    report_s = best(lambda: shell(f"perf report -i {path} {folded} > /dev/null 2>&1"))
    fields = "comm,tid,time,event,ip,sym"
    collapse = f"perf script -i {path} --no-inline -F {fields} 2> /dev/null | {sys.executable} -c '{COLLAPSE}'"
    script_s = cpu_s(lambda: shell(collapse))
    print(f"{'':34}{'CPU s':>8}{'x report':>10}{'x script':>10}{'MiB':>8}{'above imports':>15}")
    print(f"{'perf report -g folded':34}{report_s:8.3f}")
    print(f"{'perf script | collapse in Python':34}{script_s:8.3f}")
    for name, user in (("numabench, kernel stacks", False), ("numabench, with user symbols", True)):
        ours_s = best(lambda user=user: stacks(path, user=user))
        imports, peak = peak_mib(path, user=user)
        print(
            f"{name:34}{ours_s:8.3f}{report_s / ours_s:10.1f}{script_s / ours_s:10.1f}{peak:8.0f}{peak - imports:15.0f}"
        )
    print(f"measured in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    # The threads that numpy's linear algebra starts spin for a while, and would count as ours.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    main()
