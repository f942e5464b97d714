"""`numabench state`: the machine's knobs, shown, compared, set, and put back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from numabench.cli.options import DEFAULT_PROFILE
from numabench.errors import EXIT_UNFIT, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(
    help="Show the machine's knobs, compare them, set them, and put them back exactly.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_PROFILE_HELP = "measure, quiet, none, one of your own, or FILE.toml."
_Json = Annotated[bool, typer.Option("--json", help="Print as JSON; `state diff` reads it.")]


@app.command("show")
def show(
    profile: Annotated[str, typer.Option(help=_PROFILE_HELP)] = DEFAULT_PROFILE,
    as_json: _Json = False,
) -> None:
    """Show every knob that matters to page migration, what a profile would set, and what is not as it was."""
    from numabench.host import knobs, profiles, state
    from numabench.report import state_text

    chosen = profiles.load(profile)
    rows = state.rows(chosen)
    if as_json:
        print(json.dumps(state.snapshot(rows, chosen.name), indent=1))
        return
    _print(state_text.show(rows, chosen, knobs.altered(), state.left_behind(), **_page()))


@app.command("diff")
def diff(
    first: Annotated[str, typer.Argument(help="A profile, a file of `state show --json`, a run, or now.")],
    second: Annotated[str, typer.Argument(help="The same. [default: now]")] = "now",
    results: Annotated[Path, typer.Option(help="Where runs are looked for.")] = Path("results"),
    as_json: _Json = False,
) -> None:
    """Show which knobs two states have differently: profiles, snapshots, runs, or the machine now."""
    from dataclasses import asdict

    from numabench.host import state
    from numabench.report import state_text

    (one, one_few), (two, two_few) = _state_of(first, results), _state_of(second, results)
    found = state.differences(one, two, only_common=one_few or two_few)
    if as_json:
        print(json.dumps({"first": first, "second": second, "differences": [asdict(each) for each in found]}, indent=1))
    else:
        _print(state_text.show_differences(found, first, second, **_page()))


def _state_of(word: str, results: Path) -> tuple[Mapping[str, str], bool]:
    """The knobs that a word means, and whether they are but a few of all."""
    from numabench import store
    from numabench.host import profiles, state

    if word == "now":
        return state.values(state.rows(profiles.load(profiles.NONE))), False
    path = Path(word)
    if word.endswith(".json") and path.is_file():
        return _snapshot(path), False
    if path.is_dir() or _is_run(results, word):
        return store.load(store.find(results, word)).machine.knobs, True
    try:
        return profiles.load(word).knobs, True
    except UsageError as error:
        raise UsageError(f"{error.message}, nor a run of that name in {results}", error.hint) from None


def _is_run(results: Path, word: str) -> bool:
    return word == "last" or (results / word).is_dir()


def _snapshot(path: Path) -> dict[str, str]:
    expected = "make one with: numabench state show --json > FILE.json"
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not JSON", expected) from None
    values = told.get("values") if isinstance(told, dict) and told.get("kind") == "numabench state" else None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise UsageError(f"{path} holds no state", expected)
    return values


@app.command("profiles")
def list_profiles() -> None:
    """List the built-in profiles and your own, with what they set."""
    from numabench.host import profiles
    from numabench.report import state_text

    found, refused = profiles.all_here()
    _print(state_text.show_profiles(found, refused, **_page()))


@app.command("apply")
def apply(
    profile: Annotated[str, typer.Argument(help=_PROFILE_HELP)] = DEFAULT_PROFILE,
    chosen: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One more knob; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
) -> None:
    """Set the knobs of a profile until `numabench state restore`; runs set and restore theirs above them."""
    from numabench.host import knobs, profiles

    loaded = profiles.load(profile)
    wanted = {**profiles.here(loaded), **_assignments(chosen or [])}
    if dry_run:
        writes = knobs.planned(wanted)
        for line, _ in knobs.planned_release(only_killed=True):
            _say(line)
        for write in writes:
            _say(knobs.told_before(write))
    else:
        writes = knobs.keep(wanted, on_write=_say)
        if any(write.outcome == "set" for write in writes):
            print("put back with: numabench state restore")
    if all(write.outcome == "kept" for write in writes):
        print(f"all knobs are as profile {loaded.name} wants them: nothing is written")
    if any(write.outcome in {"denied", "absent"} for write in writes):
        raise typer.Exit(EXIT_UNFIT)


def _assignments(words: list[str]) -> dict[str, str]:
    from numabench.host import knobs

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value or not value.isprintable():
            raise UsageError(f"--set '{word}' is not NAME=VALUE", "such as --set ksm.run=0")
        found[knobs.find(name).name] = value
    return found


@app.command("restore")
def restore(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Put back also what somebody else has set to another value since.")
    ] = False,
    killed: Annotated[
        bool, typer.Option("--killed", help="Put back only what a killed run has left, and keep what was applied.")
    ] = False,
) -> None:
    """Put back what a killed run has left altered, and what `numabench state apply` has set."""
    from numabench.host import knobs, state

    if killed and force:
        raise UsageError("--killed and --force exclude each other", "leave one out")
    left = state.left_behind()
    if dry_run:
        planned = knobs.planned_release(force=force, only_killed=killed)
        for line, _ in planned:
            _say(line)
        for text in left:
            _say(f"would remove {text}")
        if not planned and not left:
            print("nothing is altered")
        if not all(is_wanted for _, is_wanted in planned):
            raise typer.Exit(EXIT_UNFIT)
        return
    restored = knobs.recover(on_write=_say) if killed else knobs.release(on_write=_say, force=force)
    state.remove_left_behind()
    still = state.left_behind()
    for text in left:
        _say(f"left {text}: only root may remove it" if text in still else f"removed {text}")
    if not restored and not left:
        print("nothing is altered by numabench")
    for entry in knobs.altered():
        if entry.by == "foreign":
            _say(
                f"{entry.name} is {entry.now}, somebody else's; numabench state restore --force makes it {entry.before}"
            )
    if still or any(one.outcome in {"failed", "foreign", "damaged"} for one in restored):
        raise typer.Exit(EXIT_UNFIT)


def _say(line: str) -> None:
    """Print a line in which a profile, or a file of the kernel, may have put anything."""
    from numabench.report.escape import escape

    print(escape(line))


def _page() -> dict[str, Any]:
    from numabench.cli.report import has_colour

    return {"width": shutil.get_terminal_size((100, 0)).columns, "colour": has_colour()}


def _print(text: str) -> None:
    from numabench.cli.report import print_text

    print_text(text)
