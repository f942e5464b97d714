"""The command line, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

from numabench.cli import folded
from numabench.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, NumabenchError, UsageError
from numabench.report.escape import escape, escape_lines
from numabench.state_dir import has_journal

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is shown of a word that somebody gave: its beginning and its end. A path may be long and still be read.
_LONGEST, _KEPT = 1000, 120


class _Heedless(io.TextIOWrapper):
    """Stderr that goes nowhere once it cannot be written: a run does not end for want of room in the log beside it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
        # When it goes, it closes the buffer.
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _drop(self.fileno())
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _drop(self.fileno())


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


def _run_command() -> int:
    """Run the command that the words name; its exit code where it did not end by an exception."""
    import typer

    from numabench.cli.commands import app

    # Of click, which typer has inside it, or beside it in older releases: a word that is wrong.
    wrong_words: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        return app(standalone_mode=False) or 0
    except wrong_words as error:
        _tell(_as_typer_shows(error))
        return EXIT_USAGE


def _as_typer_shows(error: BaseException) -> str:
    shown = io.StringIO()
    error.show(file=shown)  # type: ignore[attr-defined]
    return shown.getvalue().rstrip("\n")


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse an empty value: it is a variable that was not set, and as a path it would be this directory."""
    for place, word in enumerate(words):
        if word == "--":
            return
        option, equals, value = word.partition("=")
        if option.startswith("--") and equals and not value:
            raise UsageError(f"{option} has no value", "leave it out, or give it one")
        if not word:
            behind = f", behind {words[place - 1]}" if place else ""
            raise UsageError(f"an argument is empty{behind}", "leave it out; a program's words go behind '--'")


def main() -> NoReturn:
    """Run the command line and exit with its code: see `numabench.errors` for what each means."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    _open_streams()
    try:
        try:
            _say_what_is_altered()
            _refuse_empty(sys.argv[1:])
            status = 0 if folded.try_words(sys.argv[1:]) else _run_command()
        finally:
            sys.stdout.flush()
    except NumabenchError as error:
        _tell(f"numabench: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _tell("numabench: interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our answer left (`numabench list | head`): not an error, and nothing more can be said.
        _drop(sys.stdout.fileno())
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        _drop(sys.stdout.fileno())
        where = escape(str(error.filename)) if error.filename else "cannot write the answer"
        _tell(f"numabench: {where}: {error.strerror}")
        sys.exit(EXIT_FAILED)
    sys.exit(status)


def _tell(message: str) -> None:
    """Print a message on stderr: with nothing in it that a terminal obeys, and of very long words their ends alone."""
    told = re.sub(
        rf"[^\s]{{{_LONGEST},}}", lambda word: f"{word[0][:_KEPT]}[...]{word[0][-_KEPT:]}", escape_lines(message)
    )
    print(told, file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Have a stream that was closed (`>&-`) go nowhere: its number would be the next file's, and that be written to."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            _drop(number)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace"))  # noqa: PTH123, SIM115
    sys.stderr = _Heedless(sys.stderr)


def _drop(number: int) -> None:
    """Have what is still to be written go nowhere, so that the interpreter does not fail on it once more."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
