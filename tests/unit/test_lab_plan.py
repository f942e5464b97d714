"""A lab's plan: what is wrong with it is told all at once, with line, key, what was expected and what was meant."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.cli.run_words import run_words
from numabench.errors import UsageError
from numabench.fleet import plan
from numabench.fleet.toml_lines import key_lines

GOOD = """\
[lab]
name = "cellar"
directory = "measured"
keep_nights = 400
keep_recordings = 30

[night]
budget = "8h"
deadline = 07:00:00
boots = 4
repeats = 5
seed = 7

[kernels.mainline]
cached = "6.12"
parameters = ["numa_balancing=disable"]

[kernels.patched]
build = { source = "debian:6.12", patch = ["anon-vma-excl-6.12"] }

[kernels.now]
running = true

[machines.two]
guest = { nodes = 2, memory_per_node = "512M" }

[machines.box]
here = true

[[experiment]]
name = "batches"
workload = "pingpong"
options = { nodes = 2, batch = [8, 64], driver = "move_pages", move-all = true }
machines = ["two"]
priority = 80
aa = true

[[experiment]]
name = "own"
program = ["./mine", "--quick"]
options.nodes = 1
machines = "box"
repeats = 9
"""


def read(tmp_path: Path, text: str) -> plan.LabPlan:
    file = tmp_path / "lab.toml"
    file.write_text(text)
    return plan.read(file, run_words())


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text)
    lines = refused.value.message.splitlines()[1:]
    assert all(line.startswith(f"  {tmp_path}/lab.toml:") for line in lines), refused.value.message
    return [line.removeprefix(f"  {tmp_path}/lab.toml:") for line in lines]


def test_a_plan_is_read_whole(tmp_path: Path) -> None:
    lab = read(tmp_path, GOOD)
    assert (lab.name, lab.directory) == ("cellar", tmp_path / "measured")
    assert lab.retention == plan.Retention(nights=400, recordings=30)
    assert lab.night == plan.NightRules(8 * 3600.0, "07:00", boots=4, repeats=5, attempts=3, seed=7)
    assert lab.kernels["mainline"] == plan.KernelPlan(
        "mainline", plan.CACHED, "6.12", parameters=("numa_balancing=disable",)
    )
    assert lab.kernels["patched"].patches == ("anon-vma-excl-6.12",)
    assert lab.machines["two"] == plan.MachinePlan("two", plan.GUEST, "2n", 1, 512 * 2**20)
    batches, own = lab.experiments
    assert [setting.words for setting in batches.settings] == [
        ("run", "pingpong", "--batch", size, "--driver", "move_pages", "--move-all", "--nodes", "2")
        for size in ("8", "64")
    ]
    assert [setting.values for setting in batches.settings] == [("8",), ("64",)]
    assert (batches.boots, batches.repeats, batches.priority, batches.is_aa) == (4, 5, 80, True)
    assert own.words == (("run", "--nodes", "1", "--", "./mine", "--quick"),)
    assert (own.machines, own.kernels, own.repeats) == (("box",), ("mainline", "patched", "now"), 9)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[lab]", "[lap]", "1: lap: there is no such key; did you mean 'lab'?"),
        ('budget = "8h"', 'budget = "8 hours"', "8: night.budget: '8 hours' is not a duration"),
        ("deadline = 07:00:00", 'deadline = "25:00"', "9: night.deadline: '25:00' is not a time of day"),
        ("boots = 4", "boots = 0", "10: night.boots: 0 is not an integer from 1 to 100"),
        ("boots = 4", "boots = true", "10: night.boots: true is not an integer from 1 to 100"),
        ("seed = 7", "sead = 7", "12: night.sead: there is no such key; did you mean 'seed'?"),
        ('cached = "6.12"', 'cashed = "6.12"', "14: kernels.mainline: it says nothing of what it is: one of running,"),
        (
            'cached = "6.12"',
            'cached = "6.12"\npackage = "debian:sid"',
            "15: kernels.mainline.cached: package and cached",
        ),
        ('cached = "6.12"', "cached = 6.12", "15: kernels.mainline.cached: 6.12 is not a name as"),
        ("numa_balancing=disable", "root=/dev/sda", "16: kernels.mainline.parameters: the kernel parameter 'root' is"),
        ('source = "debian:6.12", ', "", "19: kernels.patched.build.source: it is missing: a source's directory"),
        ("running = true", "running = false", "22: kernels.now.running: true is expected"),
        ("[kernels.now]", "[kernels.now-aa]", "21: kernels.now-aa: a kernel's name does not end with -aa"),
        ("[kernels.now]", '[kernels."no w"]', "21: kernels.no w: 'no w' cannot be a name of this kernel"),
        (
            "{ nodes = 2, memory",
            "{ nods = 2, memory",
            "25: machines.two.guest.nods: there is no such key; did you mean 'nodes'",
        ),
        ('"512M"', '"64M"', "25: machines.two.guest.memory_per_node: a guest's node cannot have"),
        ('"512M"', '"lots"', "25: machines.two.guest.memory_per_node: 'lots' is not a size"),
        (
            "here = true",
            'here = true\nreboot = "grup"',
            "29: machines.box.reboot: 'grup' is no way to boot another kernel",
        ),
        (
            "[[experiment]]",
            "[machines.again]\nhere = true\n[[experiment]]",
            "30: machines.again.here: this machine is machines.box already",
        ),
        ('name = "batches"', "", "30: experiment 1.name: it is missing"),
        (
            'name = "own"',
            'name = "batches"',
            "39: experiment 'batches'.name: there is an experiment of that name already",
        ),
        ('"pingpong"', '"pingpog"', "32: experiment 'batches'.workload: there is no workload 'pingpog'; did you mean"),
        (
            "batch = [8, 64]",
            "bach = [8, 64]",
            "33: experiment 'batches'.options.bach: `numabench run` has no option --bach",
        ),
        ("batch = [8, 64]", "batch = []", "33: experiment 'batches'.options.batch: the list is empty"),
        ("batch = [8, 64]", "batch = [8, 8]", "33: experiment 'batches'.options.batch: a value is there twice"),
        ("batch = [8, 64]", 'batch = ["x"]', "33: experiment 'batches'.options.batch: --batch cannot be 'x'"),
        ("batch = [8, 64]", "batch = [true]", "33: experiment 'batches'.options.batch: True is not a text or a number"),
        ("move-all = true", "move-all = 1", "33: experiment 'batches'.options.move-all: 1 is not true or false"),
        ("move-all = true", "seed = 1", "33: experiment 'batches'.options.seed: --seed is not an experiment's"),
        (
            "{ nodes = 2, batch",
            "{ nodes = 4, batch",
            "33: experiment 'batches'.options.nodes: 4 nodes are asked for and",
        ),
        ('"move_pages"', '"move_page"', "33: experiment 'batches'.options"),
        (
            'machines = ["two"]',
            'machines = ["tow"]',
            "34: experiment 'batches'.machines: there is none called 'tow'; did",
        ),
        ("priority = 80", "priority = 101", "35: experiment 'batches'.priority: 101 is not an integer from 0 to 100"),
        ("aa = true", 'aa = "yes"', "36: experiment 'batches'.aa: 'yes' is not true or false"),
        (
            'machines = "box"',
            'machines = "box"\nkernels = ["patched"]',
            "43: experiment 'own'.kernels: kernel 'patched' is build",
        ),
        (
            'machines = "box"',
            'machines = "box"\nboots = 2',
            "43: experiment 'own'.boots: machine 'box' is not booted for",
        ),
        ("repeats = 9", "repats = 9", "43: experiment 'own'.repats: there is no such key; did you mean 'repeats'?"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_its_key(before: str, after: str, told: str, tmp_path: Path) -> None:
    assert before in GOOD
    found = problems(tmp_path, GOOD.replace(before, after, 1))
    assert any(problem.startswith(told) for problem in found), found


def test_all_mistakes_are_told_at_once_by_line(tmp_path: Path) -> None:
    text = GOOD.replace("boots = 4", "boots = -1").replace('"pingpong"', '"ping"').replace("repeats = 9", "repeats = 0")
    assert [int(problem.partition(":")[0]) for problem in problems(tmp_path, text)] == [10, 32, 43]


def test_what_is_no_toml_or_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lab.toml is not TOML: .*line 2"):
        read(tmp_path, "[lab]\nname =\n")
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        plan.read(tmp_path / "absent.toml", run_words())
    (tmp_path / "lab.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"not UTF-8 at byte 0"):
        plan.read(tmp_path / "lab.toml", run_words())


def test_an_empty_plan_says_what_is_expected(tmp_path: Path) -> None:
    told = "\n".join(problems(tmp_path, ""))
    assert ":0:" not in told
    assert re.search(r"kernels: there is none: \[kernels.NAME\] with one of running, ", told)
    assert re.search(r"machines: there is none: \[machines.NAME\] with one of here, ", told)
    assert "experiment: there is none: [[experiment]] with a name and a workload is expected" in told


def test_the_same_measured_twice_is_told(tmp_path: Path) -> None:
    again = GOOD[GOOD.index('[[experiment]]\nname = "own"') :].replace('"own"', '"again"')
    (told,) = problems(tmp_path, GOOD + again)
    assert told == (
        "44: experiment 'again': experiment 'own' measures "
        "`numabench run --nodes 1 -- ./mine --quick` on box and now, too"
    )


def test_a_boot_loader_needs_the_name_that_it_has_for_the_kernel(tmp_path: Path) -> None:
    text = GOOD.replace("here = true", 'here = true\nreboot = "grub"').replace(
        "running = true", 'installed = "6.1.0-9"'
    )
    (told,) = problems(tmp_path, text)
    assert told.startswith("21: kernels.now.entry: it is missing: what grub of machine 'box' calls this kernel")


def test_the_plan_in_the_documentation_can_be_meant(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "nightly.md"
    text, alert = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    lab = read(tmp_path, text)
    assert lab.alert.webhook
    assert read(tmp_path, re.sub(r"\[alert\].*?\n\n", f"{alert}\n", text, flags=re.DOTALL)).alert.command
    assert [len(experiment.settings) for experiment in lab.experiments] == [3, 1]
    assert (lab.kernels["stable"].kind, lab.machines["vm"].shape) == (plan.PACKAGE, "2n")


NAMES = st.text("abc", min_size=1, max_size=2)
VALUES = st.sampled_from(["1", '"x = 1"', "[\n  1,\n  2,\n]", '"""\nq = 1\n[t]\n"""', "{ a = 1 }", "true # a = 2"])


@given(tables=st.lists(st.tuples(NAMES, st.booleans(), st.dictionaries(NAMES, VALUES, max_size=3)), max_size=5))
def test_every_key_is_found_on_its_line(tables: list[tuple[str, bool, dict[str, str]]]) -> None:
    lines: list[str] = []
    expected: dict[tuple[str | int, ...], int] = {}
    lists = {name for name, is_list, _ in tables if is_list}
    seen: dict[str, int] = {}
    for name, _, values in tables:
        if name not in lists and name in seen:
            continue
        place = seen[name] = seen.get(name, -1) + 1
        lines.append(f"[[{name}]]" if name in lists else f"[{name}]")
        path: tuple[str | int, ...] = (name, place) if name in lists else (name,)
        expected[path] = len(lines)
        for key, value in values.items():
            expected[*path, key] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    assert key_lines(text, tomllib.loads(text)) == expected
