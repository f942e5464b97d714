"""Pages a second of our mover against `migspeed`, and against a bare loop of the same system calls, in a guest.

    python tests/bench/bench_movers.py [--kernel debian:bookworm] [--size-mib 64] [--rounds 15] [--blocks 3]

Everything runs in the same guest, in turn, in an order that is reversed every other round. A ratio is of ours to the
other's in the same round: above 1, ours is faster. Printed is the median of the rounds with an interval that holds the
true one in 95 of 100 cases whatever the distribution (between two ranks, of the binomial); a few rounds in which the
host did something else move neither much. `--same` has the bare loop compared with itself: what is noise.
Transparent huge pages are off: migspeed does not say which pages it gets, and moves huge ones where it may.

All are kept on CPU 0 from their first moment: a CPU that a process has run on is in the set that its TLB flushes go to
(mm_cpumask), which costs some percent of each page moved, and which of them begins elsewhere is chance.

Last, the workload by hand against the measured pass of `numabench run`, in blocks of trials in turn.

Exit 1 where ours is slower beyond doubt: an interval that lies below 1 (against `numabench run`: below 0.99).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process, store
from numabench.analysis.missing import Missing
from numabench.analysis.moves import moves
from numabench.lab import kernels
from numabench.lab.accel import probe
from numabench.lab.guest import Guest
from numabench.lab.shapes import shape
from numabench.workload.build import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PAGE = 4096
BATCH = 512
PASSES = 12
TAIL = 0.025
ON_CPU_0 = ("taskset", "1")
LEAST_RATIO, LEAST_RATIO_OF_RUN = 1.0, 0.99
DRIVERS = ("move_pages", "mbind", "migrate_pages")
SOURCE = Path(__file__).with_name("bare_mover.c")
QUIET = """
echo 0 >/proc/sys/kernel/numa_balancing
echo never >/sys/kernel/mm/transparent_hugepage/enabled
"""
MIGSPEED_MB_PER_S = re.compile(r"([0-9.]+) Mbytes/second")


@dataclass(frozen=True)
class Rate:
    """Pages a second of wall clock and of CPU; migspeed does not tell its CPU time."""

    wall: float
    cpu: float | None = None


def bare_rate(text: str) -> Rate:
    told = json.loads(text)
    return Rate(told["pages"] / told["wall_ns"] * 1e9, told["pages"] / told["cpu_ns"] * 1e9)


def own_rate(text: str) -> Rate:
    """Confirmed pages by the mover's own time, queries of where pages are left out (they cost CPU, too)."""
    (mover,) = [line for line in map(json.loads, text.splitlines()) if line["event"] == "mover"]
    pages, query_ns = mover["confirmed"], mover["query_ns"]
    return Rate(pages / (mover["elapsed_ns"] - query_ns) * 1e9, pages / (mover["cpu_ns"] - query_ns) * 1e9)


def own_rate_in_calls(text: str) -> Rate:
    """Confirmed pages by the time in calls alone, which is what migspeed clocks."""
    (mover,) = [line for line in map(json.loads, text.splitlines()) if line["event"] == "mover"]
    return Rate(mover["confirmed"] / sum(way["busy_ns"] for way in mover["directions"]) * 1e9)


def migspeed_rate(text: str) -> Rate:
    found = MIGSPEED_MB_PER_S.search(text)
    assert found, text
    return Rate(float(found[1]) * (1 << 20) / PAGE)


@dataclass(frozen=True)
class Runner:
    """A command that moves pages, and who reads its rate."""

    argv: tuple[str, ...]
    read: Callable[[str], Rate]
    kept_on: tuple[str, ...] = ON_CPU_0

    def rate(self, guest: Guest) -> Rate:
        return self.read(guest.run([*self.kept_on, *self.argv]).check(" ".join(self.argv)).stdout)


def own(program: Path, size_mib: int, *options: str) -> Runner:
    fixed = ("--nodes", "0,1", "--start-node", "0", "--size", str(size_mib << 20), "--threads", "1")
    return Runner((str(program), *fixed, "--mover-on", "0", *options), own_rate)


def in_turn(guest: Guest, first: Runner, second: Runner, rounds: int) -> list[tuple[Rate, Rate]]:
    """Both, one after the other, so many times; every other time the second is first."""
    found = []
    for number in range(rounds):
        if number % 2:
            after, before = second.rate(guest), first.rate(guest)
            found.append((before, after))
        else:
            found.append((first.rate(guest), second.rate(guest)))
    return found


@dataclass(frozen=True)
class Ratio:
    """The median of some ratios, and its interval where there are six or more."""

    median: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        return f"{self.median:5.3f}" + ("" if math.isnan(self.low) else f" ({self.low:.3f} to {self.high:.3f})")


def ratio_of(found: Iterable[float]) -> Ratio | None:
    ordered = sorted(found)
    count = len(ordered)
    outside = max((k for k in range(1, count // 2 + 1) if _below(k, count) <= TAIL), default=0)
    if not ordered:
        return None
    median = statistics.median(ordered)
    return Ratio(median, ordered[outside - 1], ordered[-outside]) if outside else Ratio(median)


def _below(k: int, count: int) -> float:
    """How likely fewer than k of so many values lie below their true median."""
    return sum(math.comb(count, each) for each in range(k)) / 2**count


def compare(name: str, pairs: Sequence[tuple[Rate, Rate]]) -> bool:
    """Print both ratios; whether ours may be as fast."""
    wall = ratio_of(ours.wall / other.wall for ours, other in pairs)
    cpu = ratio_of(ours.cpu / other.cpu for ours, other in pairs if ours.cpu and other.cpu)
    print(f"{name:36}{wall!s:24}{cpu or '-'}", flush=True)
    return _reaches(wall, LEAST_RATIO)


def _reaches(ratio: Ratio | None, least: float) -> bool:
    """Whether the ratio may be that large; a few values do not tell that it is not."""
    return ratio is None or not ratio.high < least


def bare_loop(directory: Path) -> Path:
    program = directory / "bare_mover"
    process.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE)]).check("gcc")
    return program


