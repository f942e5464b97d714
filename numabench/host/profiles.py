"""Sets of knobs by name: `measure`, `quiet`, `none`, and the user's own in TOML."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench.errors import UsageError
from numabench.host.knob_table import KNOBS, MEASURE, QUIET, find, keys
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE = "none"
KEEP = "keep"
_SUMMARIES = {
    MEASURE: "what every run needs in order to count right: no other mover of pages, counters that count",
    QUIET: "measure, and what makes one run differ from the next: frequency, idle states, watchdog, compaction",
    NONE: "nothing is set",
}


@dataclass(frozen=True)
class Profile:
    """Knobs by full name with their values, and what they are for."""

    name: str
    summary: str
    knobs: Mapping[str, str]

    @property
    def word(self) -> str:
        """What `load` makes the same profile of anywhere: its name, or all of one that is the user's own, as JSON."""
        if self in built_in():
            return self.name
        return json.dumps({"name": self.name, "summary": self.summary, "inherits": NONE, "knobs": dict(self.knobs)})


def built_in() -> tuple[Profile, ...]:
    """The profiles that come with numabench, from the table of knobs."""
    parts = {MEASURE: (MEASURE,), QUIET: (MEASURE, QUIET), NONE: ()}
    return tuple(
        Profile(name, summary, {knob.name: knob.value for knob in KNOBS if knob.profile in parts[name]})
        for name, summary in _SUMMARIES.items()
    )


def default() -> Profile:
    """What a run sets where nothing else is asked for: `measure`."""
    return built_in()[0]


def own_directory() -> Path:
    """Where the user's own profiles lie: $XDG_CONFIG_HOME/numabench/profiles, else ~/.config/numabench/profiles."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "numabench/profiles"


def all_here() -> tuple[tuple[Profile, ...], tuple[str, ...]]:
    """The built-in profiles and the user's own, and a sentence for each file that cannot be used."""
    found, refused = list(built_in()), []
    names = {profile.name for profile in found}
    for path in sorted(own_directory().glob("*.toml")):
        if path.stem in names:
            refused.append(f"{path} is not read by its name: a built-in profile has it; rename it, or give its path")
            continue
        try:
            found.append(load(path.stem))
        except UsageError as error:
            refused.append(str(error))
    return tuple(found), tuple(refused)


def load(name: str) -> Profile:
    """A profile by name, of a file NAME.toml, or of its `word`.

    Raises `UsageError` where there is none or the file is not right.
    """
    if name.startswith("{"):
        return _of_word(name)
    return _load(name, ())


def _of_word(word: str) -> Profile:
    try:
        told = json.loads(word)
    except (ValueError, RecursionError):
        raise UsageError(f"the profile {word} is not JSON", "give its name, or a file FILE.toml") from None
    name = told.pop("name", "")
    return _of_table("the profile", name if isinstance(name, str) else "", told, ())


def _load(name: str, above: tuple[str, ...]) -> Profile:
    known = {profile.name: profile for profile in built_in()}
    if name in known:
        return known[name]
    is_file = name.endswith(".toml") or "/" in name
    path = Path(name) if is_file else own_directory() / f"{name}.toml"
    if not is_file and not _exists(path):
        raise UsageError(
            f"there is no profile '{name}'", f"there are {', '.join(known)}; {path} would be one of your own"
        )
    if str(path.absolute()) in above:
        raise UsageError(f"{path}: inherits goes in a circle", "have one of the files inherit a built-in profile")
    return _of_table(str(path), path.stem, _parse(path), (*above, str(path.absolute())))


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _parse(path: Path) -> dict[str, Any]:
    import tomllib

    if not _exists(path):
        raise UsageError(f"{path} is no file that can be read", "give a profile's name, or a file FILE.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    # Of a number of thousands of digits Python says ValueError, tomllib does not say its own.
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}", 'such as: [knobs] on a line, then "ksm.run" = 0') from None


def _of_table(where: str, name: str, told: dict[str, Any], above: tuple[str, ...]) -> Profile:
    """The profile that a table holds which comes from `where`."""
    for key in told:
        if key not in {"inherits", "summary", "knobs"}:
            raise UsageError(f"{where}: '{key}' means nothing", "keys are inherits, summary and the table knobs")
    inherits, summary, chosen = told.get("inherits", MEASURE), told.get("summary", ""), told.get("knobs", {})
    for key, value, kind, expected in (
        ("inherits", inherits, str, "a profile's name"),
        ("summary", summary, str, "a text"),
        ("knobs", chosen, dict, "a table of knobs"),
    ):
        if not isinstance(value, kind):
            raise UsageError(f"{where}: {key} is {value!r}", f"it must be {expected}")
    knobs = dict(_load(inherits, above).knobs)
    for knob_name, value in _flat(chosen):
        try:
            knob = find(knob_name)
        except UsageError as error:
            raise UsageError(f"{where}: knobs: {error.message}", error.hint) from None
        if isinstance(value, bool) or not isinstance(value, int | str) or "\n" in str(value) or not str(value):
            raise UsageError(f"{where}: knobs: {knob_name} is {value!r}", f'it must be a number, a word, or "{KEEP}"')
        knobs.pop(knob.name, None)
        if value != KEEP:
            knobs[knob.name] = str(value)
    return Profile(name, summary or where, knobs)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Knobs with their names in one: TOML reads kernel.numa_balancing = 0, unquoted, as a table in a table."""
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return found


def here(profile: Profile, root: Root = LIVE) -> dict[str, str]:
    """The knobs of a profile that this kernel has, as the profile wants them: whoever sets them sees which are so."""
    return {name: value for name, value in profile.knobs.items() if keys(find(name), root)}
