"""Every driver moves what it says: page by page as seen from outside, by the kernel's counters, and by name.

One script a guest runs all cases under `inside/hold.c`, which asks for the workload's pages before GO and after its
stop; each test looks at one case.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numabench import process
from numabench.workload.build import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

SUITES = {"6.1": "debian:bookworm", "6.12": "debian:bookworm-backports", "7.2": "debian:sid"}
HOLD = Path(__file__).parent / "inside/hold.c"
PAGES = 2048
SIZE = PAGES << 12
HUGE_PAGES = 512
# What migrates in a guest by itself, and the pages that a process has beside the workload's memory.
OTHER_PAGES = 1024

PREPARE = """
set -u
echo 0 >/proc/sys/kernel/numa_balancing
node=/sys/devices/system/node
"""
CLEAN_UP = """
echo 1 >/proc/sys/kernel/numa_balancing
"""
IN_CPUSET = """
cd /sys/fs/cgroup
has_cpuset=$(cat cgroup.subtree_control)
echo +cpuset >cgroup.subtree_control
mkdir drivers && echo 0-1 >drivers/cpuset.mems
echo $$ >drivers/cgroup.procs
"""
OUT_OF_CPUSET = """
echo $$ >/sys/fs/cgroup/cgroup.procs
rmdir /sys/fs/cgroup/drivers
case $has_cpuset in *cpuset*) ;; *) echo -cpuset >/sys/fs/cgroup/cgroup.subtree_control ;; esac
cd /
"""
KSM = "echo 1 >/sys/kernel/mm/ksm/run; echo 10 >/sys/kernel/mm/ksm/sleep_millisecs"
NO_KSM = "echo 2 >/sys/kernel/mm/ksm/run; echo 0 >/sys/kernel/mm/ksm/run"
HUGETLB = "for n in 0 1; do echo 4 >$node/node$n/hugepages/hugepages-2048kB/nr_hugepages; done"
NO_HUGETLB = "for n in 0 1; do echo 0 >$node/node$n/hugepages/hugepages-2048kB/nr_hugepages; done"
# A file that stays on node 1 leaves room for half of what is to be moved there.
FILL = """
mkdir -p /run/hog && mount -t tmpfs -o mpol=bind:1,size=100% none /run/hog
free=$(sed -n 's/^Node 1 MemFree: *\\([0-9]*\\) kB$/\\1/p' $node/node1/meminfo)
head -c $(((free - 49152) * 1024)) /dev/zero >/run/hog/file
"""
EMPTY = "umount /run/hog"
BALANCE = """
cd /sys/kernel/debug/sched/numa_balancing
for name in scan_delay_ms scan_period_min_ms; do eval old_$name=$(cat $name); echo 50 >$name; done
echo 1 >/proc/sys/kernel/numa_balancing
"""
NO_BALANCE = """
echo 0 >/proc/sys/kernel/numa_balancing
for name in scan_delay_ms scan_period_min_ms; do eval echo \\$old_$name >$name; done
cd /
"""


@dataclass(frozen=True)
class Case:
    """A workload with its options, between two pieces of shell."""

    name: str
    options: str
    before: str = ""
    after: str = ""
    program: str = "pingpong"
    size: int = SIZE
    kernels: tuple[str, ...] = tuple(SUITES)


NEWER = ("6.12", "7.2")
ONE_WAY = "--nodes 0,1 --start-node 0 --route one-way"
# The drivers whose movers say which pages moved; those of a whole process move what else it has, too.
MOVING = (
    Case("move_pages", f"{ONE_WAY} --driver move_pages"),
    Case("move_pages, move_all", f"{ONE_WAY} --driver move_pages --flags move_all"),
    Case("move_pages, outside", f"{ONE_WAY} --driver move_pages --mover outside"),
    Case("move_pages, outside, move_all", f"{ONE_WAY} --driver move_pages --mover outside --flags move_all"),
    Case("move_pages, one page a call", f"{ONE_WAY} --driver move_pages --batch 1"),
    Case("move_pages, four movers", f"{ONE_WAY} --driver move_pages --threads 4 --mapping per-thread"),
    Case("move_pages, random", f"{ONE_WAY} --driver move_pages --order random"),
    Case("move_pages, shared memory", f"{ONE_WAY} --driver move_pages --sharing shared"),
    Case("move_pages, victims", f"{ONE_WAY} --driver move_pages --victims 2 --verify 1"),
    Case("move_pages, thp", f"{ONE_WAY} --driver move_pages --pages thp"),
    Case("move_pages, hugetlb", f"{ONE_WAY} --driver move_pages --pages hugetlb", HUGETLB, NO_HUGETLB),
    Case("mbind", f"{ONE_WAY} --driver mbind"),
    Case("mbind, move_all", f"{ONE_WAY} --driver mbind --flags move_all"),
    Case("mbind, strict", f"{ONE_WAY} --driver mbind --flags move,strict"),
    Case("mbind, thp", f"{ONE_WAY} --driver mbind --pages thp"),
    Case("migrate_pages", f"{ONE_WAY} --driver migrate_pages"),
    Case("migrate_pages, outside", f"{ONE_WAY} --driver migrate_pages --mover outside"),
    Case(
        "cpuset",
        f"{ONE_WAY} --driver cpuset --cpuset-mems /sys/fs/cgroup/drivers/cpuset.mems",
        IN_CPUSET,
        OUT_OF_CPUSET,
    ),
    Case("weighted-interleave", f"{ONE_WAY} --driver weighted-interleave", kernels=NEWER),
)
OTHERS = (
    Case("null", f"{ONE_WAY} --driver null"),
    Case("home-node", f"{ONE_WAY} --driver home-node"),
    Case("there and back", "--nodes 0,1 --start-node 0 --driver move_pages --loops 3"),
    Case("interleaved", "--nodes 0,1 --start-node 0 --driver move_pages --loops 1 --order interleaved"),
    Case(
        "autonuma",
        "--nodes 0,1 --start-node 0 --driver autonuma --victims 2 --victim-on 1 --loops 0 --duration-ms 4000",
        BALANCE,
        NO_BALANCE,
    ),
    Case("untouched", f"{ONE_WAY} --driver move_pages --retries 2 --obstacles untouched:8"),
    Case("zero", f"{ONE_WAY} --driver move_pages --retries 2 --obstacles zero:8"),
    Case("unmapped", f"{ONE_WAY} --driver move_pages --retries 2 --obstacles unmapped:8"),
    Case("pinned", f"{ONE_WAY} --driver move_pages --retries 2 --obstacles pinned:8"),
    Case("ksm", f"{ONE_WAY} --driver move_pages --retries 2 --obstacles ksm:8", KSM, NO_KSM),
    Case("ksm, move_all", f"{ONE_WAY} --driver move_pages --flags move_all --obstacles ksm:8", KSM, NO_KSM),
    Case("a full target", f"{ONE_WAY} --driver move_pages --retries 0", FILL, EMPTY, size=96 << 20),
    Case("an absent target", "--nodes 0,9 --start-node 0 --driver move_pages"),
    Case("one node", "--nodes 0 --driver move_pages"),
    Case(
        "outside of the cpuset",
        "--nodes 0,1 --start-node 0 --driver move_pages",
        IN_CPUSET + "echo 0 >drivers/cpuset.mems",
        OUT_OF_CPUSET,
    ),
)
RING = "--nodes 0-3 --start-node 0"
ON_FOUR = (
    Case("once round", f"{RING} --driver move_pages --loops 4"),
    Case("one way", f"{RING} --driver mbind --route one-way"),
    Case("from 2 by migrate_pages", "--nodes 0-3 --start-node 2 --driver migrate_pages --route one-way"),
    Case("three steps by a mover elsewhere", f"{RING} --driver move_pages --loops 3 --mover-on 3 --mover outside"),
    Case("interleaved", f"{RING} --driver move_pages --loops 2 --order interleaved"),
)


@dataclass
class Answer:
    """What one case printed."""

    status: int = -1
    lines: list[dict[str, Any]] = field(default_factory=list)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def total(self, name: str) -> int:
        """A count of all movers."""
        return sum(mover[name] for mover in self.of("mover"))

    def statuses(self) -> Counter[str]:
        return sum((Counter(mover["status"]) for mover in self.of("mover")), Counter())

    def errors(self) -> Counter[str]:
        return sum((Counter(mover["call_errors"]) for mover in self.of("mover")), Counter())

    def directions(self) -> dict[tuple[int, int], int]:
        found: Counter[tuple[int, int]] = Counter()
        for mover in self.of("mover"):
            for step in mover["directions"]:
                found[step["from"], step["to"]] += step["pages"]
        return {direction: pages for direction, pages in found.items() if pages}

    def pages(self, when: str, half: str = "") -> dict[int, int]:
        """The workload's 4 KiB pages by node, as seen from outside: all, or those of `even` or `odd` number."""
        (line,) = [line for line in self.of("seen") if line["when"] == when]
        assert line["elsewhere"] == 0
        found: Counter[int] = Counter()
        for name in (half,) if half else ("even", "odd"):
            found.update({int(node): pages for node, pages in line[name].items()})
        return dict(found)

    def risen(self, name: str) -> int:
        before, after = (line for line in self.of("vmstat"))
        return int(after[name]) - int(before[name])

    def message(self) -> str:
        return " ".join(str(line["message"]) for line in self.of("error"))


