"""What is observed where: perf's words, what stands in for what a kernel lacks, and the remedies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from numabench.errors import CannotRun, UsageError
from numabench.observe import kernel_symbols, offer, recipes
from numabench.observe.offer import Offer
from numabench.observe.recipes import Choice, choose

FIXTURES = Path(__file__).parents[1] / "fixtures" / "perf-tool"
USAGE = (FIXTURES / "record-usage.6.1.txt").read_text()
VERSION = (FIXTURES / "version.6.1.txt").read_text()
BARE = Offer(
    perf_version="6.1.187",
    options=offer.parse_options(USAGE),
    has_zstd=True,
    tracing="/sys/kernel/tracing",
    tracepoints=frozenset(
        ["lock:contention_begin", "lock:contention_end", "sched:sched_switch", "migrate:mm_migrate_pages"]
    ),
    pmus=frozenset(["software", "tracepoint", "breakpoint"]),
    counters=(),
    cpu_count=2,
    max_rate_hz=100_000,
    paranoid=2,
    is_privileged=True,
    addresses_hidden=False,
    kptr_restrict=0,
    build_id_in_mmap=True,
)
METAL = replace(BARE, pmus=BARE.pmus | {"cpu"}, counters=("node-loads", "node-load-misses"))
BEFORE_5_19 = replace(BARE, tracepoints=frozenset(["sched:sched_switch", "migrate:mm_migrate_pages"]))


def names(choice: Choice) -> list[str]:
    return [recipe.name for recipe in choice.recipes]


def words(choice: Choice, name: str) -> str:
    return " ".join(next(recipe for recipe in choice.recipes if recipe.name == name).argv)


def test_perfs_own_usage_tells_its_options() -> None:
    assert {"control", "buildid-mmap", "clockid", "kernel-callchains", "all-cpus"} <= BARE.options
    assert "no-such-option" not in BARE.options
    assert offer.parse_version(VERSION) == ("6.1.187", True)


def test_a_perf_that_refuses_to_run_has_no_options_and_no_version() -> None:
    ubuntu = "WARNING: perf not found for kernel 6.8.0-45\n\n  You may need to install linux-tools-6.8.0-45-generic\n"
    assert offer.parse_options(ubuntu) == frozenset()
    assert offer.parse_version(ubuntu) == ("", False)
    with pytest.raises(CannotRun, match="perf does not run for this kernel"):
        choose(("cpu",), replace(BARE, options=frozenset()), emulated=False)


def test_without_a_pmu_the_clock_samples_and_with_one_cycles_do() -> None:
    assert "-e cpu-clock" in words(choose(("cpu",), BARE, emulated=False), "cpu")
    assert "-e cycles:P" in words(choose(("cpu",), METAL, emulated=False), "cpu")


def test_a_recording_shares_our_clock_and_does_not_read_itself_again() -> None:
    told = words(choose(("cpu",), BARE, emulated=False), "cpu")
    assert "-k CLOCK_MONOTONIC" in told
    assert "--buildid-mmap" in told
    assert " -z" in told
    older = words(choose(("cpu",), replace(BARE, build_id_in_mmap=False, has_zstd=False), emulated=False), "cpu")
    assert " -B" in older
    assert "--buildid-mmap" not in older
    assert " -z" not in older


def test_ends_of_waits_are_recorded_without_chains() -> None:
    told = words(choose(("lock",), BARE, emulated=False), "lock")
    assert "lock:contention_begin/call-graph=fp/" in told
    assert "lock:contention_end/call-graph=no/" in told
    assert "migrate:mm_migrate_pages/call-graph=no/" in told


def test_a_kernel_before_5_19_has_sched_stand_in_for_lock_and_says_so() -> None:
    found = choose(("lock",), BEFORE_5_19, emulated=False)
    assert names(found) == ["sched"]
    assert [remark.code for remark in found.remarks] == ["observed-otherwise"]
    assert "since 5.19" in found.remarks[0].message
    assert names(choose(("cpu", "lock", "sched"), BEFORE_5_19, emulated=False)) == ["cpu", "sched"]


def test_counters_of_a_pmu_come_with_cpu_where_there_is_one() -> None:
    assert names(choose(("cpu",), METAL, emulated=False)) == ["cpu", "stat"]
    assert names(choose(("cpu",), BARE, emulated=False)) == ["cpu"]
    assert "-e node-loads,node-load-misses" in words(choose(("stat",), METAL, emulated=False), "stat")


def test_stat_without_a_pmu_is_left_out_with_the_reason_and_alone_cannot_run() -> None:
    found = choose(("cpu", "stat"), BARE, emulated=False)
    assert names(found) == ["cpu"]
    assert "no PMU" in found.remarks[0].message
    with pytest.raises(CannotRun, match="no PMU"):
        choose(("stat",), BARE, emulated=False)


def test_the_rate_is_lower_where_cpus_are_emulated_and_never_above_the_kernels() -> None:
    def rate_hz(found: Choice) -> int:
        return found.recipes[0].frequency_hz

    assert rate_hz(choose(("cpu",), BARE, emulated=False)) == 4999
    assert rate_hz(choose(("cpu",), BARE, emulated=True)) == 499
    assert rate_hz(choose(("cpu",), BARE, emulated=True, frequency_hz=99)) == 99
    assert rate_hz(choose(("cpu",), replace(BARE, max_rate_hz=1000), emulated=False)) == 1000


def test_buffers_of_many_cpus_leave_memory_for_the_workload() -> None:
    def pages(cpus: int) -> int:
        argv = choose(("cpu",), replace(BARE, cpu_count=cpus), emulated=False).recipes[0].argv
        return int(argv[argv.index("-m") + 1])

    assert pages(2) == 1024
    assert pages(512) * 512 * 4096 <= 1 << 29
    assert pages(4096) == 128


@pytest.mark.parametrize(
    ("lacking", "reason", "remedy"),
    [
        ({"is_privileged": False}, "perf_event_paranoid is 2", "perf_event_paranoid=0"),
        ({"addresses_hidden": True, "kptr_restrict": 2}, "kptr_restrict is 2", "kptr_restrict=1"),
        (
            {"addresses_hidden": True, "kptr_restrict": 1, "is_privileged": False, "paranoid": -1},
            "kptr_restrict is 1",
            "kptr_restrict=0",
        ),
        ({"options": frozenset(["all-cpus"])}, "cannot be started and stopped", "newer perf"),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(lacking: dict[str, object], reason: str, remedy: str) -> None:
    with pytest.raises(CannotRun) as told:
        choose(("cpu",), replace(BARE, **lacking), emulated=False)  # type: ignore[arg-type]
    assert reason in told.value.message
    assert remedy in told.value.hint


def test_tracepoints_need_tracefs_and_more_rights_than_cpu_samples() -> None:
    user = replace(BARE, is_privileged=False, paranoid=0)
    assert names(choose(("cpu",), user, emulated=False)) == ["cpu"]
    with pytest.raises(CannotRun, match="perf_event_paranoid is 0"):
        choose(("cpu", "lock"), user, emulated=False)
    hidden = replace(BARE, tracing="", tracepoints=frozenset())
    assert names(choose(("cpu",), hidden, emulated=False)) == ["cpu"]
    with pytest.raises(CannotRun, match="tracefs is not mounted") as told:
        choose(("sched",), hidden, emulated=False)
    assert "mount -t tracefs" in told.value.hint


def test_cost_is_left_out_with_the_reason_where_nothing_can_be_counted() -> None:
    assert names(choose(("cost",), replace(BARE, functions=("rmap_walk_anon",)), emulated=False)) == ["cost"]
    for lacking in ({"functions": ()}, {"functions": ("rmap_walk_anon",), "no_probes": ("it is locked down",)}):
        found = choose(("cpu", "cost"), replace(BARE, **lacking), emulated=False)  # type: ignore[arg-type]
        assert names(found) == ["cpu"]
        assert found.remarks[0].message.startswith("cost is not observed: ")


def test_what_to_observe_is_a_list_of_known_words() -> None:
    assert recipes.parse_names("cpu, lock,cpu") == ("cpu", "lock")
    for wrong in ("", ",", "cpus", "cpu;lock", "lock,\0"):
        with pytest.raises(UsageError):
            recipes.parse_names(wrong)


HIDDEN = b"0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n0000000000000000 t do_it\t[ext4]\n"
SHOWN = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\nffffffffc0000000 t do_it\t[ext4]\n"


def test_hidden_addresses_are_known_and_zero_per_cpu_data_is_not_taken_for_them() -> None:
    assert kernel_symbols.are_hidden(HIDDEN)
    assert kernel_symbols.are_hidden(b"")
    assert not kernel_symbols.are_hidden(SHOWN)


def test_symbols_of_deleted_runs_go_when_new_ones_come(tmp_path: Path) -> None:
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
    old = kernel_symbols.save(tmp_path / "one", SHOWN)
    (tmp_path / "one" / old).unlink()
    new = kernel_symbols.save(tmp_path / "two", HIDDEN)
    kept = {entry.name for entry in (tmp_path / kernel_symbols.SHARED).iterdir()}
    assert old not in kept
    assert new in kept


def test_symbols_are_stored_once_for_all_runs_of_a_boot(tmp_path: Path) -> None:
    names = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        names.append(kernel_symbols.save(tmp_path / run, SHOWN))
        names.append(kernel_symbols.save(tmp_path / run, SHOWN))
    assert len(set(names)) == 1
    first, second = (tmp_path / run / names[0] for run in ("one", "two"))
    assert first.stat().st_ino == second.stat().st_ino
    from numabench.perf import Kallsyms

    assert Kallsyms.read(second).address_of("_text") == 0xFFFFFFFF81000000
    assert kernel_symbols.save(tmp_path / "two", HIDDEN) != names[0]
