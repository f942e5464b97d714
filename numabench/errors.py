"""Every failure a user can meet: what, where, why, and what to do next; and the exit code it ends with."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
# Of a report: something got worse that nobody has acknowledged. No error raises it.
EXIT_REGRESSION = 3
EXIT_UNFIT = 4
EXIT_CANNOT_RUN = 77
EXIT_INTERRUPTED = 130


class NumabenchError(Exception):
    """A failure with a message for the user and, where there is one, a hint at what to do next."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(NumabenchError):
    """An option or argument that cannot be meant."""

    exit_code = EXIT_USAGE


class CannotRun(NumabenchError):
    """The machine lacks what the command needs; `reasons` are sentences, one per missing thing."""

    exit_code = EXIT_CANNOT_RUN

    def __init__(self, what: str, reasons: tuple[str, ...], hint: str = "") -> None:
        super().__init__(f"{what} cannot run here: " + "; ".join(reasons), hint)
        self.reasons = reasons


class Unfit(NumabenchError):
    """The machine or the runs are not fit for what was asked (not comparable, something blocks)."""

    exit_code = EXIT_UNFIT


class ResultError(NumabenchError):
    """A result directory that cannot be read or written."""


class WorkloadError(NumabenchError):
    """A workload that could not be built, crashed, hung, or printed what it should not."""


class ProgramError(NumabenchError):
    """Another program ended with an error."""


class LostGuest(NumabenchError):
    """A guest that never came up, hung, panicked, or vanished: nothing is known of what it was doing."""


class ObserveError(NumabenchError):
    """What was to observe a trial failed: perf, or the kernel's probes."""