def script(cases: Iterable[Case], hold: Path) -> str:
    pieces = [PREPARE]
    for case in cases:
        words = [str(hold), str(build(case.program)), "--size", str(case.size), *shlex.split(case.options)]
        pieces += [
            f"printf '%s\\n' {shlex.quote(json.dumps({'event': 'case', 'name': case.name}))}",
            case.before,
            f"{shlex.join(words)}; status=$?",
            case.after,
            'printf \'{"event":"exit","status":%d}\\n\' $status',
        ]
    return "\n".join([*pieces, CLEAN_UP])


def answers_of(text: str) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    answer = Answer()
    for line in map(json.loads, text.splitlines()):
        if line["event"] == "case":
            answer = found[line["name"]] = Answer()
        elif line["event"] == "exit":
            answer.status = line["status"]
        else:
            answer.lines.append(line)
    return found


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("hold") / "hold"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
    process.run(["gcc", *flags, "-o", str(program), str(HOLD)]).check("gcc")
    return program


@pytest.fixture(scope="module")
def asked(
    shared_guest: Callable[[str, str], Guest], hold: Path
) -> Callable[[str, str, tuple[Case, ...]], dict[str, Answer]]:
    """A function that gives the answers of all cases of one guest, which run once."""
    known: dict[tuple[str, str], dict[str, Answer]] = {}

    def ask(kernel: str, of: str, cases: tuple[Case, ...]) -> dict[str, Answer]:
        if (kernel, of) not in known:
            words = script([case for case in cases if kernel in case.kernels], hold)
            ended = shared_guest(SUITES[kernel], of).run(["sh", "-c", words], timeout_s=400)
            known[kernel, of] = answers_of(ended.stdout)
            assert not ended.stderr, ended.stderr
        return known[kernel, of]

    return ask


