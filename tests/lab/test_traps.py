"""What the kernel answers where an answer does not mean what it seems to (docs/drivers.md), on each kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

SOURCE = Path(__file__).parent / "inside/traps.c"
PREPARED = """
echo 0 >/proc/sys/kernel/numa_balancing
echo 1 >/sys/kernel/mm/ksm/run
echo 10 >/sys/kernel/mm/ksm/sleep_millisecs
for node in 0 1; do echo 2 >/sys/devices/system/node/node$node/hugepages/hugepages-2048kB/nr_hugepages; done
"$0"
status=$?
for node in 0 1; do echo 0 >/sys/devices/system/node/node$node/hugepages/hugepages-2048kB/nr_hugepages; done
echo 2 >/sys/kernel/mm/ksm/run
echo 0 >/sys/kernel/mm/ksm/run
echo 20 >/sys/kernel/mm/ksm/sleep_millisecs
echo 1 >/proc/sys/kernel/numa_balancing
exit $status
"""
SUITES = {"6.1": "debian:bookworm", "6.12": "debian:bookworm-backports", "7.2": "debian:sid"}


def moved(result: int, on: list[int], **status: int) -> dict[str, Any]:
    return {"result": result, "errno": "", "on": on, "elsewhere": 0, "status": status}


def answered(result: int, on: list[int], errno: str = "") -> dict[str, Any]:
    return {"result": result, "errno": errno, "on": on, "elsewhere": 0}


EVERYWHERE = {
    "home-node without a policy": answered(-1, [512, 0], "ENOENT"),
    "home-node of pages that exist": answered(0, [512, 0]),
    "home-node of pages that are touched anew": answered(0, [0, 512]),
    "move_pages with 8 of 16 pinned": moved(8, [8, 8], unset=16),
    "mbind MOVE with 8 of 16 pinned": answered(0, [8, 8]),
    "mbind MOVE|STRICT with 8 of 16 pinned": answered(-1, [8, 8], "EIO"),
    "move_pages MOVE of pages that a child maps": moved(0, [16, 0], EACCES=16),
    "mbind MOVE of pages that a child maps": answered(0, [16, 0]),
    "mbind MOVE|STRICT of pages that a child maps": answered(0, [16, 0]),
    "mbind MOVE_ALL|STRICT of pages that a child maps": answered(0, [0, 16]),
    "move_pages MOVE of pages that KSM merged": moved(0, [16, 0], EACCES=16),
    "move_pages MOVE_ALL of pages that KSM merged": moved(0, [0, 16], node1=15, EBUSY=1),
    "move_pages of the first 4 KiB of a hugetlb page": moved(0, [0, 1], node1=1),
    # The 24 that the cases before have pinned are counted, too.
    "migrate_pages with 8 pages pinned": answered(32, [8, 56]),
}
ON = {
    "6.1": {
        "weighted-interleave over the source, too": answered(-1, [512, 0], "EINVAL"),
        "weighted-interleave over the other nodes": answered(-1, [512, 0], "EINVAL"),
        "move_pages of the second 4 KiB of a hugetlb page": moved(0, [1, 0], EACCES=1),
    },
    "6.12": {
        "weighted-interleave over the source, too": answered(0, [512, 0]),
        "weighted-interleave over the other nodes": answered(0, [0, 512]),
        "move_pages of the second 4 KiB of a hugetlb page": moved(0, [0, 1], node1=1),
    },
}
ON["7.2"] = ON["6.12"]
# How many pages the node had room for is the machine's: that some moved, and some did not, is the kernel's.
FILLED = {
    "mbind MOVE to a node that fills": (0, ""),
    "mbind MOVE|STRICT to a node that fills": (-1, "EIO"),
    "migrate_pages to a node that fills": (-1, "ENOMEM"),
}


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("traps") / "traps"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
    process.run(["gcc", *flags, "-o", str(program), str(SOURCE)]).check("gcc")
    return program


@pytest.mark.parametrize("kernel", SUITES)
def test_answers_that_do_not_mean_what_they_seem_to(
    kernel: str, shared_guest: Callable[[str, str], Guest], traps: Path
) -> None:
    ended = shared_guest(SUITES[kernel], "2n").run(["sh", "-c", PREPARED, str(traps)]).check("the traps")
    # A case that was tried again has its last line here.
    cases = {case.pop("case"): case for case in map(json.loads, ended.stdout.splitlines())}
    for name, (result, errno) in FILLED.items():
        found = cases.pop(name)
        assert (found["result"], found["errno"]) == (result, errno)
        assert min(found["on"]) > 0
    assert cases == EVERYWHERE | ON[kernel]
