"""Call trees as columns for the page's script, with so much left out that the page stays small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numabench.analysis.missing import Missing
from numabench.analysis.share_tree import NS
from numabench.report.html.element import clip
from numabench.units import HUGE_2M

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.analysis.share_tree import ShareTree
    from numabench.comparison.treediff import NodeChange, TreeDiff

LONGEST_NAME = 300
# Changes that a test found.
FOUND = ("grown", "shrunk", "appeared", "disappeared")
VERDICTS = ("no change found", *FOUND, "insufficient", "not comparable")
# A change that was found is kept down to this part of the share at which others are left out.
_FOUND_KEPT = 0.1
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
# From a millionth to all: the least share of a frame that is kept.
LEAST_SHARES = (*(step * 10.0**power for power in range(-6, 0) for step in _STEPS), 1.0)
_MILLION = 1_000_000


@dataclass
class _Words:
    """Texts by number: each is on the page once."""

    words: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        if text not in self.numbers:
            self.numbers[text] = len(self.words)
            self.words.append(clip(text, LONGEST_NAME))
        return self.numbers[text]


def fit(render: Callable[[float], str], largest_bytes: int) -> str:
    """The page with the least share left out with which it is at most so large.

    `render` makes the page, given the share (0 to 1) below which frames are left out. Where leaving out all of them is
    not enough, the page is larger.
    """
    page = render(0.0)
    if len(page.encode()) <= largest_bytes:
        return page
    # The more is left out, the smaller is the page: the first step that is enough, by halves.
    low, high, best = 0, len(LEAST_SHARES) - 1, None
    while low < high:
        middle = (low + high) // 2
        page = render(LEAST_SHARES[middle])
        if len(page.encode()) <= largest_bytes:
            high, best = middle, page
        else:
            low = middle + 1
    return best or render(LEAST_SHARES[-1])


def run_graph(tree: ShareTree, title: str, least: float) -> dict[str, Any]:
    """The tree of a pass, without what has a smaller share than `least`."""
    total = max(tree.total, 1)
    kept = _kept([node.weight / total for node in tree.nodes], [node.parent for node in tree.nodes], least)
    nodes = [tree.nodes[row] for row in kept]
    names, phases = _Words(), _Words()
    megabytes = 0.0
    if not isinstance(tree.migrated_bytes, Missing) and tree.migrated_bytes >= HUGE_2M:
        megabytes = tree.migrated_bytes / HUGE_2M
    return {
        "title": title,
        "unit": tree.unit,
        "things": "samples" if tree.of == "cpu" else "waiting",
        "per2mb": _short(tree.total / megabytes) if megabytes else None,
        "name": [names.number(node.name) for node in nodes],
        "parent": _renumbered(kept, [node.parent for node in nodes]),
        "kernel": "".join("1" if node.is_kernel else "0" for node in nodes),
        "a": [_millionths(node.weight / total) for node in nodes],
        "selfA": [_millionths(node.self_weight / total) for node in nodes],
        "phase": [phases.number(node.phase) for node in nodes],
        "names": names.words,
        "phases": phases.words,
        "note": _note(len(tree.nodes), len(kept), least),
    }


def diff_graph(tree: TreeDiff, title: str, unit: str, least: float) -> dict[str, Any]:
    """Two trees in one, without what has a smaller share than `least` on both sides and is no change worth keeping."""
    parents = [node.parent for node in tree.nodes]
    kept = _kept([_worth(node) for node in tree.nodes], parents, least)
    nodes = [tree.nodes[row] for row in kept]
    names, phases = _Words(), _Words()
    return {
        "title": title,
        "unit": unit,
        "things": "samples",
        "per2mb": None,
        "name": [names.number(node.name) for node in nodes],
        "parent": _renumbered(kept, [node.parent for node in nodes]),
        "a": [_millionths(node.share_a) for node in nodes],
        "b": [_millionths(node.share_b) for node in nodes],
        "selfA": [_millionths(node.self_a) for node in nodes],
        "selfB": [_millionths(node.self_b) for node in nodes],
        "delta": [_millionths(node.delta) for node in nodes],
        "low": [None if node.ci95 is None else _millionths(node.ci95[0]) for node in nodes],
        "high": [None if node.ci95 is None else _millionths(node.ci95[1]) for node in nodes],
        "q": [_short(node.q) for node in nodes],
        "costA": [_short(node.per_2mb_a) for node in nodes],
        "costB": [_short(node.per_2mb_b) for node in nodes],
        "phase": [phases.number(node.phase) for node in nodes],
        "verdict": "".join(str(VERDICTS.index(node.verdict)) for node in nodes),
        "rawA": _raw([(node.name, node.raw_a) for node in nodes], names),
        "rawB": _raw([(node.name, node.raw_b) for node in nodes], names),
        "names": names.words,
        "phases": phases.words,
        "note": _note(
            len(tree.nodes),
            len(kept),
            least,
            " on both sides (changes that were found are kept down to a tenth of that)",
        ),
    }


def _worth(node: NodeChange) -> float:
    share = max(node.share_a, node.share_b)
    return share / _FOUND_KEPT if node.verdict in FOUND else share


def _kept(worth: Sequence[float], parents: Sequence[int], least: float) -> list[int]:
    """The rows that are worth that much, or have such a row below them."""
    reached = list(worth)
    for row in range(len(parents) - 1, -1, -1):
        if parents[row] >= 0:
            reached[parents[row]] = max(reached[parents[row]], reached[row])
    return [row for row, value in enumerate(reached) if value >= least]


def _renumbered(kept: Sequence[int], parents: Sequence[int]) -> list[int]:
    """How far above itself each kept row's caller stands, 0 for the roots: small numbers are short ones."""
    places = {row: place for place, row in enumerate(kept)}
    return [place - places[parent] if parent >= 0 else 0 for place, parent in enumerate(parents)]


def _raw(nodes: Sequence[tuple[str, tuple[str, ...]]], names: _Words) -> dict[str, list[int]]:
    """The raw names of the functions that have others than the one shown, by the number of that.

    A number below 0 is of an ending: -1 of the first word. Most differ by one, and these are few.
    """
    return {
        str(names.number(name)): [
            -1 - names.number(one[len(name) :]) if one.startswith(name) else names.number(one) for one in raw[:8]
        ]
        for name, raw in nodes
        if raw not in {(), (name,)}
    }


def _millionths(share: float) -> int:
    return round(share * _MILLION)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _note(whole: int, kept: int, least: float, more: str = "") -> str:
    if kept == whole:
        return f"All {whole:,} frames are on the page."
    return (
        f"{kept:,} of {whole:,} frames are on the page. Left out, and part of their callers, are those with a share "
        f"below {100 * least:.3g} %{more}."
    )


def unit_words(unit: str) -> str:
    """What weights of a unit are, in words."""
    return "time" if unit == NS else unit
