"""`numabench drivers`, as it is typed."""

from __future__ import annotations

import json
import sys

from numabench import process
from numabench.drivers import catalog


def drivers(*words: str) -> str:
    return process.run([sys.executable, "-m", "numabench", "drivers", *words]).check("numabench drivers").stdout


def test_every_driver_is_listed_within_100_columns() -> None:
    lines = drivers().splitlines()
    listed = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert listed == [driver.name for driver in catalog.DRIVERS]
    assert max(map(len, lines)) <= 100


def test_json_and_text_agree_on_what_can_be_used_here() -> None:
    shown = json.loads(drivers("--json"))
    assert [row["name"] for row in shown] == [driver.name for driver in catalog.DRIVERS]
    assert drivers().count("not here: ") == sum(len(row["reasons"]) for row in shown)
    assert all(row["runs_here"] == (not row["reasons"]) for row in shown)
    (null,) = [row for row in shown if row["name"] == "null"]
    assert null["runs_here"]
