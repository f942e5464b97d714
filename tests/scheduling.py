"""Which tests run together when two processes share them (`pytest -n 2`), and which are started first.

A file stays in one process, so its fixtures are made once. What samples a run in a guest is one process's, and comes
first, beside tests that boot nothing: an emulated guest wants both CPUs of a small machine, and two at once are late.
What only counts in its guests comes last, in both. What runs on this machine is kept together: it may set knobs, for
which the second of two at once is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

_SAMPLED, _HERE = "sampled in guests", "on this machine"
_RUN_HERE = ("functional/test_run_here", "functional/test_driven_run_here", "functional/test_observe_here")
_IN_GUESTS = ("run_in_guest", "driven_run_in_guest", "sweep_in_guest", "observe_in_guest", "traps", "every_driver")
_TOGETHER = {
    _SAMPLED: tuple(f"lab/test_{name}" for name in _IN_GUESTS),
    _HERE: (*_RUN_HERE, "functional/test_sweep_here", "unit/test_doctor_live", "unit/test_knobs"),
}
_SCOPES = {f"tests/{file}.py": scope for scope, files in _TOGETHER.items() for file in files}
# It waits for daemons of this machine for a minute and a half.
_SLURM = "tests/lab/test_slurm.py"
_FIRST = (_SAMPLED, _HERE, _SLURM)


def scope_of(test: str) -> str:
    """What runs in one process with the test of that id: its file, or several."""
    file = test.partition("::")[0]
    return _SCOPES.get(file, file)


def order(items: list[pytest.Item]) -> None:
    """Put what takes longest first, and what may run beside a guest of the other process last."""

    def place(item: pytest.Item) -> tuple[int, bool]:
        scope = scope_of(item.nodeid)
        rank = _FIRST.index(scope) if scope in _FIRST else len(_FIRST)
        return rank, item.get_closest_marker("lab") is not None

    items.sort(key=place)


class Scheduling(LoadScopeScheduling):
    """Hands out scopes in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
