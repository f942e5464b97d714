"""Which tests run together when two processes share them (`pytest -n 2`), and which are started first.

A file stays in one process, so its fixtures are made once. All that boot guests are one process's, one after another:
an emulated guest wants both CPUs of a small machine, and two of them at once would be late for everything. What runs
on this machine is kept together, too: it may set knobs, for which the second of two at once is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

_GUESTS, _HERE = "in guests", "on this machine"
_RUN_HERE = ("functional/test_run_here", "functional/test_driven_run_here", "functional/test_observe_here")
_SCOPES = {
    f"tests/{file}.py": _HERE
    for file in (*_RUN_HERE, "functional/test_sweep_here", "unit/test_doctor_live", "unit/test_knobs")
}
# It waits for daemons of this machine, and boots nothing.
_NO_GUESTS = "tests/lab/test_slurm.py"
# The longest first; of the other files those with guests come before those without.
_LONGEST = (_GUESTS, _HERE, _NO_GUESTS)


def scope_of(test: str) -> str:
    """What runs in one process with the test of that id: its file, or several."""
    file = test.partition("::")[0]
    if file.startswith("tests/lab/") and file != _NO_GUESTS:
        return _GUESTS
    return _SCOPES.get(file, file)


def order(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""

    def place(item: pytest.Item) -> tuple[int, bool]:
        scope = scope_of(item.nodeid)
        rank = _LONGEST.index(scope) if scope in _LONGEST else len(_LONGEST)
        return rank, item.get_closest_marker("lab") is None

    items.sort(key=place)


class Scheduling(LoadScopeScheduling):
    """Hands out scopes in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
