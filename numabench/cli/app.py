"""The command line, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from numabench.cli import folded
from numabench.errors import EXIT_FAILED, EXIT_INTERRUPTED, NumabenchError
from numabench.report.escape import escape, escape_lines
from numabench.state_dir import has_journal


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _say_what_is_altered() -> None:
    """A run that was killed has left the machine as it had set it: whoever comes next is told."""
    if not has_journal() or "state" in sys.argv[1:2]:
        return
    from numabench.host import knobs

    try:
        left = [entry for entry in knobs.altered() if entry.by == "killed" and not entry.is_stale]
    except NumabenchError:
        return
    if left:
        names = ", ".join(f"{entry.name} at {entry.now} (was {entry.before})" for entry in left)
        line = f"numabench: a run that was killed has left {names}; put it back with: numabench state restore"
        print(escape(line), file=sys.stderr)


def _run_command() -> None:
    from numabench.cli.commands import app

    app()


def main() -> NoReturn:
    """Run the command line and exit with its code: see `numabench.errors` for what each means."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    try:
        try:
            _say_what_is_altered()
            if not folded.try_words(sys.argv[1:]):
                _run_command()
        finally:
            sys.stdout.flush()
    except NumabenchError as error:
        print(f"numabench: {escape_lines(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("numabench: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our answer left (`numabench list | head`): not an error, and nothing more can be said.
        _drop_stdout()
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        _drop_stdout()
        where = escape(str(error.filename)) if error.filename else "cannot write the answer"
        print(f"numabench: {where}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    sys.exit(0)


def _drop_stdout() -> None:
    """Have what is still buffered go nowhere, so that the interpreter does not fail on it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
