"""`numabench topology` in a guest with two nodes, compared with the guest's own sysfs and numactl."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from numactl import parse_hardware

from numabench.host import topology
from numabench.host.capture import open_tree
from numabench.idset import parse_ids
from numabench.units import KIB, MIB

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "numabench", "topology")


def run(guest: Guest, *argv: str) -> str:
    return guest.run(argv, cwd=CHECKOUT).check(argv[0]).stdout


def shown_in(guest: Guest) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run(guest, *COMMAND, "--json"))
    return shown


def test_nodes_cpus_sizes_and_distances_are_those_numactl_sees(guest_2n: Guest) -> None:
    shown = shown_in(guest_2n)
    seen = parse_hardware(run(guest_2n, "numactl", "-H"))
    ids = [node["id"] for node in shown["nodes"]]
    assert ids == [0, 1]
    assert {node["id"]: parse_ids(node["cpus"]) for node in shown["nodes"]} == seen.cpus
    assert {node["id"]: node["size_bytes"] // MIB for node in shown["nodes"]} == seen.size_mib
    assert {(a, b): shown["distances"][i][j] for i, a in enumerate(ids) for j, b in enumerate(ids)} == seen.distances


def test_every_value_is_the_guests_sysfs(guest_2n: Guest) -> None:
    shown = shown_in(guest_2n)
    nodes, cpus = "/sys/devices/system/node", "/sys/devices/system/cpu"
    for name, ids in shown["node_masks"].items():
        assert ids == run(guest_2n, "cat", f"{nodes}/{name}").strip()
    for name in ("online", "present", "possible"):
        assert shown[f"{name}_cpus"] == run(guest_2n, "cat", f"{cpus}/{name}").strip()
    for index, node in enumerate(shown["nodes"]):
        directory = f"{nodes}/node{node['id']}"
        assert node["cpus"] == run(guest_2n, "cat", f"{directory}/cpulist").strip()
        assert shown["distances"][index] == [
            int(word) for word in run(guest_2n, "cat", f"{directory}/distance").split()
        ]
        meminfo = run(guest_2n, "cat", f"{directory}/meminfo")
        total = next(line for line in meminfo.splitlines() if "MemTotal:" in line)
        assert node["size_bytes"] == int(total.split()[-2]) * KIB
    status = run(guest_2n, "cat", "/proc/self/status")
    assert f"Cpus_allowed_list:\t{shown['allowed_cpus']}\n" in status
    assert f"Mems_allowed_list:\t{shown['allowed_nodes']}\n" in status


def test_a_guests_captured_tree_is_the_guest_on_the_host(guest_2n: Guest, guest_dir: Path) -> None:
    path = guest_dir / "guest.tar.gz"
    in_guest = json.loads(run(guest_2n, *COMMAND, "--json", "--capture", str(path)))
    with open_tree(path) as root:
        assert topology.read(root) == topology.from_json(in_guest)


def test_a_processors_affinity_limits_what_is_allowed(guest_2n: Guest) -> None:
    shown = json.loads(run(guest_2n, "taskset", "-c", "1", *COMMAND, "--json"))
    assert (shown["allowed_cpus"], shown["online_cpus"]) == ("1", "0-1")
