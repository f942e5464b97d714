"""Run inside a guest as root: `numabench run` several times, and what files of /proc and /sys held meanwhile.

The one argument is a JSON list of cases: `words` for `numabench run`; `files` to watch; `prepared`, what is written to
some of them before; `signal`, which the run gets when its first trial is whole, or 0; `results`, its directory. Each
has an answer: the files' texts `before` it, all that were seen `during` it, and `after`; and its exit `status`, which
is negative where a signal has killed it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

# Loaded before the runs are forked: a guest's Python takes seconds for it.
import numabench.experiment.run
import numabench.host.identity
import numabench.workload.catalog  # noqa: F401
from numabench.cli import app, commands
from numabench.errors import UsageError

LIMIT_S = 120.0


def contents(files: list[str]) -> dict[str, str]:
    return {file: Path(file).read_text().strip() for file in files}


def become_run(case: dict[str, Any]) -> NoReturn:
    """Be `numabench run`, without the report at its end."""
    # As a terminal has it; shells have what they start in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    words = ["numabench", "run", *case["words"], "--native", "--results", case["results"]]
    sys.argv = [*words, "--asked", json.dumps(words)]
    app.main()


def watch(case: dict[str, Any]) -> dict[str, Any]:
    for file, text in case["prepared"].items():
        Path(file).write_text(f"{text}\n")
    before = contents(case["files"])
    during = {file: [text] for file, text in before.items()}
    pid = os.fork() or become_run(case)
    wanted, deadline = case["signal"], time.monotonic() + LIMIT_S
    while True:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            break
        for file, text in contents(case["files"]).items():
            if during[file][-1] != text:
                during[file].append(text)
        is_late = time.monotonic() > deadline
        if is_late or (wanted and any(Path(case["results"]).glob("*/trials/0001/trial.json"))):
            os.kill(pid, signal.SIGKILL if is_late else wanted)
            wanted = 0
        time.sleep(0.02)
    return {
        "before": before,
        "during": during,
        "after": contents(case["files"]),
        "status": os.waitstatus_to_exitcode(status),
    }


if __name__ == "__main__":
    importlib.import_module("sh")
    # The words are parsed, with all that this loads, and refused.
    with contextlib.suppress(UsageError):
        commands.app(["run", "pingpong", "--nodes", "0"])
    json.dump([watch(case) for case in json.loads(sys.argv[1])], sys.stdout)