@pytest.fixture(params=SUITES)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def answers(kernel: str, asked: Callable[[str, str, tuple[Case, ...]], dict[str, Answer]]) -> dict[str, Answer]:
    """The answers in a guest with two nodes."""
    return asked(kernel, "2n", MOVING + OTHERS)


def check_kept(answer: Answer) -> None:
    """It ended well, and every byte was right."""
    assert answer.status == 0, answer.message()
    assert [line["wrong"] for line in answer.of("check")] == [0]
    assert not answer.of("wrong")


def test_every_driver_moves_every_page_and_says_so(kernel: str, answers: dict[str, Answer]) -> None:
    for case in MOVING:
        if kernel not in case.kernels:
            continue
        answer = answers[case.name]
        check_kept(answer)
        unit_pages = answer.of("start")[0]["driver"]["unit_bytes"] >> 12
        assert answer.pages("before") == {0: PAGES}, case.name
        assert answer.pages("after") == {1: PAGES}, case.name
        told = [answer.total(name) * unit_pages for name in ("requested", "confirmed", "left", "already")]
        assert told == [PAGES, PAGES, 0, 0], case.name
        assert answer.directions() == {(0, 1): PAGES // unit_pages}, case.name
        assert PAGES <= answer.risen("pgmigrate_success") <= PAGES + OTHER_PAGES, case.name
        assert (answer.statuses(), answer.errors()) == ({}, {}), case.name


def test_huge_pages_are_moved_whole(answers: dict[str, Answer]) -> None:
    for name in ("move_pages, thp", "move_pages, hugetlb", "mbind, thp"):
        check_kept(answers[name])
        assert answers[name].of("start")[0]["driver"]["unit_bytes"] == HUGE_PAGES << 12
        assert answers[name].total("requested") == PAGES // HUGE_PAGES


def test_null_moves_nothing_and_says_so(answers: dict[str, Answer]) -> None:
    answer = answers["null"]
    check_kept(answer)
    assert answer.pages("before") == answer.pages("after") == {0: PAGES}
    assert answer.total("confirmed") == 0
    assert answer.risen("pgmigrate_success") < OTHER_PAGES


def test_home_node_places_pages_anew_and_migrates_none(answers: dict[str, Answer]) -> None:
    answer = answers["home-node"]
    check_kept(answer)
    assert (answer.pages("before"), answer.pages("after")) == ({0: PAGES}, {1: PAGES})
    assert answer.risen("pgmigrate_success") < OTHER_PAGES


def test_there_and_back_counts_each_way(answers: dict[str, Answer]) -> None:
    answer = answers["there and back"]
    check_kept(answer)
    assert answer.pages("after") == {1: PAGES}
    assert (answer.total("requested"), answer.total("confirmed"), answer.total("left")) == (3 * PAGES, 3 * PAGES, 0)
    assert answer.directions() == {(0, 1): 2 * PAGES, (1, 0): PAGES}
    assert 3 * PAGES <= answer.risen("pgmigrate_success") <= 3 * PAGES + OTHER_PAGES


def test_interleaved_pages_change_places(answers: dict[str, Answer]) -> None:
    answer = answers["interleaved"]
    check_kept(answer)
    half = PAGES // 2
    assert (answer.pages("before", "even"), answer.pages("before", "odd")) == ({0: half}, {1: half})
    assert (answer.pages("after", "even"), answer.pages("after", "odd")) == ({1: half}, {0: half})
    assert answer.directions() == {(0, 1): half, (1, 0): half}


def test_balancing_moves_pages_to_the_threads_that_touch_them(answers: dict[str, Answer]) -> None:
    answer = answers["autonuma"]
    check_kept(answer)
    assert answer.pages("before") == {0: PAGES}
    moved = answer.pages("after").get(1, 0)
    assert moved > PAGES * 0.9
    assert answer.risen("numa_pages_migrated") >= moved
    assert not answer.of("mover")


@pytest.mark.parametrize("obstacle", ["zero", "unmapped"])
def test_pages_that_are_not_there_are_efault(answers: dict[str, Answer], obstacle: str) -> None:
    check_obstacle(answers[obstacle], "EFAULT")


def test_pages_never_touched_are_enoent_since_6_12_and_efault_before(kernel: str, answers: dict[str, Answer]) -> None:
    check_obstacle(answers["untouched"], "EFAULT" if kernel == "6.1" else "ENOENT")


def check_obstacle(answer: Answer, status: str) -> None:
    """Eight pages were left for that reason alone, seen at least once each; all others moved."""
    check_kept(answer)
    assert answer.pages("after") == {1: PAGES}
    assert (answer.total("requested"), answer.total("confirmed"), answer.total("left")) == (PAGES + 8, PAGES, 8)
    assert set(answer.statuses()) == {status}
    assert answer.statuses()[status] >= 8


def test_pinned_pages_stay_and_a_positive_return_is_asked_about(answers: dict[str, Answer]) -> None:
    answer = answers["pinned"]
    check_obstacle(answer, "node")
    assert answer.total("positive") >= 1
    assert answer.total("asked_again") >= 1
    assert answer.total("retried") == 16


def test_ksm_pages_are_eacces_and_move_with_move_all(answers: dict[str, Answer]) -> None:
    check_obstacle(answers["ksm"], "EACCES")
    moved = answers["ksm, move_all"]
    check_kept(moved)
    assert moved.total("left") == 0
    # Eight addresses of one page: the kernel says of one that it is busy, and moves it.
    assert moved.statuses()["EBUSY"] >= 1


def test_a_full_target_is_enomem_and_what_moved_before_is_counted(answers: dict[str, Answer]) -> None:
    answer = answers["a full target"]
    check_kept(answer)
    after = answer.pages("after")
    assert answer.errors()["ENOMEM"] >= 1
    assert min(after[0], after[1]) > 0
    assert (answer.total("confirmed"), answer.total("left")) == (after[1], after[0])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("an absent target", "node 9 does not exist"),
        ("one node", "source and target are one node, 0"),
        ("outside of the cpuset", "node 1 is outside of the cpuset"),
    ],
)
def test_targets_that_cannot_be_are_refused_by_name(answers: dict[str, Answer], name: str, said: str) -> None:
    assert answers[name].status == 77
    assert said in answers[name].message()


