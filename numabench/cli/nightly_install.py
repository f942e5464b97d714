"""`numabench nightly install`: a systemd timer that runs a lab's nights."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.errors import UsageError

if TYPE_CHECKING:
    from numabench.fleet.units import Units

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DEFAULT_AT = "22:00"


def install(
    lab: Annotated[Path, typer.Argument(metavar="LAB.toml", help="The lab's plan: see docs/nightly.md.")],
    at: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="When a night begins, local time. [default: 22:00]")
    ] = None,
    on_calendar: Annotated[
        str | None, typer.Option(metavar="EXPR", help="The same as systemd has it: 'Mon..Fri 22:00' (systemd.time(7)).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the units with their paths; write nothing.")
    ] = False,
    user: Annotated[
        bool | None, typer.Option("--user/--system", help="Units of your own, or of the system. [default: root's]")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take out the units that this has written.")] = False,
) -> None:
    """Have systemd run a lab's nights: a timer, its service, and one that goes on with a night after a crash or a boot.

    Whatever ends a night, the machine's state is put back. Files that are not ours are not touched (exit 4).
    """
    from numabench.cli.run_words import run_words
    from numabench.fleet import install as of_systemd
    from numabench.fleet import plan, units

    calendar = _calendar(at, on_calendar)
    if not remove:
        of_systemd.check_calendar(calendar)
    # Unlike Path.resolve() it takes a loop.
    file = Path(os.path.realpath(lab))
    # As the service will read it: files that it names are looked for beside it.
    with contextlib.chdir(file.parent if file.parent.is_dir() else "."):
        read = plan.read(file, run_words())
    is_user = os.geteuid() != 0 if user is None else user
    directory = of_systemd.unit_directory(is_user=is_user)
    made = units.units(read, calendar, of_systemd.own_python(), of_systemd.own_variables(), is_user=is_user)
    if dry_run:
        _show(made, directory, removes=remove)
    elif remove:
        if not of_systemd.remove(read, made, directory, is_user=is_user, say=print):
            print(f"there are no units of lab {read.name} in {directory}")
    else:
        runs = of_systemd.install(read, made, directory, is_user=is_user, say=print)
        _tell_next(made, is_user=is_user, runs=runs)


def _calendar(at: str | None, on_calendar: str | None) -> str:
    if at is not None and on_calendar is not None:
        raise UsageError("--at and --on-calendar exclude each other", "leave one out")
    if on_calendar is not None:
        return on_calendar
    clock = _CLOCK.fullmatch(at or _DEFAULT_AT)
    if clock is None:
        raise UsageError(f"--at '{at}' is not a time of day", "write it as 22:00")
    return f"*-*-* {int(clock[1]):02}:{clock[2]}:00"


def _show(made: Units, directory: Path, *, removes: bool) -> None:
    for name, text in made.texts.items():
        if not removes:
            print(f"# {directory / name}\n{text}")
        elif (directory / name).exists():
            print(f"would remove {directory / name}")


def _tell_next(made: Units, *, is_user: bool, runs: bool) -> None:
    systemctl = "systemctl --user" if is_user else "systemctl"
    if not runs:
        print("systemd does not run here: nothing is enabled. Where it does:")
        print(
            f"  {systemctl} daemon-reload && {systemctl} enable --now {made.timer} && {systemctl} enable {made.resume}"
        )
    else:
        print(f"when the next night begins: {systemctl} list-timers {made.timer}")
    if is_user:
        print("it runs while you are logged in; always: loginctl enable-linger")
