"""An import may only point down (docs/design.md)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import numabench
from numabench import process

PACKAGE = Path(numabench.__file__).parent
# From the top down; those in one row may not import each other.
LAYERS = (
    ("cli",),
    ("fleet",),
    ("lab",),
    ("report", "frames"),
    ("comparison",),
    ("analysis",),
    ("experiment",),
    ("doctor",),
    ("observe",),
    ("store",),
    ("record",),
    ("fields",),
    ("drivers", "workload", "perf"),
    ("host",),
    ("reaper",),
    ("process",),
    ("errors", "units", "idset", "signals", "state_dir", "named_file"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# process raises errors; units and idset raise errors.
SAME_ROW = {("units", "errors"), ("idset", "errors")}
SOURCES = sorted(PACKAGE.rglob("*.py"))
# The package itself and its `python -m`: the one imports frames when asked, the other cli.
OUTSIDE = {"__init__", "__main__"}
HEAVY = {"pandas", "matplotlib", "numpy", "scipy"}
# What analysis may import of others: values and arithmetic. No clock, no file, no machine, no other program.
PURE = {"__future__", "collections", "dataclasses", "functools", "itertools", "math", "numpy", "re", "scipy"} | {
    *("statistics", "typing"),
}
# Of perf it takes the recorded columns, and the table of symbols.
PURE_OWN = {"analysis", "comparison", "record", "perf", "errors", "units", "idset"}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__"}
# A user who asks for help waits for none of these (modules are meant with what is below them).
NOT_FOR_HELP = (
    "numpy",
    "pandas",
    "matplotlib",
    "scipy",
    "sh",
    "cffi",
    "_cffi_backend",
    "psutil",
    "cpuinfo",
    "rich",
    "asyncio",
    "numabench._libnuma",
    "numabench._perfdata",
    "numabench.perf",
    "numabench.frames",
    "numabench.store",
    "numabench.analysis",
    "numabench.comparison",
    "numabench.doctor",
    "numabench.experiment",
    "numabench.host",
    "numabench.workload",
    "numabench.drivers",
    "numabench.lab",
    "numabench.fleet",
)


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
    if path.parent == PACKAGE and path.stem in OUTSIDE:
        return
    assert own is not None, f"{path.name} has no place in LAYERS"
    for name, _ in imported(path):
        other = layer(name)
        if other is not None and other != own and (own, other) not in SAME_ROW:
            assert RANK[other] > RANK[own], f"{own} may not import {other}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_only_where_they_are_used(path: Path) -> None:
    at_once = {name.split(".")[0] for name, early in imported(path) if early}
    assert not at_once & HEAVY


ANALYSIS = [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] in {"analysis", "comparison"}]


@pytest.mark.parametrize("path", ANALYSIS, ids=lambda path: path.name)
def test_analysis_is_pure(path: Path) -> None:
    for name, _ in imported(path):
        parts = name.split(".")
        if parts[0] == "numabench":
            assert parts[1] in PURE_OWN, f"analysis may not import {name}"
        else:
            assert parts[0] in PURE, f"analysis may not import {name}"
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_CALLS


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
    code = "import sys, numabench.experiment.run, numabench.cli.run; print(*sys.modules)"
    modules = process.run([sys.executable, "-c", code]).check("import").stdout.split()
    assert "numabench.experiment.run" in modules
    assert not HEAVY & set(modules)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["sweep", "--help"], ["lab", "run", "--help"]]
)
def test_help_imports_nothing_that_is_slow(words: list[str]) -> None:
    code = (
        "import sys\nfrom numabench.cli.app import main\n"
        "try: main()\nexcept SystemExit as end: print('ended', end.code, *sys.modules)"
    )
    told = process.run([sys.executable, "-c", code, *words]).check("help").stdout
    ended, status, *modules = told.splitlines()[-1].split()
    assert (ended, status) == ("ended", "0")
    assert "numabench.cli.run" in modules
    assert not [name for name in modules if any(name == slow or name.startswith(f"{slow}.") for slow in NOT_FOR_HELP)]
