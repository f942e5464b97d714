"""Where each page is, and how another one leads to it: names may hold anything that a directory's name can."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

INDEX = Path("index.html")
CELLS, NIGHTS, GRAPHS = Path("cells"), Path("nights"), Path("graphs")
_SAFE = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,149}")
_LONGEST = 60


def cell_page(cell: str) -> Path:
    """Where a cell's page is, below the site."""
    return CELLS / f"{_safe(cell)}.html"


def night_page(night: str) -> Path:
    """Where a night's page is."""
    return NIGHTS / f"{_safe(night)}.html"


def graph_page(cell: str, night: str) -> Path:
    """Where the comparison around a change of a cell is."""
    return GRAPHS / f"{_safe(cell)}.{_safe(night)}.html"


def _safe(name: str) -> str:
    """A name as a file's: as it is where that is harmless, else made so and told apart by a digest."""
    if _SAFE.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return re.sub(r"[^A-Za-z0-9_+-]", "_", name)[:_LONGEST] + f"~{digest}"


def link(page: Path, target: Path) -> str:
    """What leads from a page to another, both below the site."""
    return quote(os.path.relpath(target, page.parent))


def outside(site: Path, page: Path, target: Path) -> str:
    """What leads from a page to a file or directory elsewhere on the disk; `site` and `target` are absolute."""
    return quote(os.path.relpath(target, site / page.parent))
