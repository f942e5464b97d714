"""What a command sees and leaves in a guest, and what the host learns of it."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("status", [0, 1, 77, 126, 255])
def test_the_exit_status_of_a_command_comes_back(guest_2n: Guest, status: int) -> None:
    assert guest_2n.run(["sh", "-c", f"exit {status}"]).exit_status == status


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_death_by_a_signal_is_128_plus_its_number(guest_2n: Guest, number: signal.Signals) -> None:
    assert guest_2n.run(["sh", "-c", f"kill -{number.value} $$; sleep 5"]).exit_status == 128 + number
