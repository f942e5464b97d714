"""The flags that the kernel sets by itself, as the workloads tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.host.root import Root
from numabench.host.seccomp import CAP_SYS_NICE, read_limits

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def telling(program_in_c: Callable[[str], str]) -> str:
    """The program that prints each driver's flags."""
    return program_in_c("own_flags")


def flags(*argv: str) -> dict[str, str]:
    lines = process.run(argv, timeout_s=60).check("telling").stdout.splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def test_migrate_pages_moves_what_others_map_only_where_the_kernel_allows_it(telling: str) -> None:
    limits = read_limits(Root())
    assert limits is not None
    may = limits.has_capability(CAP_SYS_NICE)
    assert flags(telling)["migrate_pages"] == ("move_all" if may else "move")
    without = flags(telling, "without")
    assert {name for name, flag in without.items() if flag == "move_all"} == {"cpuset"}
    assert len(without) == 8
