"""`numabench callgraph FILE|RUN --folded`, and nothing beside it: the way from a recording to its text that is short.

Other tools start this for each of many files, so it can be had without the command line's library, whose start takes as
long as a million samples do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from numabench.cli import recordings

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUES = ("--folded", "--event", "--kallsyms", "--results")
_PARITY = "--parity"


def export(
    recording: str, target: Path, *, event: str | None, kallsyms: Path | None, parity: bool, results: Path
) -> None:
    """Write all stacks of one event as `numabench.report.folded` has them, without making any of them in Python."""
    from numabench.report.folded import shown

    source = recordings.find(results, recording)
    # Whose samples are meant is told by their processes; of a recording of the user's own they are everybody's.
    profile = recordings.load(source.path, threads=bool(source.pids), parity=parity)
    chosen = recordings.only(recording, recordings.sampled(recording, profile, event))
    symbols = recordings.symbols(profile, source.path, kallsyms or source.kallsyms)
    own = recordings.own_groups(profile, source)
    tree = profile.tree(chosen, kallsyms=symbols, comm=True, shown=shown, select=own)
    recordings.write(target, tree.folded_text())


def try_words(words: Sequence[str]) -> bool:
    """Do what the command line says where it says only this, in whole words; otherwise do nothing, and say False."""
    if not words or words[0] != "callgraph":
        return False
    values: dict[str, str] = {}
    places: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        name, has_value, value = word.partition("=")
        if name in _VALUES and name not in values:
            values[name] = value if has_value else next(rest, "")
        elif word == _PARITY:
            values[_PARITY] = word
        elif word.startswith("-"):
            return False
        else:
            places.append(word)
    if len(places) != 1 or "--folded" not in values or not all(values.values()):
        return False
    export(
        places[0],
        Path(values["--folded"]),
        event=values.get("--event"),
        kallsyms=Path(values["--kallsyms"]) if "--kallsyms" in values else None,
        parity=_PARITY in values,
        results=Path(values.get("--results", recordings.DEFAULT_RESULTS)),
    )
    return True
