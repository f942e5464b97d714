"""One command in two boots: the same kernel, once with a parameter that the guest's own kernel tells of."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from numabench import process, store

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.lab.kernels import Kernel

pytestmark = pytest.mark.lab


def test_two_boots_leave_two_runs_that_differ_by_what_they_were_booted_with(kernel_6_1: Kernel, tmp_path: Path) -> None:
    name = kernel_6_1.name
    words = ("run", "pingpong", "--nodes", "2", "--size", "4M", "--loops", "2", "--batch", "64", "--repeats", "1")
    boots = ("--boots", "1", "--kernel", name, "--kernel", f"{name} numa_balancing=disable")
    argv = [sys.executable, "-m", "numabench", *words, *boots, "--results", str(tmp_path)]
    ended = process.run(argv, timeout_s=300)
    assert ended.exit_status == 0, ended.stderr
    runs = [store.load(path) for path in store.find_all(tmp_path, "last")]
    assert [run.boot.kernel if run.boot else "" for run in runs] == [name, f"{name} numa_balancing=disable"]
    # What /proc/sys/kernel/numa_balancing held in each guest before the run set it for its movers.
    found = [write.before for run in runs for write in run.knobs if write.name == "kernel.numa_balancing"]
    assert found == ["1", "0"]
    assert len({run.identity["boot_id"] for run in runs}) == 2
    assert [trial.status for run in runs for trial in run.trials] == ["ok", "ok"]
    assert "Too few boots to call anything changed" in " ".join(ended.stdout.split())
    compared = process.run(
        [sys.executable, "-m", "numabench", "diff", "last", "--json", "--results", str(tmp_path)], timeout_s=120
    )
    document = json.loads(compared.stdout)
    lines = next(one for one in document["differences"] if one["key"] == "kernel command line")
    assert "numa_balancing=disable" not in lines["a"]
    assert "numa_balancing=disable" in lines["b"]
    assert {one["verdict"] for one in document["metrics"]} == {"insufficient"}
