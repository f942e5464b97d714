"""`numabench topology` as a user runs it, compared with sysfs and numactl of this machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from numactl import parse_hardware

from numabench import process
from numabench.idset import parse_ids
from numabench.units import MIB

if TYPE_CHECKING:
    from numabench.process import Completed

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"


def run(*words: str | Path, before: tuple[str, ...] = ()) -> Completed:
    return process.run([*before, sys.executable, "-m", "numabench", "topology", *map(str, words)])


def refused(*words: str | Path) -> str:
    """The message of a command that must fail as a user's mistake fails: one line, no traceback, no answer."""
    done = run(*words)
    assert done.exit_status in {1, 2}
    assert done.stdout == ""
    assert done.stderr.startswith("numabench: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_json_is_what_numactl_says_of_this_machine() -> None:
    shown = json.loads(run("--json").check("topology").stdout)
    seen = parse_hardware(process.run(["numactl", "-H"]).check("numactl").stdout)
    ids = [node["id"] for node in shown["nodes"]]
    assert {node["id"]: parse_ids(node["cpus"]) for node in shown["nodes"]} == seen.cpus
    assert {(a, b): shown["distances"][i][j] for i, a in enumerate(ids) for j, b in enumerate(ids)} == seen.distances


def test_json_is_what_sysfs_says_of_this_machine() -> None:
    shown = json.loads(run("--json").check("topology").stdout)
    for node in shown["nodes"]:
        directory = Path(f"/sys/devices/system/node/node{node['id']}")
        assert node["cpus"] == (directory / "cpulist").read_text().strip()
        assert f"Node {node['id']} MemTotal:" in (directory / "meminfo").read_text()
        assert node["size_bytes"] > MIB
    assert shown["online_cpus"] == Path("/sys/devices/system/cpu/online").read_text().strip()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs 2 CPUs")
def test_the_callers_affinity_is_told_and_warned_of() -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    shown = json.loads(run("--json", before=("taskset", "-c", cpu)).check("topology").stdout)
    assert shown["allowed_cpus"] == cpu
    assert "not allowed to the caller" in run(before=("taskset", "-c", cpu)).check("topology").stdout


def test_a_capture_shows_the_same_text_as_was_shown_when_it_was_made(tmp_path: Path) -> None:
    made = run("--capture", tmp_path / "here.tar.gz").check("capture")
    shown = run("--root", tmp_path / "here.tar.gz").check("root")
    assert made.stdout == shown.stdout
    assert made.stderr == f"numabench: captured to {tmp_path / 'here.tar.gz'}\n"
    assert shown.stderr == ""


def test_another_machines_tree_is_shown_as_json() -> None:
    done = run("--json", "--root", FIXTURES / "4n-ring.tar.xz").check("root")
    assert json.loads(done.stdout) == json.loads((FIXTURES / "4n-ring.json").read_text())


def test_a_picture_goes_to_its_file_and_the_text_to_stdout(tmp_path: Path) -> None:
    done = run("--root", FIXTURES / "8n.tar.xz", "--png", tmp_path / "8n.png").check("png")
    assert (tmp_path / "8n.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.startswith("8 nodes, 8 CPUs")
    assert done.stderr == f"numabench: drawn to {tmp_path / '8n.png'}\n"


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "not.tar").write_text("not a tar file")
    (tmp_path / "empty").mkdir()
    assert "does not exist" in refused("--root", tmp_path / "absent")
    assert "is not a whole tar file" in refused("--root", tmp_path / "not.tar")
    assert "holds neither sys nor proc" in refused("--root", tmp_path / "empty")
    assert "name it FILE.tar" in refused("--capture", tmp_path / "here.zip")
    assert "No such file or directory" in refused("--capture", tmp_path / "absent" / "here.tar")
    assert "No such file or directory" in refused("--png", tmp_path / "absent" / "here.png")


def test_nothing_heavy_is_imported_without_a_picture() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "numabench", "topology"]
    imported = process.run(words).check("topology").stderr
    assert "numabench.host.topology" in imported
    for heavy in ("numpy", "matplotlib", "pandas", "tarfile"):
        assert f" {heavy}\n" not in imported
