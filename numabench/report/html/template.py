"""The page around its parts: one file that needs no other and lets no script run but its own."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numabench
from numabench.report.html.chart import HATCH
from numabench.report.html.element import Html, join, json_block, tag
from numabench.report.html.fit import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# What a page may weigh, and what of that everything but the call graphs may.
LARGEST_BYTES = 400_000
_MOST_AROUND_BYTES = 240_000
_HERE = Path(__file__).parent


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


@dataclass(frozen=True)
class Section:
    """A part of the page: `name` and `link` are what its contents lead to and call it."""

    name: str
    title: str
    link: str
    body: Html


def section(name: str, title: str, *children: str | None, link: str = "") -> Section:
    """A part of the page; it is called by its title unless `link` is shorter."""
    body = tag("section", tag("h2", title, id=name), *children, aria_labelledby=name)
    return Section(name, title, link or title, body)


def page(
    title: str,
    head: Html,
    before: Sequence[Section],
    graphs: Callable[[float], dict[str, Any]],
    after: Sequence[Section],
) -> str:
    """The page: its head, the sections before the call graphs, these, and the sections after.

    `graphs` are the data of the call graphs without what has a smaller share than it is given. Texts may be as long as
    whoever wrote them liked: the heaviest sections are left out until the others leave room for the graphs.
    """
    kept, left_out = [*before, *after], []
    while sum(len(part.body.encode()) for part in kept) > _MOST_AROUND_BYTES:
        heaviest = max(kept, key=lambda part: len(part.body.encode()))
        kept.remove(heaviest)
        left_out.append(heaviest.title)
    told = tag("p", f"Left out, as the page would be too large: {'; '.join(left_out)}.", class_="banner")
    above = [*([told] if left_out else []), *(part.body for part in kept if part in before)]
    below = [part.body for part in kept if part in after]
    nothing = not graphs(1.0)["graphs"]
    links = [(part.name, part.link) for part in kept if part in before]
    links += [] if nothing else [("graph-title", "Call graph")]
    links += [(part.name, part.link) for part in kept if part in after]
    contents = tag(
        "nav", *(tag("a", words, href=f"#{name}") for name, words in links), class_="contents", aria_label="Contents"
    )
    return fit(lambda least: _fill(title, join([head]), [contents, *above], graphs(least), below), LARGEST_BYTES)


def _fill(title: str, head: Html, before: Sequence[Html], data: dict[str, Any], after: Sequence[Html]) -> str:
    """The template with its parts.

    Its policy (Content Security Policy Level 3) names the one style sheet and the one script by their hashes; nothing
    is fetched, and no text can become markup (Trusted Types).
    """
    style, script = _file("base.css") + _file("page.css"), _file("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Template(_file("page.html")).substitute(
        policy=Html(policy),
        version=numabench.__version__,
        title=join([title]),
        style=style,
        head=head,
        before=HATCH + join(before),
        graph_hidden="" if data["graphs"] else "hidden",
        after=join(after),
        data=json_block(data),
        script=script,
    )