@pytest.fixture
def on_four(asked: Callable[[str, str, tuple[Case, ...]], dict[str, Answer]]) -> dict[str, Answer]:
    return asked("6.1", "4n", ON_FOUR)


def test_four_nodes_are_gone_round_page_by_page(on_four: dict[str, Answer]) -> None:
    steps = {
        "once round": ({0: PAGES}, {0: PAGES}, [(0, 1), (1, 2), (2, 3), (3, 0)]),
        "one way": ({0: PAGES}, {1: PAGES}, [(0, 1)]),
        "from 2 by migrate_pages": ({2: PAGES}, {3: PAGES}, [(2, 3)]),
        "three steps by a mover elsewhere": ({0: PAGES}, {3: PAGES}, [(0, 1), (1, 2), (2, 3)]),
    }
    for name, (before, after, directions) in steps.items():
        answer = on_four[name]
        check_kept(answer)
        assert (answer.pages("before"), answer.pages("after")) == (before, after), name
        assert answer.directions() == dict.fromkeys(directions, PAGES), name


def test_four_nodes_interleaved_are_two_steps_on(on_four: dict[str, Answer]) -> None:
    answer = on_four["interleaved"]
    check_kept(answer)
    half = PAGES // 2
    assert (answer.pages("before", "even"), answer.pages("before", "odd")) == ({0: half}, {1: half})
    assert (answer.pages("after", "even"), answer.pages("after", "odd")) == ({2: half}, {3: half})
    assert answer.directions() == {(0, 1): half, (1, 2): PAGES, (2, 3): half}
