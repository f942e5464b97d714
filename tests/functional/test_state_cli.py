"""`numabench state`, and what every command says after a killed run. Nothing here writes a knob."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from numabench import process
from numabench.host import profiles


def numabench(*words: str, state: Path, cwd: Path) -> process.Completed:
    environment = {**os.environ, "NUMABENCH_STATE_DIR": str(state / "numabench"), "COLUMNS": "100"}
    return process.run([sys.executable, "-m", "numabench", *words], env=environment, cwd=cwd)


@pytest.fixture
def here(tmp_path: Path) -> dict[str, Path]:
    return {"state": tmp_path / "state", "cwd": tmp_path}


def test_show_has_the_kernels_own_values(here: dict[str, Path]) -> None:
    told = json.loads(numabench("state", "show", "--json", **here).check("show").stdout)
    for name in ("vm.swappiness", "vm.overcommit_memory", "kernel.randomize_va_space"):
        path = Path(f"/proc/sys/{name.replace('.', '/')}")
        if path.exists():
            assert told["values"][name] == path.read_text().strip()
    text = numabench("state", "show", "--profile", "quiet", **here).check("show").stdout
    assert "vm.swappiness" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_snapshot_differs_from_the_machine_in_what_was_changed(here: dict[str, Path]) -> None:
    told = json.loads(numabench("state", "show", "--json", **here).check("show").stdout)
    told["values"]["vm.swappiness"] = "4321"
    (here["cwd"] / "then.json").write_text(json.dumps(told))
    ended = numabench("state", "diff", "then.json", "--json", **here).check("diff")
    changed = {row["name"]: row["first"] for row in json.loads(ended.stdout)["differences"]}
    assert changed.get("vm.swappiness") == "4321"
    assert set(changed) <= {"vm.swappiness", "kernel.perf_event_max_sample_rate"}


def test_a_dry_run_writes_nothing(here: dict[str, Path]) -> None:
    ended = numabench("state", "apply", "quiet", "--set", "vm.stat_interval=77", "--dry-run", **here).check("apply")
    assert "would set vm.stat_interval: " in ended.stdout
    assert not here["state"].exists()


def test_profiles_are_listed_with_what_they_set(here: dict[str, Path]) -> None:
    text = numabench("state", "profiles", **here).check("profiles").stdout
    for profile in profiles.built_in():
        assert f"{profile.name}: " in text
        assert all(f"  {name} = {value}" in text for name, value in profile.knobs.items())


def killed_run(state: Path, *, boot_id: str, before: str, wrote: str = "") -> None:
    """A journal as a run leaves it that was killed while swappiness was what it is now, or another had set that since.

    It then had made it `wrote`.
    """
    from numabench.host.knob_journal import Journal

    path = "/proc/sys/vm/swappiness"
    now = wrote or Path(path).read_text().strip()
    directory = state / "numabench"
    directory.mkdir(parents=True)
    journal = Journal(directory)
    journal.append({"boot_id": boot_id})
    captured = {"name": "vm.swappiness", "path": path, "kind": "file", "before": before, "began": ""}
    journal.append({**captured, "wanted": now, "boot_id": boot_id})
    journal.append({"writing": "vm.swappiness", "wanted": now})
    journal.append({"wrote": "vm.swappiness", "shown": now, "coupled": {}})


def test_what_restore_would_do_is_what_it_does_with_somebody_elses_value(here: dict[str, Path]) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    now = Path("/proc/sys/vm/swappiness").read_text().strip()
    killed_run(here["state"], boot_id=boot_id, before="4321", wrote="1234")
    dry = numabench("state", "restore", "--dry-run", **here)
    assert (dry.exit_status, f"would leave vm.swappiness at {now}" in dry.stdout) == (4, True)
    forced = numabench("state", "restore", "--force", "--dry-run", **here)
    assert f"would set vm.swappiness: {now} -> 4321" in forced.stdout
    done = numabench("state", "restore", **here)
    assert (done.exit_status, f"foreign vm.swappiness: {now}" in done.stdout) == (4, True)
    again = numabench("state", "restore", **here)
    assert again.exit_status == 0
    assert f"vm.swappiness is {now}, somebody else's; numabench state restore --force makes it 4321" in again.stdout
    forced = numabench("state", "restore", "--force", "--dry-run", **here)
    assert f"would set vm.swappiness: {now} -> 4321" in forced.stdout


def test_nothing_is_planned_while_a_run_lives(here: dict[str, Path]) -> None:
    from numabench.host.knob_journal import locked

    killed_run(here["state"], boot_id="", before="4321")
    with locked(here["state"] / "numabench"):
        for words in (("restore", "--dry-run"), ("restore",), ("apply", "--dry-run")):
            ended = numabench("state", *words, **here)
            assert (ended.exit_status, "another numabench" in ended.stderr) == (4, True), words
            assert "--no-tune" not in ended.stderr


def test_a_damaged_journal_is_told_by_every_command(here: dict[str, Path]) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    killed_run(here["state"], boot_id=boot_id, before="4321", wrote="1234")
    journal = here["state"] / "numabench/knobs.journal"
    journal.write_bytes(b"X" + journal.read_bytes()[1:])
    assert "has left journal at damaged (was whole)" in numabench("workloads", **here).stderr
    assert "journal is damaged" in numabench("state", "show", **here).check("show").stdout


def test_what_would_be_set_is_said_in_words_of_its_own_and_refused_as_it_would_be(here: dict[str, Path]) -> None:
    own = here["cwd"] / "own.toml"
    own.write_text('inherits = "none"\n[knobs]\nvm.swappiness = "1\\u001b[31m"\n')
    now = Path("/proc/sys/vm/swappiness").read_text().strip()
    ended = numabench("state", "apply", "none", "--set", f"vm.swappiness={now}", "--dry-run", **here)
    assert f"vm.swappiness is {now} already: it would not be written" in ended.stdout
    ended = numabench("state", "apply", str(own), "--set", "node77-hugepages-2048kB=1", "--dry-run", **here)
    assert ended.exit_status == 4
    assert "cannot set hugetlb.node77-hugepages-2048kB to 1: this kernel has no /sys" in ended.stdout
    assert ("\x1b" in ended.stdout, "\\x1b[31m" in ended.stdout) == (False, True)


def test_one_who_may_not_write_knobs_is_told_so_beforehand(here: dict[str, Path]) -> None:
    program = (
        "import os, sys\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
        "os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
    )
    argv = [sys.executable, "-c", program, "numabench", "state", "apply", "none", "--set", "vm.swappiness=4"]
    package = str(Path(profiles.__file__).parents[2])
    environment = {**os.environ, "NUMABENCH_STATE_DIR": "/proc/nothing", "PYTHONPATH": package}
    for words in ((), ("--dry-run",)):
        ended = process.run([*argv, *words], env=environment, cwd=Path("/"))
        assert (ended.exit_status, "Permission denied (run as root)" in ended.stdout) == (4, True), ended.stderr


def test_a_value_that_is_no_text_is_refused(here: dict[str, Path]) -> None:
    """As the shell hands on a byte that is not UTF-8."""
    script = f"{sys.executable} -m numabench state apply none --set vm.stat_interval=$(printf '\\377')"
    environment = {**os.environ, "NUMABENCH_STATE_DIR": str(here["state"])}
    ended = process.run(["sh", "-c", script], env=environment, cwd=here["cwd"])
    assert (ended.exit_status, "is not NAME=VALUE" in ended.stderr) == (2, True), ended.stderr


def test_a_run_says_before_what_it_would_set(here: dict[str, Path]) -> None:
    words = ("run", "numa02", "--nodes", "1", "--native", "--dry-run", "--profile", "own.toml")
    now = Path("/proc/sys/vm/swappiness").read_text().strip()
    (here["cwd"] / "own.toml").write_text(f'inherits = "none"\n[knobs]\nvm.swappiness = "{now}"\n')
    ended = numabench(*words, **here).check("the dry run")
    assert f"vm.swappiness is {now} already: it would not be written" in ended.stdout
    assert "would run 3 trials of numa02 on nodes 0" in ended.stdout
    assert [path.name for path in here["cwd"].iterdir()] == ["own.toml"]


def test_quiet_shows_that_it_drops_page_cache(here: dict[str, Path]) -> None:
    told = json.loads(numabench("state", "show", "--profile", "quiet", "--json", **here).check("show").stdout)
    (row,) = [row for row in told["rows"] if row["name"] == "vm.drop_caches"]
    assert (row["differs"], row["wanted"]) == (Path("/proc/sys/vm/drop_caches").exists(), "1")
    assert "vm.drop_caches" not in told["values"]


def test_the_callers_limits_are_shown(here: dict[str, Path]) -> None:
    told = json.loads(numabench("state", "show", "--json", **here).check("show").stdout)
    assert {"cgroup.memory", "cgroup.cpus", "cgroup.tasks"} < set(told["values"])


def test_every_command_tells_what_a_killed_run_has_left(here: dict[str, Path]) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    killed_run(here["state"], boot_id=boot_id, before="4321")
    line = "a run that was killed has left vm.swappiness at "
    for words in (("workloads",), ("list", "--results", "."), ("report", "nothing")):
        told = numabench(*words, **here).stderr
        assert line in told
        assert "(was 4321); put it back with: numabench state restore" in told
    shown = numabench("state", "show", **here).check("show")
    assert (line in shown.stderr, "it was 4321" in shown.stdout) == (False, True)
    dry = numabench("state", "restore", "--dry-run", **here).check("restore")
    assert "would set vm.swappiness: " in dry.stdout


def test_a_journal_of_an_earlier_boot_is_forgotten(here: dict[str, Path]) -> None:
    killed_run(here["state"], boot_id="another", before="4321")
    assert numabench("workloads", **here).stderr == ""
    ended = numabench("state", "restore", **here).check("restore")
    assert "discarded vm.swappiness: 4321" in ended.stdout
    assert "nothing is altered" in numabench("state", "restore", **here).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("apply", "loud"), "there is no profile 'loud'"),
        (("apply", "--set", "vm.swappiness"), "--set 'vm.swappiness' is not NAME=VALUE"),
        (("apply", "--set", "vm.swapiness=1"), "did you mean vm.swappiness?"),
        (("apply", "--set", "cpu.smt=off"), "cpu.smt is shown and never set"),
        (("diff", "nothing.json"), "nothing.json"),
        (("diff", "rubbish.json"), "rubbish.json is not JSON"),
        (("diff", "list.json"), "list.json holds no state"),
        (("show", "--profile", "rubbish.json"), "there is no profile"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(here: dict[str, Path], words: tuple[str, ...], message: str) -> None:
    (here["cwd"] / "rubbish.json").write_bytes(b"\xff\x00{")
    (here["cwd"] / "list.json").write_text("[1]")
    ended = numabench("state", *words, **here)
    assert (ended.exit_status, "Traceback" in ended.stderr) == (2, False)
    assert message in ended.stderr
