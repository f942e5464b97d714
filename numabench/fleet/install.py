"""Putting a lab's units where systemd looks for them, and taking them out again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import ProgramError, ResultError, Unfit, UsageError
from numabench.fleet.units import owner
from numabench.store.writing import fsync_directory, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.fleet.plan import LabPlan
    from numabench.fleet.units import Units

_SYSTEM = Path("/etc/systemd/system")
_COMMAND_S = 120.0
# What decides which numabench runs, and where it keeps its kernels, its journals and its settings.
_VARIABLES = ("HOME", "PYTHONPATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "NUMABENCH_DEBUG")


def own_python() -> list[str]:
    """The beginning of a command line of this very numabench."""
    return [os.path.abspath(sys.executable), "-m", "numabench"]  # noqa: PTH100  a virtual environment is a link


def own_variables() -> dict[str, str]:
    """Those of this process's environment that the units need."""
    found = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    # systemd gives a system's service no HOME.
    found.setdefault("HOME", str(Path("~").expanduser()))
    if "PYTHONPATH" in found:
        parts = (str(Path(part).absolute()) for part in found["PYTHONPATH"].split(os.pathsep) if part)
        found["PYTHONPATH"] = os.pathsep.join(parts)
    return found


def unit_directory(*, is_user: bool) -> Path:
    """Where systemd looks for units of the user's, or of the system's administrator."""
    if not is_user:
        return _SYSTEM
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path("~/.config").expanduser()) / "systemd/user"


def is_running(*, is_user: bool) -> bool:
    """Whether such a systemd runs here (sd_booted(3))."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") if is_user else Path("/run")
    return (runtime / "systemd" / ("private" if is_user else "system")).exists()


def check_calendar(expression: str) -> None:
    """Refuse, with `UsageError`, what systemd would not take as a time (systemd.time(7)), where it can be asked."""
    if not expression.strip() or not (expression.isascii() and expression.isprintable()):
        raise UsageError(f"{expression!a} is no calendar expression", "see systemd.time(7)")
    if process.find_program("systemd-analyze") is None:
        return
    asked = process.run(["systemd-analyze", "calendar", expression])
    if asked.exit_status != 0:
        raise UsageError(
            f"'{expression}' is no calendar expression: {(asked.stderr.strip().splitlines() or [''])[-1]}",
            "see systemd.time(7), for example 'Mon..Fri 22:00'",
        )


def install(plan: LabPlan, units: Units, directory: Path, *, is_user: bool, say: Callable[[str], None]) -> bool:
    """Write the units, and have systemd know and begin them where it runs; whether it does.

    Raises `Unfit` where a unit of that name is somebody else's: nothing is written then; `ResultError` where they
    cannot be written, and `ProgramError` where systemd refuses them.
    """
    for name in units.texts:
        _check_ours(directory / name, plan)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in units.texts.items():
            partial = directory / f".tmp-{name}"
            write_durably(partial, text.encode())
            partial.replace(directory / name)
            say(f"wrote {directory / name}")
        fsync_directory(directory)
    except OSError as error:
        raise ResultError(
            f"cannot write {error.filename or directory}: {error.strerror}",
            "run as root, or pass --user for units of your own",
        ) from error
    if not is_running(is_user=is_user):
        return False
    _systemctl(is_user, "daemon-reload", say=say)
    _systemctl(is_user, "enable", units.resume, say=say)
    _systemctl(is_user, "enable", "--now", units.timer, say=say)
    # One that runs already takes a new time only so.
    _systemctl(is_user, "restart", units.timer, say=say)
    return True


def remove(plan: LabPlan, units: Units, directory: Path, *, is_user: bool, say: Callable[[str], None]) -> bool:
    """Take out the lab's units, those that are there and ours; whether there was any. Raises as `install` does.

    A night that runs goes on to its end.
    """
    there = [name for name in units.texts if (directory / name).exists()]
    for name in there:
        _check_ours(directory / name, plan)
    runs = is_running(is_user=is_user)
    if runs and there:
        enabled = [name for name in (units.timer, units.resume) if name in there]
        if units.timer in enabled:
            _systemctl(is_user, "stop", units.timer, say=say)
        _systemctl(is_user, "disable", *enabled, say=say)
    try:
        for name in there:
            (directory / name).unlink()
            say(f"removed {directory / name}")
    except OSError as error:
        raise ResultError(f"cannot remove {error.filename}: {error.strerror}", "run as root, or pass --user") from error
    if runs and there:
        _systemctl(is_user, "daemon-reload", say=say)
    return bool(there)


def _check_ours(path: Path, plan: LabPlan) -> None:
    if not os.path.lexists(path):
        return
    try:
        told = owner("" if path.is_symlink() else path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        told = ""
    if told != str(plan.file.resolve()):
        whose = f"of another plan: {told}" if told else "not numabench's"
        raise Unfit(f"{path} is there already, and {whose}", "give the lab another name, or move that file away")


def _systemctl(is_user: bool, *words: str, say: Callable[[str], None]) -> None:
    argv = ["systemctl", *(["--user"] if is_user else []), *words]
    say(process.paste(argv))
    try:
        process.run(argv, timeout_s=_COMMAND_S).check("systemd")
    except ProgramError as error:
        raise ProgramError(error.message, "the units are written: mend that, and run it again") from None
