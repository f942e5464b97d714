"""Which tests run together when several processes share them (`pytest -n 2`), and which are started first.

A file stays in one process, so its fixtures are made once. Files that would boot the same costly guests, or that set
knobs of this machine, are kept together: one process runs them, one after another. What takes longest comes first, so
that the processes end at about the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

# Runs on this machine: they may set its knobs, for which the second of two at once is refused.
_HERE = ("functional/test_run_here", "functional/test_driven_run_here", "functional/test_observe_here")
_TOGETHER = {
    "on this machine": (*_HERE, "functional/test_sweep_here", "unit/test_doctor_live", "unit/test_knobs"),
    # Three kernels' guests, two of which take half a minute to boot.
    "in guests of three kernels": ("lab/test_every_driver", "lab/test_observe_in_guest", "lab/test_traps"),
}
_SCOPES = {f"tests/{file}.py": scope for scope, files in _TOGETHER.items() for file in files}
# The longest first; of the other files those with guests come before those without.
_LONGEST = ("in guests of three kernels", "tests/lab/test_run_in_guest.py", "on this machine")


def scope_of(test: str) -> str:
    """What runs in one process with the test of that id: its file, or several."""
    file = test.partition("::")[0]
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
