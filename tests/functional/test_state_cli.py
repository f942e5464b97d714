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


def killed_run(state: Path, *, boot_id: str, before: str) -> None:
    """A journal as a run leaves it that was killed while swappiness was what it is now."""
    from numabench.host.knob_journal import Journal

    path = "/proc/sys/vm/swappiness"
    now = Path(path).read_text().strip()
    directory = state / "numabench"
    directory.mkdir(parents=True)
    journal = Journal(directory)
    journal.append({"boot_id": boot_id})
    captured = {"name": "vm.swappiness", "path": path, "kind": "file", "before": before, "began": ""}
    journal.append({**captured, "wanted": now, "boot_id": boot_id})
    journal.append({"writing": "vm.swappiness", "wanted": now})


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
