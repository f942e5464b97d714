"""What movers and victims leave in a trial is read as values; what is damaged is named."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import driven_run
import pytest
from driven_run import GO_NS, MILLISECOND_NS

from numabench import store
from numabench.errors import ResultError
from numabench.record import (
    Direction,
    Family,
    FamilyPlan,
    Latency,
    LongAccess,
    MoverCall,
    MoverPlan,
    VictimPlan,
    WrongWord,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Trial


def load_trial(tmp_path: Path, **changed: Any) -> Trial:
    (trial,) = store.load(driven_run.write(tmp_path, trials=[driven_run.trial_record(**changed)])).trials
    return trial


def test_movers_and_victims_are_read_as_they_were_written(tmp_path: Path) -> None:
    trial = load_trial(tmp_path)
    first = trial.movers[0]
    assert (first.confirmed, first.left, first.status) == (4000, 96, {"EBUSY": 192, "unset": 0})
    # 200 ms are 190 * 2^20 ns and a rest: the bucket begins at 188 * 2^20, and is 4 * 2^20 wide.
    calls = Latency(200 * MILLISECOND_NS, 200 * MILLISECOND_NS, 800 * MILLISECOND_NS, ((188 << 20, 4),))
    assert first.directions[0] == Direction(0, 1, 2000, 4, 800 * MILLISECOND_NS, calls)
    (victim,) = trial.victims
    assert (victim.accesses, victim.clock_ns, victim.checked, victim.wrong) == (1000, 40, 1000, 0)
    assert victim.longest[0] == LongAccess(GO_NS + 500 * MILLISECOND_NS, 30 * MILLISECOND_NS, 12, is_write=True)
    assert [thread.role for thread in trial.threads] == ["mover", "mover", "victim"]
    assert (trial.unit_bytes, trial.unit_pages) == (4096, 1)


def test_wrong_words_and_the_family_are_read(tmp_path: Path) -> None:
    lost = driven_run.wrong_word(call=None)
    trial = load_trial(tmp_path, wrong_words=[driven_run.wrong_word(), lost], family=driven_run.FAMILY)
    call = MoverCall(0, GO_NS + 400 * MILLISECOND_NS, GO_NS + 505 * MILLISECOND_NS, 0, 1)
    assert trial.wrong_words[0] == WrongWord(
        77, 2, GO_NS + 510 * MILLISECOND_NS, 17 * 4096 + 24, 17, 24, 9, 8, "stale", call
    )
    assert trial.wrong_words[1].call is None
    assert trial.family == Family(15, 3, 2, 15, (1, 2, 3, 4), 15, 120, 30, 20, 1000)


def test_a_mapmax_that_could_not_be_had_is_none(tmp_path: Path) -> None:
    trial = load_trial(tmp_path, family=driven_run.FAMILY | {"mapmax": -1})
    assert trial.family is not None
    assert trial.family.mapmax is None


def test_the_plan_says_how_movers_and_victims_were_to_work(tmp_path: Path) -> None:
    family = {"depth": 3, "fanout": 2, "mover_at": "child", "churn": ["fork", "write"]}
    record = driven_run.run_record(family=family, obstacles={"pinned": 8})
    planned = store.load(driven_run.write(tmp_path, record)).planned
    assert planned.mover == MoverPlan("inside", ("move",), 512, "sequential", "4k", "all", "ping-pong", 1, "private")
    assert planned.victims == VictimPlan(1, "write", "sequential", "target")
    assert (planned.verify, planned.obstacles) == (True, {"pinned": 8})
    assert planned.family == FamilyPlan(3, 2, "child", ("fork", "write"))


def test_a_run_from_before_drivers_has_none_of_it(tmp_path: Path) -> None:
    import synthetic_run

    run = store.load(synthetic_run.write(tmp_path))
    assert (run.planned.mover, run.planned.victims, run.planned.verify, run.planned.obstacles) == (
        None,
        None,
        False,
        {},
    )
    assert (run.trials[0].movers, run.trials[0].victims, run.trials[0].unit_bytes) == ((), (), None)
    assert {thread.role for thread in run.trials[0].threads} == {"worker"}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("movers", [driven_run.mover(0, confirmed=-1)], "movers[0].confirmed"),
        ("movers", [driven_run.mover(0, status={"EBUSY": "many"})], "movers[0].status.EBUSY"),
        ("movers", [driven_run.mover(0, directions=[{"from": 0}])], "movers[0].directions[0].to"),
        ("victims", [driven_run.victim(latency={"min": 1, "max": 2, "sum": 3, "counts": [[1]]})], "latency.counts"),
        ("victims", [driven_run.victim(latency={"min": 1, "max": 9, "sum": 3, "counts": [[5, 1], [1, 1]]})], "counts"),
        ("victims", [driven_run.victim(latency={"min": 1, "max": 2, "sum": 3, "counts": [[1, 1], [9, 1]]})], "counts"),
        ("wrong_words", [driven_run.wrong_word(kind=3)], "wrong_words[0].kind"),
        ("family", driven_run.FAMILY | {"chain": [1, -2]}, "family.chain"),
        ("workload", {"page_bytes": 4096, "driver": {"unit_bytes": 5000}}, "workload.driver.unit_bytes"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, key: str, value: Any, told: str) -> None:
    path = driven_run.write(tmp_path)
    file = path / "trials/0001/trial.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(ResultError, match=re.escape(told)):
        store.load(path)
