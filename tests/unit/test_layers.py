"""An import may only point down (docs/design.md)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import numabench

PACKAGE = Path(numabench.__file__).parent
# From the top down; those in one row may not import each other.
LAYERS = (
    ("cli",),
    ("lab",),
    ("report", "frames"),
    ("analysis",),
    ("experiment",),
    ("store",),
    ("record",),
    ("fields",),
    ("workload", "perf"),
    ("host",),
    ("process",),
    ("errors", "units", "idset"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# process raises errors; units and idset raise errors.
SAME_ROW = {("units", "errors"), ("idset", "errors")}
SOURCES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"pandas", "matplotlib", "numpy"}


def imported(path: Path) -> list[tuple[str, bool]]:
    """The modules a file imports, and whether it does so as soon as it is imported itself."""
    tree = ast.parse(path.read_text())
    late = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING")
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, id(node) not in late) for name in names]
    return found


def layer(dotted: str) -> str | None:
    """The layer of a module named as `numabench.host.root.Root`."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "numabench" and len(parts) > 1 and parts[1] in RANK else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = layer("numabench." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    if own is None:
        return
    for name, _ in imported(path):
        other = layer(name)
        if other is not None and other != own and (own, other) not in SAME_ROW:
            assert RANK[other] > RANK[own], f"{own} may not import {other}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_only_where_they_are_used(path: Path) -> None:
    at_once = {name.split(".")[0] for name, early in imported(path) if early}
    assert not at_once & HEAVY


def test_only_one_module_imports_the_extension() -> None:
    importers = {path.name for path in SOURCES for name, _ in imported(path) if "_libnuma" in name}
    assert importers <= {"libnuma.py", "placement.py"}
    assert {path.name for path in SOURCES for name, _ in imported(path) if "_perfdata" in name} == {"extension.py"}


def test_only_process_starts_programs() -> None:
    starters = {
        path.name for path in SOURCES for name, _ in imported(path) if name.split(".")[0] in {"sh", "subprocess"}
    }
    assert starters == {"process.py"}


def test_a_run_in_a_slow_guest_imports_no_heavy_library() -> None:
    from numabench import process

    code = "import sys, numabench.experiment.run, numabench.cli.run; print(*sys.modules)"
    modules = process.run([sys.executable, "-c", code]).check("import").stdout.split()
    assert "numabench.experiment.run" in modules
    assert not HEAVY & set(modules)