def bare(program: Path, driver: str, size_mib: int) -> Runner:
    pages = (size_mib << 20) // PAGE
    return Runner((str(program), driver, str(pages), str(BATCH), str(PASSES)), bare_rate)


def same(guest: Guest, directory: Path, size_mib: int, rounds: int) -> None:
    """The bare loop against itself."""
    program = bare_loop(directory)
    print(f"{'a bare loop / itself':36}{'of wall clock':24}of CPU")
    for driver in DRIVERS:
        each = bare(program, driver, size_mib)
        compare(driver, in_turn(guest, each, each, rounds))


def movers(guest: Guest, directory: Path, size_mib: int, rounds: int) -> bool:
    """Our mover against the bare loop, driver by driver, and against migspeed; whether it is as fast as each."""
    bare_program, program, pages = bare_loop(directory), build("pingpong"), (size_mib << 20) // PAGE
    print(f"{'ours / the other':36}{'of wall clock':24}of CPU")
    reached = []
    for driver in DRIVERS:
        options = ("--driver", driver, "--loops", str(PASSES))
        # As `numabench run` has them.
        options += ("--mover", "outside") if driver == "migrate_pages" else ("--batch", str(BATCH))
        other = bare(bare_program, driver, size_mib)
        pairs = in_turn(guest, own(program, size_mib, *options), other, rounds)
        reached.append(compare(f"{driver}, a bare loop", pairs))
    once = ("--driver", "mbind", "--route", "one-way", "--batch", str(pages))
    migspeed = Runner(("migspeed", "-p", str(pages), "0", "1"), migspeed_rate)
    ours = replace(own(program, size_mib, *once), read=own_rate_in_calls)
    pairs = in_turn(guest, ours, migspeed, rounds)
    reached.append(compare("mbind in one call, migspeed", pairs))
    return all(reached)


def trial_rates(guest: Guest, results: Path, name: str, size_mib: int, repeats: int) -> list[float]:
    """Pages a second of each trial of a measured pass."""
    words = ["run", "pingpong", "--native", "--nodes", "2", "--start-node", "0", "--size", f"{size_mib}M"]
    words += ["--threads", "1", "--mover-on", "0", "--loops", str(PASSES), "--batch", str(BATCH)]
    words += ["--repeats", str(repeats), "--results", str(results), "--run-id", name]
    guest.run([sys.executable, "-m", "numabench", *words], timeout_s=1200).check("numabench run")
    found = [moves(trial) for trial in store.load(results / name).trials]
    rates = [each.pages_per_s for each in found if not isinstance(each, Missing)]
    return [rate for rate in rates if not isinstance(rate, Missing)]


def measured_pass(guest: Guest, directory: Path, size_mib: int, repeats: int, blocks: int) -> bool:
    """The binary by hand before and after each block of trials; each trial against the mean of both.

    Whether `numabench run` may cost less than 1 %.
    """
    options = ("--driver", "move_pages", "--loops", str(PASSES), "--batch", str(BATCH))
    # `numabench run` leaves a workload all CPUs to begin on.
    by_hand = replace(own(build("pingpong"), size_mib, *options), kept_on=())
    ratios = []
    for number in range(blocks):
        before = [by_hand.rate(guest).wall for _ in range(repeats)]
        trials = trial_rates(guest, directory, f"pass-{number}", size_mib, repeats)
        after = [by_hand.rate(guest).wall for _ in range(repeats)]
        ratios += [2 * trial / (one + two) for one, trial, two in zip(before, trials, after, strict=True)]
    ratio = ratio_of(ratios)
    print(f"{'numabench run / by hand':36}{ratio}   {len(ratios)} trials")
    return _reaches(ratio, LEAST_RATIO_OF_RUN)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", default="debian:bookworm", help="as `numabench lab kernel add` names it")
    parser.add_argument("--size-mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=5, help="trials of a block of numabench run")
    parser.add_argument("--blocks", type=int, default=3, help="0: leave numabench run out")
    parser.add_argument("--same", action="store_true", help="only the bare loop against itself")
    options = parser.parse_args()
    began = time.monotonic()
    kernel = next(known for known in kernels.cached() if known.source == options.kernel)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Guest.boot(kernel, shape("2n"), probe(kernel.image).accel, writable=(directory,)) as guest:
            guest.run(["sh", "-c", QUIET]).check("preparing the guest")
            if options.same:
                same(guest, directory, options.size_mib, options.rounds)
                return 0
            reached = movers(guest, directory, options.size_mib, options.rounds)
            if options.blocks:
                reached &= measured_pass(guest, directory, options.size_mib, options.repeats, options.blocks)
            print(f"{kernel.release}, {options.size_mib} MiB, measured in {time.monotonic() - began:.0f} s")
            return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
