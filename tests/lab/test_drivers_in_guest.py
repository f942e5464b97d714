"""Every driver moves what it says on two nodes: its lines against the kernel's own counts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from numabench.workload import build

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab
PAGES = 2048
LOOPS = 3
# Runs pingpong until it says `stop`, then shows where the kernel has its memory before it lets it check and end.
SCRIPT = """
echo 0 > /proc/sys/kernel/numa_balancing
%(setup)s
migrated() { sed -n 's/^pgmigrate_success //p' /proc/vmstat; }
rm -f /tmp/go; mkfifo /tmp/go; before=$(migrated)
%(program)s --go-fd 3 3<> /tmp/go > /tmp/lines & pid=$!
%(ready)s
printf G > /tmp/go &
until grep -q '"event":"stop"\\|"event":"error"' /tmp/lines; do sleep 0.05; kill -0 $pid || break; done
echo "migrated $(( $(migrated) - before ))" > /tmp/kernel
cat /proc/$pid/numa_maps >> /tmp/kernel
printf X > /tmp/go &
wait $pid; status=$?
cat /tmp/lines /tmp/kernel
exit $status
"""


def drive(
    guest: Guest, *options: str, setup: str = "", ready: str = "", wrapper: str = "", status: int = 0
) -> tuple[list[dict[str, Any]], int, str]:
    """The lines of the run, pages that vmstat counted as migrated meanwhile, and numa_maps at its stop.

    `setup` is done before it starts, `ready` once its memory is touched; `wrapper` is the command that
    executes it.
    """
    words = ("--size", str(PAGES * 4096), "--loops", str(LOOPS), "--threads", "1", "--interval-ms", "60000", *options)
    script = SCRIPT % {
        "setup": setup,
        "ready": ready,
        "program": wrapper + " ".join([str(build.build("pingpong")), *words]),
    }
    ended = guest.run(["sh", "-c", script], timeout_s=180)
    assert ended.exit_status == status, ended.stdout + ended.stderr
    printed, _, kernel = ended.stdout.partition("migrated ")
    migrated, _, maps = kernel.partition("\n")
    return [json.loads(line) for line in printed.splitlines()], int(migrated), maps


def of(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


def pages_by_node(lines: list[dict[str, Any]], maps: str) -> dict[str, int]:
    """Pages of the memory by node, as numa_maps has them."""
    (piece,) = of(lines, "slice")
    counts: dict[str, int] = {}
    for line in maps.splitlines():
        if piece["addr"] <= int(line.split()[0], 16) < piece["addr"] + piece["bytes"]:
            for node, count in re.findall(r" N(\d+)=(\d+)", line):
                counts[node] = counts.get(node, 0) + int(count)
    return counts


@pytest.mark.parametrize(
    "options",
    [
        ("--driver", "move_pages"),
        ("--driver", "move_pages", "--flags", "move_all", "--mover", "outside", "--victims", "1", "--verify", "1"),
        ("--driver", "move_pages", "--order", "random", "--batch", "100", "--sharing", "shared"),
        ("--driver", "mbind", "--victims", "1", "--verify", "1"),
        ("--driver", "mbind", "--flags", "move_all,strict", "--order", "random", "--batch", "100"),
    ],
    ids=" ".join,
)
def test_what_a_driver_confirms_is_what_the_kernel_migrated(guest_2n: Guest, options: tuple[str, ...]) -> None:
    lines, migrated, maps = drive(guest_2n, *options)
    (mover,) = of(lines, "mover")
    assert (mover["requested"], mover["confirmed"], mover["left"]) == (LOOPS * PAGES, LOOPS * PAGES, 0)
    assert migrated == mover["confirmed"]
    assert [(way["from"], way["to"], way["pages"]) for way in mover["directions"]] == [
        (0, 1, 2 * PAGES),
        (1, 0, PAGES),
    ]
    assert pages_by_node(lines, maps) == {"1": PAGES}
    assert [(check["bytes"], check["wrong"]) for check in of(lines, "check")] == [(PAGES * 4096, 0)]


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_migrate_pages_moves_the_whole_process_and_so_more(guest_2n: Guest, side: str) -> None:
    lines, migrated, maps = drive(guest_2n, "--driver", "migrate_pages", "--mover", side)
    (mover,) = of(lines, "mover")
    assert mover["confirmed"] == LOOPS * PAGES
    assert migrated > mover["confirmed"]
    assert pages_by_node(lines, maps) == {"1": PAGES}


@pytest.mark.parametrize(("wrapper", "flags"), [("", ["move_all"]), ("setpriv --bounding-set=-sys_nice ", ["move"])])
def test_migrate_pages_tells_what_its_capability_makes_of_it(guest_2n: Guest, wrapper: str, flags: list[str]) -> None:
    lines, _, _ = drive(guest_2n, "--driver", "migrate_pages", wrapper=wrapper)
    assert of(lines, "start")[0]["driver"]["flags"] == flags


def test_cpuset_moves_memory_to_the_nodes_that_are_written(guest_2n: Guest) -> None:
    group = "/sys/fs/cgroup/numabench-test"
    setup = (
        "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; "
        f"echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control; mkdir -p {group}; "
        f"echo 0-1 > {group}/cpuset.mems; echo $$ > {group}/cgroup.procs"
    )
    lines, migrated, maps = drive(guest_2n, "--driver", "cpuset", "--cpuset-mems", f"{group}/cpuset.mems", setup=setup)
    (mover,) = of(lines, "mover")
    assert mover["confirmed"] == LOOPS * PAGES
    assert migrated >= mover["confirmed"]
    assert pages_by_node(lines, maps) == {"1": PAGES}


def test_a_home_node_places_pages_anew_without_migration(guest_2n: Guest) -> None:
    lines, migrated, maps = drive(guest_2n, "--driver", "home-node")
    assert of(lines, "mover")[0]["confirmed"] == LOOPS * PAGES
    assert migrated == 0
    assert pages_by_node(lines, maps) == {"1": PAGES}


def test_one_way_is_one_step_and_null_none(guest_2n: Guest) -> None:
    _, one_way, _ = drive(guest_2n, "--route", "one-way")
    _, none, maps = drive(guest_2n, "--driver", "null")
    assert (one_way, none) == (PAGES, 0)
    assert "N1=" in maps


def test_interleaved_neighbours_begin_and_end_on_different_nodes(guest_2n: Guest) -> None:
    lines, migrated, maps = drive(guest_2n, "--order", "interleaved")
    (mover,) = of(lines, "mover")
    assert of(lines, "first_touch")[0]["nodes"] == {"0": PAGES // 2, "1": PAGES // 2}
    assert migrated == mover["confirmed"] + PAGES // 2
    assert pages_by_node(lines, maps) == {"0": PAGES // 2, "1": PAGES // 2}


def test_huge_pages_move_as_one_unit(guest_2n: Guest) -> None:
    lines, migrated, _ = drive(guest_2n, "--pages", "thp")
    (mover,) = of(lines, "mover")
    assert (mover["confirmed"], mover["calls"]) == (LOOPS * PAGES // 512, LOOPS * PAGES // 512)
    assert migrated == LOOPS * PAGES


SPLIT = """
until grep -q '"event":"ready"' /tmp/lines; do sleep 0.05; done
at=$(sed -n 's/.*"event":"slice".*"addr":\\([0-9]*\\),.*/\\1/p' /tmp/lines)
printf '%d,0x%x,0x%x' $pid $at $((at + 4096)) > /sys/kernel/debug/split_huge_pages
"""


def test_a_huge_page_that_the_kernel_split_is_found_at_the_end(guest_2n: Guest) -> None:
    setup = "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug"
    lines, migrated, _ = drive(guest_2n, "--pages", "thp", setup=setup, ready=SPLIT)
    edges = [(line["edge"], line["units"], line["split"], line["verified"]) for line in of(lines, "pages")]
    assert edges == [("begin", PAGES // 512, 0, 1), ("end", PAGES // 512, 1, 1)]
    # Of the unit that was split one base page moves, and it counts as a whole one.
    assert of(lines, "mover")[0]["confirmed"] == LOOPS * PAGES // 512
    assert migrated == LOOPS * (PAGES - 511)


def test_too_few_hugetlb_pages_name_the_remedy(guest_2n: Guest) -> None:
    ended = guest_2n.run([str(build.build("pingpong")), "--pages", "hugetlb", "--size", "8388608"], timeout_s=60)
    assert ended.exit_status == 77
    assert "echo 4 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages" in ended.stdout


def test_obstacles_stay_and_are_named(guest_2n: Guest) -> None:
    obstacles = "pinned:8,untouched:3,zero:2,unmapped:4"
    lines, migrated, maps = drive(guest_2n, "--obstacles", obstacles, "--retries", "2")
    (mover,) = of(lines, "mover")
    # Linux 6.1 answers EFAULT for a page that was never touched: 9 that are not there, asked for 3 times a pass.
    assert mover["status"]["EFAULT"] == LOOPS * 3 * 9
    assert mover["positive"] > 0
    assert mover["asked_again"] > 0
    assert migrated == mover["confirmed"]
    assert pages_by_node(lines, maps) == {"1": PAGES}


def test_merged_pages_are_refused_to_move_and_move_with_move_all(guest_2n: Guest) -> None:
    setup = "echo 1 > /sys/kernel/mm/ksm/run"
    one, _, _ = drive(guest_2n, "--obstacles", "ksm:8", "--retries", "2", setup=setup)
    every, _, _ = drive(guest_2n, "--obstacles", "ksm:8", "--retries", "2", "--flags", "move_all", setup=setup)
    guest_2n.run(["sh", "-c", "echo 2 > /sys/kernel/mm/ksm/run"], timeout_s=60)
    assert of(one, "mover")[0]["status"]["EACCES"] > 0
    assert of(every, "mover")[0]["left"] == 0
    assert "EACCES" not in of(every, "mover")[0]["status"]


def test_merged_pages_are_named_beside_pinned_ones(guest_2n: Guest) -> None:
    setup = "echo 1 > /sys/kernel/mm/ksm/run"
    lines, migrated, _ = drive(guest_2n, "--obstacles", "pinned:8,ksm:8", "--retries", "1", setup=setup)
    guest_2n.run(["sh", "-c", "echo 2 > /sys/kernel/mm/ksm/run"], timeout_s=60)
    (mover,) = of(lines, "mover")
    assert mover["positive"] > 0
    assert mover["status"]["EACCES"] > 0
    assert migrated == mover["confirmed"]


def test_victims_go_where_no_mover_is(guest_2n: Guest) -> None:
    words = ("--mover-on", "source", "--victim-on", "all", "--victims", "1", "--driver", "null")
    lines, _, _ = drive(guest_2n, *words)
    cpus = {thread["role"]: thread["cpus"] for thread in of(lines, "thread")}
    assert cpus == {"mover": "0", "victim": "1"}


def test_weighted_interleaving_is_refused_where_the_kernel_has_none(guest_2n: Guest) -> None:
    ended = guest_2n.run([str(build.build("pingpong")), "--driver", "weighted-interleave"], timeout_s=60)
    assert ended.exit_status == 77
    assert "this kernel has no weighted interleaving (since Linux 6.9)" in ended.stdout


def test_movers_outside_that_are_killed_end_the_run_with_a_reason(guest_2n: Guest) -> None:
    program = build.build("pingpong")
    script = (
        f"{program} --mover outside --victims 1 --loops 0 --duration-ms 60000 --size 8388608 > /tmp/lines & pid=$!; "
        'until grep -q \'"event":"go"\' /tmp/lines; do sleep 0.05; done; '
        "kill -9 $(pgrep -P $pid); wait $pid; echo status $?; cat /tmp/lines"
    )
    ended = guest_2n.run(["sh", "-c", script], timeout_s=120)
    assert "status 1" in ended.stdout
    assert "was killed by signal 9 (Killed)" in ended.stdout
