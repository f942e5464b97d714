"""Where the workloads put their threads and pages on two nodes: what they say, and what the guest's kernel says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from numabench.workload import build

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab
PAGES = 4096
SMALL = ("--size", str(PAGES * 4096), "--loops", "2", "--interval-ms", "60000", "--nodes")


def run(guest: Guest, name: str, *options: str, status: int = 0) -> list[dict[str, Any]]:
    """The lines that a workload prints in the guest."""
    ended = guest.run([str(build.build(name)), *SMALL, *(options or ("0,1",))], timeout_s=120)
    assert ended.exit_status == status, ended.stdout + ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def of(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


def places(lines: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """CPUs, policy and policy nodes of the threads in their order, as the kernel gave them back."""
    threads = sorted(of(lines, "thread"), key=lambda line: int(line["thread"]))
    return [(line["cpus"], line["policy"], line["policy_nodes"]) for line in threads]


def touched(lines: list[dict[str, Any]]) -> dict[int, dict[str, int]]:
    """Pages by node at the start, by the thread whose process they are of."""
    threads = of(lines, "thread")
    owner = {each["pid"]: min(t["thread"] for t in threads if t["pid"] == each["pid"]) for each in threads}
    return {owner[line["pid"]]: line["nodes"] for line in of(lines, "first_touch")}


def test_hard_puts_each_slice_and_its_thread_on_one_node(guest_2n: Guest) -> None:
    lines = run(guest_2n, "numa02", "0,1", "--placement", "hard", "--threads", "4")
    assert places(lines) == [("0", "bind", "0")] * 2 + [("1", "bind", "1")] * 2
    assert touched(lines) == {0: {"0": PAGES // 2, "1": PAGES // 2}}


@pytest.mark.parametrize("placement", ["inverse", "inverse-compat"])
def test_inverse_puts_the_threads_on_the_other_node(guest_2n: Guest, placement: str) -> None:
    lines = run(guest_2n, "numa02", "0,1", "--placement", placement, "--threads", "4")
    assert places(lines) == [("1", "bind", "1")] * 2 + [("0", "bind", "0")] * 2
    assert touched(lines) == {0: {"0": PAGES // 2, "1": PAGES // 2}}


def test_threads_that_nodes_do_not_divide_are_spread_evenly(guest_2n: Guest) -> None:
    lines = run(guest_2n, "numa02", "0,1", "--placement", "inverse", "--threads", "3")
    assert [cpus for cpus, _, _ in places(lines)] == ["1", "1", "0"]


@pytest.mark.parametrize("name", ["numa01", "numa01-thread-alloc", "numa02", "numa02-smt", "memset"])
@pytest.mark.parametrize("node", ["0", "1"])
def test_default_starts_on_its_start_node_and_is_free_from_then_on(guest_2n: Guest, name: str, node: str) -> None:
    # What other tests read fills the nodes: without room the kernel gives pages of the other node.
    guest_2n.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"]).check("dropping the caches")
    lines = run(guest_2n, name, "0,1", "--start-node", node)
    assert set(places(lines)) == {("0-1", "default", "")}
    assert set(map(json.dumps, touched(lines).values())) == {json.dumps({node: PAGES})}
    assert all(line["wrong"] == 0 for line in of(lines, "check"))


@pytest.mark.parametrize(
    ("placement", "policies", "pages"),
    [
        ("hard", ("0", "1"), ("0", "1")),
        ("inverse", ("1", "0"), ("1", "0")),
        # As published: both arms test the first half's mask, so that the second process is never swapped.
        ("inverse-compat", ("1", "1"), ("1", "1")),
    ],
)
def test_numa01_binds_each_process_to_a_half(
    guest_2n: Guest, placement: str, policies: tuple[str, str], pages: tuple[str, str]
) -> None:
    lines = run(guest_2n, "numa01", "0,1", "--placement", placement)
    assert places(lines) == [("0", "bind", policies[0]), ("1", "bind", policies[1])]
    assert touched(lines) == {0: {pages[0]: PAGES}, 1: {pages[1]: PAGES}}


def test_memset_may_have_a_mapping_per_thread(guest_2n: Guest) -> None:
    lines = run(guest_2n, "memset", "0,1", "--placement", "hard", "--mapping", "per-thread")
    first, second = of(lines, "slice")
    assert first["addr"] + first["bytes"] != second["addr"]
    assert touched(lines) == {0: {"0": PAGES // 2, "1": PAGES // 2}}


def test_a_workload_names_what_the_machine_lacks(guest_2n: Guest) -> None:
    (error,) = of(run(guest_2n, "numa02", "0,7", status=77), "error")
    assert error["code"] == "cannot-run"
    assert "node 7 does not exist" in error["message"]


def test_the_kernel_shows_the_threads_where_they_say_they_are(guest_2n: Guest) -> None:
    script = (
        f"{build.build('numa02')} --nodes 0,1 --placement hard --size 33554432 --loops 0 --duration-ms 60000 "
        "> /tmp/lines & pid=$!; "
        'until grep -q \'"event":"go"\' /tmp/lines; do sleep 0.1; done; '
        "for task in /proc/$pid/task/*; do "
        "echo $(cat $task/comm) $(grep Cpus_allowed_list $task/status | cut -f2); done; "
        "grep anon= /proc/$pid/numa_maps | sort -t= -k2 -n | grep -E 'N0=4096|N1=4096|N0=4096 N1=4096'; kill $pid"
    )
    shown = guest_2n.run(["sh", "-c", script], timeout_s=120)
    assert shown.exit_status == 0, shown.stderr
    assert "numa02-0 0" in shown.stdout
    assert "numa02-1 1" in shown.stdout
    assert "N0=4096 N1=4096" in shown.stdout
