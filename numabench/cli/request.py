"""What the options of `numabench run` ask for, as a `Request`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from numabench.cli.options import DEFAULT_PROFILE
from numabench.errors import CannotRun, UsageError
from numabench.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.experiment.plan import Request
    from numabench.host.profiles import Profile

_SCAN_KNOBS = {
    "scan_delay": "scan_delay_ms",
    "scan_period_min": "scan_period_min_ms",
    "scan_period_max": "scan_period_max_ms",
    "scan_size": "scan_size_mb",
}


def request_from(options: Mapping[str, Any], *, argv: tuple[str, ...], foreign: bool = False) -> Request:
    """The request of parsed options, by their parameters' names in `cli.run.run` (click's `Context.params`).

    `argv` is the command as it was given, for the record; `foreign` tells that the words of `target` stood behind `--`:
    a program of the user's own. Raises `UsageError` for what cannot be meant, and `CannotRun` where perf is asked for
    and is not installed.
    """
    from numabench.experiment import plan as planning
    from numabench.experiment.drive_request import DriveRequest

    target = tuple(options["target"])
    if not foreign and len(target) != 1:
        raise UsageError(f"'{target[1]}' is one word too many", "a program of your own goes after '--'")
    if options["all_placements"] and options["placement"] != "default":
        raise UsageError("--all-placements and --placement exclude each other", "leave one out")
    request = planning.Request(
        argv=argv,
        workload=planning.FOREIGN if foreign else target[0],
        command=target if foreign else (),
        nodes=options["nodes"],
        placements=planning.ALL_PLACEMENTS if options["all_placements"] else (options["placement"],),
        start_node=options["start_node"],
        size_bytes=None if options["size"] is None else parse_size(options["size"]),
        threads=options["threads"],
        loops=options["loops"],
        duration_s=None if options["duration"] is None else parse_duration(options["duration"]),
        thp=options["thp"],
        mapping=options["mapping"],
        repeats=options["repeats"],
        warmup=options["warmup"],
        timeout_s=parse_duration(options["timeout"]),
        interval_s=parse_duration(options["interval"]),
        sample_pages=options["sample_pages"],
        seed=options["seed"],
        knobs=_knobs(options),
        profile=_profile(options),
        no_tune=options["no_tune"],
        drive=DriveRequest(**{each.name: options[each.name] for each in fields(DriveRequest)}),
        observe=_observed(options),
        observe_repeats=options["observe_repeats"],
        frequency_hz=options["frequency"],
    )
    planning.check_request(request)
    return request


def _observed(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What `--observe` names. Where perf is not installed, no guest has it either: that is told before one boots."""
    text = options["observe"]
    if text is None:
        if options["frequency"] is not None or options["observe_repeats"] != 1:
            raise UsageError("--frequency and --observe-repeats are of what is observed", "pass --observe, too")
        return ()
    from numabench.observe import offer, recipes

    names = recipes.parse_names(text)
    missing = offer.perf_missing()
    if missing:
        raise CannotRun(f"--observe {text}", missing, offer.INSTALL_PERF)
    return names


def _knobs(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The knobs that were asked for."""
    wanted = {name: str(options[option]) for option, name in _SCAN_KNOBS.items() if options[option] is not None}
    if options["balancing"] is not None:
        wanted = {"numa_balancing": str(options["balancing"]), **wanted}
    if options["no_tune"] and wanted:
        raise UsageError("--no-tune sets no knob, and a knob is asked for", "leave out one or the other")
    return tuple(wanted.items())


def _profile(options: Mapping[str, Any]) -> Profile:
    from numabench.host import profiles

    if not options["no_tune"]:
        return profiles.load(options["profile"])
    if options["profile"] != DEFAULT_PROFILE:
        raise UsageError("--no-tune sets no knob, and --profile asks for some", "leave out one or the other")
    return profiles.load(profiles.NONE)
