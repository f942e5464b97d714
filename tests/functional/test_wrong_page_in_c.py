"""What forktree tells of a wrong word where base pages are larger than those that it compares by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench import process

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 64 << 10


@pytest.fixture(scope="module")
def telling(program_in_c: Callable[[str], str]) -> str:
    """The program that damages the byte of its word and says where it was found."""
    return program_in_c("wrong_page")


@pytest.mark.parametrize("byte", [12345, 2 * PAGE + 12345, 4 * PAGE - 1])
def test_a_wrong_word_is_named_by_its_base_page(telling: str, byte: int) -> None:
    told = process.run([telling, str(byte)], timeout_s=60).check("damaging").stdout.split()
    assert told == [str(byte // PAGE), str(byte % PAGE & ~7), "1"]
