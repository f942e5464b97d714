"""perf stat's CSV, as perf 6.1 wrote it, and what is none."""

from __future__ import annotations

import pytest

from numabench import process
from numabench.perf import PerfDataError
from numabench.perf.stat import Counted, parse

# perf 6.1.187: perf stat -a -x, -e node-loads,sched:sched_switch,cpu-clock -- sleep 0.1, on a machine without a PMU.
WRITTEN = """\
# started on Tue Nov 24 23:05:00 2026

<not supported>,,node-loads,0,100.00,,
243,,sched:sched_switch,201823938,100.00,1.204,K/sec
201.78,msec,cpu-clock,201781434,100.00,2.000,CPUs utilized
"""


def test_what_perf_wrote_is_read() -> None:
    assert parse(WRITTEN) == (
        Counted("node-loads", None, 1.0),
        Counted("sched:sched_switch", 243, 1.0),
        Counted("cpu-clock", 202, 1.0),
    )


def test_a_multiplexed_count_says_for_how_long_it_was_counted() -> None:
    (found,) = parse("1234,,numabench_1:rmap_walk_anon,1000,25.00,,\n")
    assert found == Counted("numabench_1:rmap_walk_anon", 1234, 0.25)


def test_events_of_a_pmu_may_hold_commas() -> None:
    (found,) = parse("77,,uncore_upi_0/event=0x2,umask=0xf/,1000,100.00,,\n")
    assert found.event == "uncore_upi_0/event=0x2,umask=0xf/"
    (found,) = parse("77,,cpu_core/node-loads/,1000,100.00,,\n")
    assert found.event == "cpu_core/node-loads/"


def test_derived_metrics_on_lines_of_their_own_are_no_events() -> None:
    assert [row.event for row in parse("10,,dTLB-loads,1000,100.00,,\n,,,,,0.42,insn per cycle\n")] == ["dTLB-loads"]


@pytest.mark.parametrize(
    "line",
    [
        "rubbish",
        "1_0,,event,1,100.00,,",
        "12,,event",
        "12,,event,1000,often,,",
        "-3,,event,1,100.00,,",
        "12,,,1,100.00",
        "nan,,event,1,100.00,,",
    ],
)
def test_what_is_no_count_is_named(line: str) -> None:
    with pytest.raises(PerfDataError, match="line 1"):
        parse(line + "\n")


def test_perf_here_writes_what_is_read() -> None:
    ended = process.run(["perf", "stat", "-x,", "-e", "task-clock,page-faults,node-loads", "--", "true"])
    found = {row.event: row for row in parse(ended.check("perf stat").stderr)}
    assert set(found) == {"task-clock", "page-faults", "node-loads"}
    assert (found["page-faults"].count or 0) > 10
