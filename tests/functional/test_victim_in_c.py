"""A victim's checks, access by access: when a lost write is found, and how much of what it stored is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from numabench import process
from numabench.workload import build, catalog

HERE = Path(__file__).parent
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LINES = 64

Event = dict[str, Any]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of a victim that is told what to do."""
    program = tmp_path_factory.mktemp("victim") / "accesses"
    sources = build.sources_dir()
    left_out = {"victim.c", *(spec.source for spec in catalog.WORKLOADS)}
    shared = [str(path) for path in sorted(sources.glob("*.c")) if path.name not in left_out]
    argv = [*build.find_compiler(), *build.FLAGS, *FLAGS, "-I", str(sources), "-o", str(program)]
    process.run([*argv, str(HERE / "victim_accesses.c"), *shared, *build.LIBRARIES], timeout_s=120).check("compiling")
    return str(program)


def run(program: str, steps: list[str], *, pages: int = 1, victims: int = 1) -> tuple[list[Event], Event]:
    """The wrong words, and what was counted."""
    ended = process.run([program, str(pages), str(victims)], stdin_text="\n".join(steps), timeout_s=60)
    prepared, *wrong, end = map(json.loads, ended.check("visiting").stdout.splitlines())
    assert prepared["resident"] == prepared["pages"] > 1, "the first access would fault on the victim's notes"
    return wrong, end


@pytest.mark.parametrize("victims", [1, 2, 64])
def test_a_lost_write_is_found_when_its_page_is_visited_next(victim: str, victims: int) -> None:
    steps = [*["visit 0"] * 10, "lose 0", "visit 0"]
    wrong, end = run(victim, steps, victims=victims)
    # The tenth write went to the tenth of the victim's lines; 64 victims have one each.
    line = 9 * victims if victims < LINES else 0
    assert [(found["visit"], found["page"], found["offset"]) for found in wrong] == [(11, 0, line * 64)]
    assert end["wrong"] == 1


def test_other_pages_do_not_come_between(victim: str) -> None:
    steps = [*["visit 0", "visit 1"] * 3, "lose 1", "visit 0", "visit 1", "visit 1"]
    wrong, _ = run(victim, steps, pages=2)
    assert [(found["visit"], found["page"], found["offset"]) for found in wrong] == [(8, 1, 2 * 64)]


def test_nothing_is_wrong_where_nothing_is_lost_and_two_lines_are_compared_a_visit(victim: str) -> None:
    wrong, end = run(victim, ["visit 0"] * 200)
    assert wrong == []
    assert end == {"event": "end", "checked": 2 * 200 - 1, "wrong": 0}
