"""What speaks against a driven run, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import driven_run
import pytest
import synthetic_run

from numabench import store
from numabench.analysis import migration
from numabench.analysis.finding import BIASES, INFORMS, INVALID
from numabench.analysis.missing import Missing
from numabench.analysis.summary import summarize
from numabench.analysis.verdict import judge

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.analysis.finding import Finding
    from numabench.record import Run

# One mover that moves everything, as the kernel counts it.
CLEAN = {"movers": [driven_run.mover(0), driven_run.mover(1)]}
CLEAN_PAGES = 4 * driven_run.SLICE_PAGES


def driven(tmp_path: Path, record: dict[str, Any] | None = None, **changed: Any) -> Run:
    return store.load(driven_run.write(tmp_path, record, [driven_run.trial_record(**changed)]))


def counted(total: int, **counters: int) -> dict[str, Any]:
    """Counters of a trial in which the kernel counted so many pages."""
    trial = driven_run.trial_record()["counters"]
    trial["after"]["vmstat"] |= {"pgmigrate_success": 5000 + total, **counters}
    return {"counters": trial}


def clean(tmp_path: Path, record: dict[str, Any] | None = None, **changed: Any) -> Run:
    return driven(tmp_path, record, **(CLEAN | counted(CLEAN_PAGES) | changed))


def finding(run: Run, code: str) -> Finding:
    (found,) = [each for each in judge(run).findings if each.code == code]
    return found


def codes(run: Run) -> list[str]:
    return [each.code for each in judge(run).findings if each.code != "few-repeats"]


def test_a_ping_pong_that_ends_where_it_began_is_valid(tmp_path: Path) -> None:
    assert codes(clean(tmp_path)) == []


def test_confirmed_pages_are_gross_and_net_ones_are_told_beside(tmp_path: Path) -> None:
    run = driven(tmp_path)
    counts = migration.counts(run, run.trials[0])
    assert (counts.requested, counts.confirmed, counts.net) == (8192, 8096, 0)
    assert counts.confirmed_bytes == 8096 * 4096
    assert counts.disagreement is None


def test_the_rate_is_the_movers_and_not_that_of_the_samples(tmp_path: Path) -> None:
    run = driven(tmp_path)
    (placement,) = summarize(run).placements
    assert placement.mb_per_s is not None
    assert placement.mb_per_s.median == pytest.approx(6096 * 4096 / 1e6)
    assert isinstance(migration.throughput(run, run.trials[0]), Missing)


def test_pages_left_are_told_with_their_statuses(tmp_path: Path) -> None:
    found = finding(driven(tmp_path), "partial-migration")
    assert found.weight == BIASES
    assert found.cause == "96 of 8,192 pages were not on their target in the end; statuses EBUSY 192"


def test_pages_left_behind_obstacles_that_were_laid_are_to_know(tmp_path: Path) -> None:
    run = driven(tmp_path, driven_run.run_record(obstacles={"pinned": 48}))
    assert finding(run, "partial-migration").weight == INFORMS
    assert judge(run).is_valid


def test_calls_that_failed_are_told(tmp_path: Path) -> None:
    movers = [driven_run.mover(0, call_errors={"ENOMEM": 3})]
    assert finding(driven(tmp_path, movers=movers), "partial-migration").cause.endswith("calls failed with ENOMEM 3")


def test_movers_that_moved_nothing_make_a_run_invalid(tmp_path: Path) -> None:
    still = driven_run.mover(0, confirmed=0, left=4096, status={"EACCES": 4096}, directions=[])
    found = finding(driven(tmp_path, movers=[still], **counted(0)), "nothing-migrated")
    assert found.weight == INVALID
    assert found.cause == "of 4,096 pages asked for none was found on its target: EACCES 4,096"


def test_the_baseline_moves_nothing_and_is_valid(tmp_path: Path) -> None:
    still = driven_run.mover(0, confirmed=0, left=4096, directions=[])
    run = driven(tmp_path, driven_run.run_record("null"), movers=[still], **counted(0))
    assert codes(run) == []
    assert judge(run).is_valid


def test_a_lost_write_makes_a_run_invalid_and_names_everything_about_it(tmp_path: Path) -> None:
    words = [driven_run.wrong_word(t_ns=driven_run.GO_NS + 600_000_000, page=3), driven_run.wrong_word()]
    run = driven(tmp_path, status="workload-failed", message="wrong data", wrong_words=words)
    found = finding(run, "lost-write")
    assert (found.weight, found.trials) == (INVALID, (1,))
    assert found.cause == (
        "page 17, offset 24: 0x9 was stored and 0x8 found, an older value, 0.510000 s after GO; its last move was by "
        "thread 0, node 0 to 1, from 0.400000 s to 0.505000 s (and 1 more)"
    )
    assert not judge(run).is_valid


def test_a_lost_write_during_a_call_says_so_and_one_without_a_call_too(tmp_path: Path) -> None:
    during = driven_run.wrong_word(t_ns=driven_run.GO_NS + 450_000_000)
    run = driven(tmp_path, wrong_words=[during])
    assert finding(run, "lost-write").cause.endswith("from 0.400000 s to 0.505000 s, under way at that moment")
    run = driven(tmp_path / "other", wrong_words=[driven_run.wrong_word(call=None)])
    assert finding(run, "lost-write").cause.endswith("no call had moved the page")


def test_a_lost_write_in_a_call_that_was_not_over_and_after_a_forgotten_one(tmp_path: Path) -> None:
    word = driven_run.wrong_word()
    word["call"]["end_ns"] = 0
    told = finding(driven(tmp_path, wrong_words=[word]), "lost-write").cause
    assert told.endswith("by thread 0, node 0 to 1, since 0.400000 s, under way at that moment")
    word = driven_run.wrong_word(call=None, forgotten=1)
    told = finding(driven(tmp_path / "other", wrong_words=[word]), "lost-write").cause
    assert told.endswith("its last move is not known any more")


@pytest.mark.parametrize(("driver", "found"), [("move_pages", ["balancing-on"]), ("null", ["balancing-on"])])
def test_balancing_beside_another_driver_biases_it(tmp_path: Path, driver: str, found: list[str]) -> None:
    record = driven_run.run_record(driver)
    record["identity"]["knobs"]["kernel.numa_balancing"] = "1"
    run = clean(tmp_path, record, **counted(CLEAN_PAGES))
    assert codes(run) == found
    assert finding(run, "balancing-on").weight == BIASES


def test_huge_pages_that_were_split_are_told(tmp_path: Path) -> None:
    record = driven_run.run_record()
    record["plan"]["mover"]["pages"] = "thp"
    changed = counted(CLEAN_PAGES, thp_migration_split=3)
    changed["counters"]["before"]["vmstat"]["thp_migration_split"] = 0
    found = finding(clean(tmp_path, record, **changed), "huge-pages-split")
    assert "split 3 huge pages" in found.cause


def sharing(*cpus: str) -> dict[str, Any]:
    """Two movers and two victims, each with these CPUs."""
    roles = ("mover", "mover", "victim", "victim")
    threads = [driven_run.thread(n, role, cpu) for n, (role, cpu) in enumerate(zip(roles, cpus, strict=True))]
    return {"threads": threads, "victims": [driven_run.victim(2), driven_run.victim(3, preempted=40)]}


@pytest.mark.parametrize(
    ("cpus", "cause"),
    [
        (("0", "1", "2", "1"), "1 of 2 victims had no CPU of their own, and were preempted 40 times"),
        (("0", "1", "2", "2"), "2 of 2 victims had no CPU of their own, and were preempted 43 times"),
    ],
)
def test_victims_that_share_a_cpu_bias_what_they_waited(tmp_path: Path, cpus: tuple[str, ...], cause: str) -> None:
    found = finding(clean(tmp_path, **sharing(*cpus)), "victims-share-cpus")
    assert found.weight == BIASES
    assert found.cause.startswith(cause)


@pytest.mark.parametrize("cpus", [("0", "0", "1", "2"), ("0", "1", "2-3", "2-3")])
def test_victims_that_share_no_cpu_or_may_choose_are_not_told(tmp_path: Path, cpus: tuple[str, ...]) -> None:
    assert codes(clean(tmp_path, **sharing(*cpus))) == []


def of_folios(pages: str = "64k") -> dict[str, Any]:
    record = driven_run.run_record()
    record["plan"]["mover"]["pages"] = pages
    return record


@pytest.mark.parametrize("pages", ["64k", "thp"])
def test_pages_that_were_no_whole_ones_at_the_end_make_a_run_invalid(tmp_path: Path, pages: str) -> None:
    run = clean(tmp_path, of_folios(pages), units=driven_run.units(split=3))
    found = finding(run, "pages-split")
    assert found.weight == INVALID
    assert found.cause.startswith(
        f"3 of 256 pages of {pages} were no whole pages any more at the end, where the movers"
    )
    assert not judge(run).is_valid


def test_pages_that_stayed_whole_are_not_told(tmp_path: Path) -> None:
    assert codes(clean(tmp_path, of_folios(), units=driven_run.units())) == []


def test_pages_that_nobody_may_look_at_are_told(tmp_path: Path) -> None:
    run = clean(tmp_path, of_folios(), units=driven_run.units(verified=0))
    assert codes(run) == ["pages-not-seen"]
    assert judge(run).is_valid


def test_a_kernel_that_counts_otherwise_than_the_movers_is_told(tmp_path: Path) -> None:
    found = finding(clean(tmp_path, **counted(2 * CLEAN_PAGES)), "counts-disagree")
    assert found.cause == "the kernel counted 16,384 pages, and the movers confirmed 8,192"


def test_a_driver_that_places_pages_anew_is_not_compared_with_what_was_migrated(tmp_path: Path) -> None:
    assert codes(clean(tmp_path, driven_run.run_record("home-node"), **counted(0))) == []


def test_a_driven_run_of_balancing_is_judged_as_any_other(tmp_path: Path) -> None:
    record = driven_run.run_record("autonuma")
    run = clean(tmp_path, record, movers=[])
    assert {"balancing-off", "nothing-migrated"} <= set(codes(run))


def test_the_other_runs_are_judged_as_before(tmp_path: Path) -> None:
    run = store.load(synthetic_run.write(tmp_path))
    counts = migration.counts(run, run.trials[0])
    assert counts.confirmed == counts.net == synthetic_run.SLICE_PAGES
    assert migration.rate(run, run.trials[0]) == pytest.approx(6.711, abs=0.001)
