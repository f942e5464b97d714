"""Stacks and lock waits of a recording: CPU seconds against perf's own tools, and memory.

    python tests/bench/bench_perf_reader.py [--samples 1000000] [--keep DIRECTORY] [--stream GB]

Records work of its own until there are about as many samples, and a benchmark of messages for its locks (it needs the
right to, and two minutes), and prints one table: CPU seconds (user and system, the least of several rounds taken in
turn) and how many times as long each of perf's tools takes. What is timed of numabench is in process, imports apart,
but for the whole command. `--stream` feeds so many GB of made-up records through a pipe instead, and prints the peak of
memory.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

# The threads that numpy's linear algebra starts spin for a while, and would count as ours.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from bench import perf_stream

from numabench import process
from numabench.analysis import contention, recorded
from numabench.perf import load
from numabench.report import locks_text

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
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
MESSAGES = ("perf", "bench", "sched", "messaging", "-t", "-g", "8", "-l", "4000")
LOCK_EVENTS = ("-e", "lock:contention_begin", "-e", "lock:contention_end")
REPORT, SCRIPT, CONTENTION = "perf report -g folded", "perf script, stackcollapse.py", "perf lock contention"
KERNEL, USER, COMMAND = "kernel stacks", "with user symbols", "numabench callgraph --folded"
LOCKS = "lock report"


def record(path: Path, samples: int) -> None:
    # The work keeps the CPUs busy for somewhat more than half of the time.
    seconds = min(samples / SAMPLES_PER_S / (os.cpu_count() or 1) * 2, MAX_RECORDING_S)
    work = f"timeout {seconds:.0f} sh -c '{WORK.replace(chr(39), chr(34))}'; true"
    options = ("-q", "-m", "2048", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-g", "-o", str(path))
    argv = ("perf", "record", *options, "--", "sh", "-c", work)
    process.run(argv, timeout_s=MAX_RECORDING_S + 60).check("perf record")


def record_locks(path: Path) -> None:
    argv = ("perf", "record", "-q", "-m", "2048", *LOCK_EVENTS, "-g", "-a", "-o", str(path), "--", *MESSAGES)
    process.run(argv, timeout_s=MAX_RECORDING_S).check("perf record")


def cpu_s(run: Callable[[], object]) -> float:
    """CPU seconds of this process and of the children it waited for."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    run()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def shell(script: str) -> None:
    process.run(("sh", "-c", script), timeout_s=600).check(script)


def stacks(path: Path, *, user: bool) -> int:
    """All of it: read, find symbols, make the tree and its text."""
    profile = load(path, user=user, threads=False)
    tree = profile.tree(kallsyms=profile.kallsyms(), user=user, comm=user)
    return sum(len(text) for text in tree.folded_text())


def lock_report(path: Path) -> contention.ContentionReport:
    """All of it: read, pair, tell who waited for what, print."""
    profile = load(path, rows=recorded.PAIRED, user=False, threads=False)
    events = recorded.contention_events(profile)
    assert events is not None
    chains = recorded.kernel_chains(profile, profile.kallsyms())
    report = contention.report(contention.pair(events), chains)
    assert locks_text.render(report, None, None)
    return report


def peak_above_imports_mib(call: str, path: Path) -> float:
    """By how much a call raises the peak of memory of a process that has imported everything it needs."""
    code = (
        "import os\nos.environ['OPENBLAS_NUM_THREADS'] = '1'\n"
        "import re, sys\nfrom pathlib import Path\n"
        "import bench.bench_perf_reader as own\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) / 1024\n"
        "imports = peak()\n"
        f"own.{call}\n"
        "print(peak() - imports)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    argv = (sys.executable, "-c", code, str(path))
    return float(process.run(argv, env=env, timeout_s=120).check("memory").stdout)


def contended_by_perf(path: Path) -> int:
    """How many waits `perf lock contention` has: version 6.1 prints them to stderr."""
    done = process.run(("perf", "lock", "contention", "-i", str(path)), timeout_s=120).check("perf lock contention")
    rows = re.findall(r"^ +(\d+) +[\d.]+ [mun]?s ", done.stdout + done.stderr, re.MULTILINE)
    return sum(map(int, rows))


def measure(path: Path, locks: Path) -> None:
    """Every tool in turn, several times over, and the table of the least of each."""
    profile = load(path, user=False, threads=False)
    print(f"{profile.stats.samples:,} samples, {path.stat().st_size / 1e6:.1f} MB, lost {profile.stats.lost:,}")
    report = lock_report(locks)
    print(
        f"{report.total.count:,} lock waits, {report.total.total_ns:,} ns, {locks.stat().st_size / 1e6:.1f} MB; "
        f"perf lock contention has {contended_by_perf(locks):,}"
    )
    exec_path = process.run(("perf", "--exec-path")).check("perf").stdout.strip()
    collapse = f"{exec_path}/scripts/python/stackcollapse.py"
    folded = "--no-children --sort sym --stdio -g folded,0,caller,function,count"
    numabench = f"{sys.executable} -m numabench callgraph {path} --folded /dev/null"
    runs: dict[str, Callable[[], object]] = {
        REPORT: lambda: shell(f"perf report -i {path} {folded} > /dev/null 2>&1"),
        CONTENTION: lambda: shell(f"perf lock contention -i {locks} > /dev/null 2>&1"),
        KERNEL: lambda: stacks(path, user=False),
        USER: lambda: stacks(path, user=True),
        COMMAND: lambda: shell(f"exec {numabench} 2> /dev/null"),
        LOCKS: lambda: lock_report(locks),
    }
    least = dict.fromkeys(runs, float("inf"))
    least[SCRIPT] = cpu_s(lambda: shell(f"perf script -i {path} -s {collapse} > /dev/null"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            least[name] = min(least[name], cpu_s(run))
    memory = {
        KERNEL: peak_above_imports_mib("stacks(Path(sys.argv[1]), user=False)", path),
        USER: peak_above_imports_mib("stacks(Path(sys.argv[1]), user=True)", path),
        LOCKS: peak_above_imports_mib("lock_report(Path(sys.argv[1]))", locks),
    }
    print(f"{'':32}{'CPU s':>8}{'x report':>10}{'x script':>10}{'x lock':>8}{'MiB above imports':>19}")
    for name in (REPORT, SCRIPT, CONTENTION, KERNEL, USER, COMMAND, LOCKS):
        print(f"{name:32}{least[name]:8.3f}" + _ratios(name, least, memory))


def _ratios(name: str, least: dict[str, float], memory: dict[str, float]) -> str:
    if name in {REPORT, SCRIPT, CONTENTION}:
        return ""
    own = least[name]
    used = f"{memory[name]:19.0f}" if name in memory else ""
    if name == LOCKS:
        return f"{'':20}{least[CONTENTION] / own:8.1f}{used}"
    return f"{least[REPORT] / own:10.1f}{least[SCRIPT] / own:10.0f}{'':8}{used}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="record into this directory, or use what it holds")
    parser.add_argument("--stream", type=float, metavar="GB", help="feed so many GB of made-up records through a pipe")
    options = parser.parse_args()
    began = time.monotonic()
    if options.stream:
        perf_stream.measure(options.stream)
    else:
        with tempfile.TemporaryDirectory() as directory:
            kept = options.keep or Path(directory)
            path, locks = kept / "cpu.data", kept / "locks.data"
            if not path.exists():
                record(path, options.samples)
            if not locks.exists():
                record_locks(locks)
            measure(path, locks)
    print(f"measured in {time.monotonic() - began:.0f} s with numpy {np.__version__}")


if __name__ == "__main__":
    main()
