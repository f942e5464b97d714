"""What `numabench --help` takes, as a multiple of importing typer, which it cannot do without.

Run it as `python tests/bench/bench_startup.py`. CPU seconds of a child process with all it starts, the least of several
rounds taken in turn: no test depends on it, for what help may import is a test of its own (tests/unit/test_layers.py).
"""

from __future__ import annotations

import resource
import sys

from numabench import process

ROUNDS = 10
IMPORT_TYPER = (sys.executable, "-c", "import typer")
HELP = (sys.executable, "-m", "numabench", "--help")


def cpu_s(argv: tuple[str, ...]) -> float:
    """User and system time of a program that has ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.run(argv).check("a round")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure both in turn and print the least of each, and their ratio."""
    rounds = [(cpu_s(IMPORT_TYPER), cpu_s(HELP)) for _ in range(ROUNDS)]
    typer_s, help_s = map(min, zip(*rounds, strict=True))
    print(f"import typer      {typer_s:.3f} CPU s")
    print(f"numabench --help  {help_s:.3f} CPU s, {help_s / typer_s:.2f} times as much")


if __name__ == "__main__":
    main()
