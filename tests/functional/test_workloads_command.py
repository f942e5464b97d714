"""`numabench workloads`, as it is typed."""

from __future__ import annotations

import json
import sys

from numabench import process
from numabench.workload import catalog


def workloads(*words: str) -> str:
    return process.run([sys.executable, "-m", "numabench", "workloads", *words]).check("numabench workloads").stdout


def test_every_workload_is_listed_within_100_columns() -> None:
    lines = workloads().splitlines()
    listed = [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")]
    assert listed[: len(catalog.WORKLOADS)] == [spec.name for spec in catalog.WORKLOADS]
    assert max(map(len, lines)) <= 100


def test_json_and_table_agree_on_what_can_run_here() -> None:
    shown = json.loads(workloads("--json"))
    assert [row["name"] for row in shown] == [spec.name for spec in catalog.WORKLOADS]
    text = workloads()
    for row in shown:
        assert row["runs_here"] == (not row["reasons"])
    assert ("Cannot run on this machine itself" in text) == any(row["reasons"] for row in shown)
