"""The doctor on this machine, against what others say of it: numactl, free, getpcaps, the kernel's own symbols."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from numactl import parse_hardware

from numabench import process
from numabench.doctor.context import Context, Needs, look
from numabench.doctor.diagnosis import examine
from numabench.doctor.sample import read, take
from numabench.host import topology
from numabench.host.root import LIVE
from numabench.observe import kernel_symbols

CHECKOUT = Path(__file__).parents[2]
# Fails what opens a file for writing, makes or removes one, starts a program, or asks a name server.
GUARD = """
import os, sys
def guard(event, given):
    if event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        raise RuntimeError(f"opened for writing: {given[0]}")
    if event in {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.truncate", "os.fork", "os.exec",
                 "os.posix_spawn", "subprocess.Popen", "os.kill", "socket.connect", "os.setxattr"}:
        raise RuntimeError(f"{event} {given}")
sys.addaudithook(guard)
sys.dont_write_bytecode = True
from numabench.cli.app import main
main()
"""


@pytest.fixture(scope="module")
def here() -> Context:
    return look(Needs(), topology.read(), take(LIVE, 0.05))


def test_usable_nodes_are_those_that_numactl_sees(here: Context) -> None:
    asked = process.find_program("numactl")
    if asked is None:
        pytest.skip("numactl is not installed")
    seen = parse_hardware(process.run([asked, "-H"]).check("numactl").stdout)
    assert {node.id for node in here.usable_nodes} == {node for node, size in seen.size_mib.items() if size}


def test_swap_is_what_free_says(here: Context) -> None:
    asked = process.find_program("free")
    if asked is None:
        pytest.skip("free is not installed")
    shown = process.run([asked, "--bytes"]).check("free").stdout
    total = int(re.search(r"^Swap:\s+(\d+)", shown, re.MULTILINE)[1])  # type: ignore[index]
    assert ("swap-on" in {finding.code for finding in examine(here).findings}) is bool(total)


def test_capabilities_are_those_that_getpcaps_names(here: Context) -> None:
    asked = process.find_program("getpcaps")
    if asked is None:
        pytest.skip("getpcaps is not installed")
    told = process.run([asked, str(os.getpid())])
    # `=ep` is all of them; else those named, of which a minus takes away.
    text = (told.stdout + told.stderr).partition(":")[2].strip()
    has_all = text.startswith("=ep")
    for number, name in ((23, "cap_sys_nice"), (21, "cap_sys_admin"), (34, "cap_syslog")):
        named = name in text
        assert here.limits is not None
        assert here.limits.has_capability(number) is ((has_all and not named) or (named and not has_all))


def test_symbols_are_hidden_where_the_rule_says_so(here: Context) -> None:
    codes = {finding.code for finding in examine(here).findings}
    assert ("no-symbols" in codes) is kernel_symbols.are_hidden(kernel_symbols.read())


def test_pressure_is_that_of_the_kernel() -> None:
    before = read(LIVE, 0.0).stalled_us
    files = [Path(f"/proc/pressure/{name}") for name in ("cpu", "memory", "io")]
    after = {file.name: int(file.read_text().splitlines()[0].rpartition("=")[2]) for file in files if file.exists()}
    # It only grows.
    assert before.keys() == after.keys()
    assert all(before[name] <= total_us for name, total_us in after.items())


def test_own_processes_are_seen_with_their_parents() -> None:
    seen = read(LIVE, 0.0).processes
    assert seen[os.getpid()].parent == os.getppid()
    assert seen[os.getpid()].name == Path("/proc/self/comm").read_text().strip()
    # What times(2) tells of us, before or after.
    ticks = os.sysconf("SC_CLK_TCK")
    times = os.times()
    assert seen[os.getpid()].ticks <= round((times.user + times.system) * ticks) + 1


def doctor(*words: str, **environment: str) -> process.Completed:
    return process.run(
        [sys.executable, "-c", GUARD, "doctor", *words], env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment}
    )


def test_the_command_writes_nothing_and_starts_nothing() -> None:
    ended = doctor("--json")
    shown: dict[str, Any] = json.loads(ended.stdout)
    assert (ended.exit_status, ended.stderr) == (4 if shown["status"] == "blocked" else 0, "")
    assert shown["kind"] == "numabench-doctor"
    assert {finding["weight"] for finding in shown["findings"]} <= {"blocks", "biases", "informs"}
    assert "nodes" in {each["subject"] for each in (*shown["findings"], *shown["fine"])}


def test_more_nodes_than_there_are_block_where_no_guest_can_run() -> None:
    ended = doctor("--nodes", "60-63", PATH="/nonexistent")
    assert ended.exit_status == 4
    first = ended.stdout.splitlines()[0]
    assert first.startswith("blocked: too-few-nodes")
    assert "qemu-system-x86_64 is not installed" in " ".join(ended.stdout.split())


@pytest.mark.parametrize(
    ("nodes", "target", "code"), [("9999", "numa02", "too-few-nodes"), ("1", "pingpong", "one-node")]
)
def test_what_a_run_refuses_is_blocked(nodes: str, target: str, code: str, tmp_path: Path) -> None:
    told = doctor("--nodes", nodes, "--for", target, "--json")
    assert told.exit_status == 4
    assert code in {each["code"] for each in json.loads(told.stdout)["findings"] if each["weight"] == "blocks"}
    words = [sys.executable, "-m", "numabench", "run", target, "--nodes", nodes, "--results", str(tmp_path)]
    ended = process.run(words, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    assert ended.exit_status in {2, 77}


HIDDEN = "mount -t tmpfs none /proc/sys && exec "


def test_a_hidden_proc_sys_is_told_and_ends_nothing() -> None:
    if os.geteuid():
        pytest.skip("only root may mount")
    words = [sys.executable, "-m", "numabench", "doctor", "--json"]
    ended = process.run(
        ["unshare", "-m", "sh", "-c", HIDDEN + " ".join(words)], env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    told = {each["code"]: each["cause"] for each in json.loads(ended.stdout)["findings"]}
    assert "/proc/sys/vm/swappiness does not exist" in told["knobs-not-writable"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--for", "numa02/mbind"], "take pingpong"),
        (["--for", "numa2"], "did you mean numa02?"),
        (["--for", "pingpong/mbnd"], "did you mean mbind?"),
        (["--for", "/"], "there is no workload ''"),
        (["--nodes", "0"], "ask for at least 1"),
        (["--nodes", "x"], "x"),
    ],
)
def test_what_cannot_be_meant_is_a_mistake_and_told(words: list[str], told: str) -> None:
    ended = doctor(*words)
    assert ended.exit_status == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
