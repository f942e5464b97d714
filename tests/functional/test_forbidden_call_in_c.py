"""A driver whose system call is refused, by a filter as containers have it."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

import pytest

from numabench import process

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def asking(program_in_c: Callable[[str], str]) -> str:
    """The program that asks for home-node where the call gives the error of its word."""
    return program_in_c("forbidden_call")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errno.EPERM, "set_mempolicy_home_node is not permitted"),
        (errno.EINVAL, "set_mempolicy_home_node: Invalid argument"),
        (errno.ENOSYS, "this kernel has no set_mempolicy_home_node (since Linux 5.17)"),
    ],
)
def test_home_node_cannot_run_where_its_call_is_refused(asking: str, error: int, told: str) -> None:
    ended = process.run([asking, str(error)], timeout_s=60)
    assert ended.exit_status == 77
    assert json.loads(ended.stdout)["code"] == "cannot-run"
    assert told in json.loads(ended.stdout)["message"]
