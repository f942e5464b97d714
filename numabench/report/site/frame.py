"""What every page of the site has around it: one style sheet, a policy that lets nothing else in, and the way back."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from numabench.report.html.element import Html, join, tag
from numabench.report.nightly.morning import OK, STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

# By its sign, too: nobody has to tell colours apart.
_SIGNS = {"ok": "\N{CHECK MARK}", "failed": "\N{MULTIPLICATION X}", "lost": "?", "blocked": "\N{EN DASH}"}


@cache
def _text(package: str, name: str) -> str:
    return resources.files(f"numabench.report.{package}").joinpath(name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    return _text("html", "base.css") + _text("site", "site.css")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


@cache
def _head(with_script: bool) -> tuple[str, str]:
    """The page's beginning up to its title, and its end. Nothing is fetched: Content Security Policy Level 3."""
    script = _text("site", "site.js") if with_script else ""
    allowed = f"script-src {_hash(script)}; " if with_script else ""
    policy = (
        f"default-src 'none'; {allowed}style-src {_hash(_style())}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
    )
    return head, (f"<script>{script}</script>\n" if with_script else "") + "</body>\n</html>\n"


def page(title: str, trail: Sequence[tuple[str, str]], *body: str | None, with_script: bool = False) -> str:
    """A page. `trail` are the names and links of the pages above it."""
    begin, end = _head(with_script)
    links = [tag("a", name, href=href) for name, href in trail]
    way = tag("nav", *_between(links), class_="trail", aria_label="Above this page") if links else None
    header, main = tag("header", way, tag("h1", title)), tag("main", *body)
    style = f"<style>{_style()}</style>\n</head>\n<body>"
    return f"{begin}{tag('title', title)}\n{style}\n{header}\n{main}\n{end}"


def _between(links: Sequence[Html]) -> list[Html]:
    return [join([link, " / "]) for link in links]


def state(name: str) -> Html:
    """A cell's state, as a sign and a word."""
    if name not in STATES:
        return tag("span", "not measured", class_="known")
    return tag("span", f"{_SIGNS[name]} {name}", class_=f"state {name}")


def state_count(states: Sequence[str]) -> str:
    """How many cells of a night ended how, in few signs."""
    counts = [(name, states.count(name)) for name in STATES]
    return " ".join(f"{_SIGNS[name]}{count}" for name, count in counts if count or name == OK)
