"""What a command line of `numabench run` asks for, parsed apart from running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer.main

from numabench.cli.commands import app
from numabench.cli.request import request_from
from numabench.errors import UsageError
from numabench.experiment.drive_request import DriveRequest
from numabench.units import MIB

if TYPE_CHECKING:
    from numabench.experiment.plan import Request


def parsed(*words: str, foreign: bool = False) -> Request:
    group = typer.main.get_command(app)
    command = group.commands["run"]  # type: ignore[attr-defined]
    context = command.make_context("run", list(words))
    return request_from(context.params, argv=("numabench", "run", *words), foreign=foreign)


def test_a_command_line_becomes_a_request() -> None:
    words = (
        "pingpong",
        "--driver",
        "mbind",
        "--move-all",
        "--strict",
        "--batch",
        "64",
        "--threads",
        "2",
        "--victims",
        "1",
    )
    request = parsed(*words, "--size", "32M", "--verify", "--obstacles", "pinned:8")
    assert (request.workload, request.threads, request.size_bytes) == ("pingpong", 2, 32 * MIB)
    assert request.argv == ("numabench", "run", *words, "--size", "32M", "--verify", "--obstacles", "pinned:8")
    assert request.drive == DriveRequest(
        driver="mbind", move_all=True, strict=True, batch=64, victims=1, verify=True, obstacles="pinned:8"
    )
    assert request.drive.flags == ("move_all", "strict")


def test_what_was_not_asked_for_is_left_open() -> None:
    request = parsed("numa02")
    assert request.drive == DriveRequest()
    assert (request.knobs, request.no_tune, request.size_bytes) == ((), False, None)


def test_knobs_are_those_asked_for() -> None:
    assert parsed("numa02", "--balancing", "2", "--scan-size", "64").knobs == (
        ("numa_balancing", "2"),
        ("scan_size_mb", "64"),
    )
    with pytest.raises(UsageError, match="--no-tune sets no knob"):
        parsed("numa02", "--no-tune", "--balancing", "1")


def test_a_program_of_the_users_own_is_its_command() -> None:
    request = parsed("./prog", "5", foreign=True)
    assert (request.workload, request.command, request.name) == ("foreign", ("./prog", "5"), "prog")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("numa02", "memset"), "'memset' is one word too many"),
        (("numa02", "--all-placements", "--placement", "hard"), "exclude each other"),
        (("numa02", "--frequency", "99"), "pass --observe, too"),
        (("pingpong", "--driver", "mbind", "--mover", "outside"), "leave out --mover outside"),
        (("numa2",), "did you mean numa02"),
    ],
)
def test_what_cannot_be_meant_is_told(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parsed(*words)
