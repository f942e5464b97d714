"""forktree on two nodes: pages that 15 processes map are moved by one of them, and every byte of all is kept."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from numabench.workload import build

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab
SIZE = 1 << 20
PAGES = SIZE // 4096
PROCESSES = 15
FAMILY = f"--nodes 0,1 --start-node 0 --size {SIZE} --threads 1 --interval-ms 60000"

_ISOLATED = "sed -n 's/^compact_isolated //p' /proc/vmstat"

Event = dict[str, Any]


def runs(guest: Guest, *options: str) -> list[tuple[list[Event], int]]:
    """The lines of one run after the other in the guest, and what each added to the kernel's pgmigrate_success.

    The guest compacts nothing meanwhile: that would be counted there, too (mm/compaction.c calls migrate_pages).
    """
    program = build.build("forktree")
    count = "sed -n 's/^pgmigrate_success /== /p' /proc/vmstat; "
    each = "".join(f"{program} {FAMILY} {words} || echo '== failed'; {count}" for words in options)
    script = (
        "cd /proc/sys; was=$(cat vm/compaction_proactiveness); echo 0 > vm/compaction_proactiveness; "
        f"echo 0 > kernel/numa_balancing; isolated=$({_ISOLATED}); {count}{each}"
        'echo 1 > kernel/numa_balancing; echo "$was" > vm/compaction_proactiveness; '
        f"test $({_ISOLATED}) = $isolated || echo '== compacted'"
    )
    ended = guest.run(
        ["sh", "-c", script],
        timeout_s=300,
    )
    assert ended.exit_status == 0, ended.stdout + ended.stderr
    assert "== failed" not in ended.stdout, ended.stdout + ended.stderr
    assert "== compacted" not in ended.stdout, "the guest was short of memory, and nothing can be said of it"
    _, *parts = re.split(r"^== (\d+)\n", ended.stdout, flags=re.MULTILINE)
    counts = [int(number) for number in parts[::2]]
    told = [[json.loads(line) for line in text.splitlines()] for text in parts[1:-1:2]]
    return [(lines, after - before) for lines, (before, after) in zip(told, itertools.pairwise(counts), strict=True)]


def of(lines: list[Event], event: str) -> list[Event]:
    return [line for line in lines if line["event"] == event]


def test_three_generations_keep_every_byte_while_the_pages_that_they_share_move(guest_2n: Guest) -> None:
    by_mover = runs(
        guest_2n,
        *(f"--driver move_pages --flags move_all --loops 2 --mover-at {at}" for at in ("parent", "child", "sibling")),
    )
    assert len(by_mover) == 3
    for lines, _ in by_mover:
        (check,) = of(lines, "check")
        (churn,) = of(lines, "churn")
        (mover,) = of(lines, "mover")
        assert (check["bytes"], check["wrong"]) == (PROCESSES * SIZE, 0)
        assert all(churn[kind] >= PROCESSES - 2 for kind in ("forks", "mremaps", "splits", "writes"))
        assert of(lines, "family")[0]["mapmax"] == PROCESSES
        assert mover["requested"] == 2 * PAGES
        # The rest is of the quarter that a sibling had moved away when it was asked for.
        assert mover["confirmed"] > PAGES
    for lines, migrated in by_mover:
        # The process whose pages are moved copies none of them: all that moves is what was asked for.
        assert of(lines, "mover")[0]["confirmed"] == migrated


def test_pages_of_several_processes_are_refused_by_name_without_move_all(guest_2n: Guest) -> None:
    ((lines, migrated),) = runs(guest_2n, "--driver move_pages --flags move --loops 1 --churn none --retries 0")
    (mover,) = of(lines, "mover")
    assert mover["status"] == {"EACCES": PAGES, "unset": 0}
    assert (mover["confirmed"], mover["left"], migrated) == (0, PAGES, 0)
    assert of(lines, "check")[0]["wrong"] == 0
