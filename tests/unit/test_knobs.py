"""Knobs on a tree of files that stands for /proc and /sys: what is set, what is refused, and that all is put back."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

from numabench import process
from numabench.errors import NumabenchError, Unfit, UsageError
from numabench.host import knob_access, knob_journal, knobs, profiles
from numabench.host.knob_table import FILE, PROCESS
from numabench.host.profiles import Profile
from numabench.host.root import LIVE, Root

BALANCING = "/proc/sys/kernel/numa_balancing"
SCAN_SIZE = "/sys/kernel/debug/sched/numa_balancing/scan_size_mb"
SCAN_DELAY = "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms"
ORIGINAL = {BALANCING: "0\n", SCAN_SIZE: "256\n", SCAN_DELAY: "1000\n"}
WANTED = {"numa_balancing": "1", "scan_size_mb": "1024", "scan_delay_ms": "100"}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    tree = Root(tmp_path / "root")
    for name, text in {**ORIGINAL, "/proc/sys/kernel/random/boot_id": "first-boot\n"}.items():
        tree.path(name).parent.mkdir(parents=True, exist_ok=True)
        tree.path(name).write_text(text, encoding="ascii")
    return tree


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def values(root: Root) -> dict[str, str]:
    return {name: root.read(name) for name in ORIGINAL}


def killed_while_set(root: Root, state: Path, wanted: dict[str, str]) -> None:
    """Have a process set knobs and die of SIGKILL while they are set."""
    program = (
        "import json, os, signal, sys; from pathlib import Path\n"
        "from numabench.host import knobs; from numabench.host.root import Root\n"
        "with knobs.apply(json.loads(sys.argv[3]), Root(Path(sys.argv[1])), Path(sys.argv[2])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    argv = [sys.executable, "-c", program, str(root.directory), str(state), json.dumps(wanted)]
    assert process.run(argv).exit_status == -signal.SIGKILL


def test_knobs_are_set_for_the_block_and_put_back_exactly(root: Root, state: Path) -> None:
    with knobs.apply(WANTED, root, state) as applied:
        assert values(root) == {BALANCING: "1\n", SCAN_SIZE: "1024\n", SCAN_DELAY: "100\n"}
        assert [(write.name, write.before, write.wanted, write.outcome) for write in applied.writes] == [
            ("kernel.numa_balancing_scan_delay_ms", "1000", "100", "set"),
            ("kernel.numa_balancing_scan_size_mb", "256", "1024", "set"),
            ("kernel.numa_balancing", "0", "1", "set"),
        ]
    assert values(root) == ORIGINAL
    assert [(entry.name, entry.value, entry.outcome) for entry in applied.restored] == [
        ("kernel.numa_balancing", "0", "restored"),
        ("kernel.numa_balancing_scan_size_mb", "256", "restored"),
        ("kernel.numa_balancing_scan_delay_ms", "1000", "restored"),
    ]


def test_the_records_are_those_of_the_result_format(root: Root, state: Path) -> None:
    with knobs.apply({"kernel.numa_balancing": "1"}, root, state) as applied:
        assert [write.to_json() for write in applied.writes] == [
            {
                "name": "kernel.numa_balancing",
                "path": BALANCING,
                "before": "0",
                "wanted": "1",
                "outcome": "set",
                "message": "",
            }
        ]
    assert [entry.to_json() for entry in applied.restored] == [
        {"name": "kernel.numa_balancing", "path": BALANCING, "value": "0", "outcome": "restored", "message": ""}
    ]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_knobs_are_put_back_when_the_block_raises(root: Root, state: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), knobs.apply(WANTED, root, state):
        raise failure
    assert values(root) == ORIGINAL


def test_every_write_is_told(root: Root, state: Path) -> None:
    told: list[str] = []
    with knobs.apply({"numa_balancing": "1"}, root, state, told.append):
        pass
    assert told == [
        f"set kernel.numa_balancing: 0 -> 1 ({BALANCING})",
        f"restored kernel.numa_balancing: 0 ({BALANCING})",
    ]


def test_a_knob_that_has_its_value_already_is_kept_and_not_written(root: Root, state: Path) -> None:
    root.path(BALANCING).chmod(0o444)
    before_ns = root.path(BALANCING).stat().st_mtime_ns
    with knobs.apply({"numa_balancing": "0"}, root, state) as applied:
        assert [write.outcome for write in applied.writes] == ["kept"]
    assert applied.restored == ()
    assert root.path(BALANCING).stat().st_mtime_ns == before_ns


def test_a_knob_that_the_kernel_lacks_is_absent_and_the_rest_is_set(root: Root, state: Path) -> None:
    root.path(SCAN_SIZE).unlink()
    with knobs.apply(WANTED, root, state) as applied:
        outcomes = {write.name: (write.outcome, write.message) for write in applied.writes}
        assert outcomes["kernel.numa_balancing"] == ("set", "")
        absent, message = outcomes["kernel.numa_balancing_scan_size_mb"]
        assert absent == "absent"
        assert message.startswith("this kernel has no ")
    assert values_but(root, SCAN_SIZE) == {BALANCING: "0\n", SCAN_DELAY: "1000\n"}


def values_but(root: Root, left_out: str) -> dict[str, str]:
    return {name: root.read(name) for name in ORIGINAL if name != left_out}


def test_debugfs_that_is_not_mounted_is_told(root: Root, state: Path) -> None:
    for name in (SCAN_SIZE, SCAN_DELAY):
        root.path(name).unlink()
    root.path("/sys/kernel/debug/sched/numa_balancing").rmdir()
    root.path("/sys/kernel/debug/sched").rmdir()
    with knobs.apply({"scan_size_mb": "1024"}, root, state) as applied:
        (write,) = applied.writes
    assert (write.outcome, "not mounted" in write.message) == ("absent", True)


def test_before_5_13_the_scan_knobs_are_sysctls(root: Root, state: Path) -> None:
    old = "/proc/sys/kernel/numa_balancing_scan_size_mb"
    root.path(SCAN_SIZE).unlink()
    root.path(old).write_text("256\n", encoding="ascii")
    with knobs.apply({"scan_size_mb": "1024"}, root, state) as applied:
        assert applied.writes[0].path == old
        assert root.read(old) == "1024\n"
    assert root.read(old) == "256\n"


def test_a_knob_that_may_not_be_written_is_denied_by_name_and_the_run_goes_on() -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from numabench.host import knobs\n"
        "os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None\n"
        "wanted = '0' if Path('/proc/sys/kernel/numa_balancing').read_text().strip() != '0' else '1'\n"
        "with knobs.apply({'numa_balancing': wanted}, state_dir=Path(sys.argv[1])) as applied:\n"
        "    (write,) = applied.writes\n"
        "    print(write.outcome, write.message)\n"
    )
    if LIVE.read_or_none(BALANCING) is None:
        pytest.skip(f"this kernel has no {BALANCING}")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        Path(directory).chmod(0o777)
        told = process.run([sys.executable, "-c", program, directory]).check("setting it as nobody").stdout
    assert told.startswith(f"denied cannot write {BALANCING}: Permission denied")
    assert "run as root, or pass --no-tune" in told


def test_a_value_that_somebody_else_set_meanwhile_is_left_alone_and_reported(root: Root, state: Path) -> None:
    with knobs.apply(WANTED, root, state) as applied:
        root.path(BALANCING).write_text("2\n", encoding="ascii")
    assert values(root) == {**ORIGINAL, BALANCING: "2\n"}
    assert applied.restored[0].outcome == "foreign"
    assert "it was 0 before the run" in applied.restored[0].message


def test_an_unknown_knob_is_a_usage_error_that_names_the_known_ones(root: Root, state: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no knob 'numa_balance'.*did you mean numa_balancing"):
        knobs.apply({"numa_balance": "1"}, root, state)


def test_two_at_once_are_refused_and_the_first_keeps_its_knobs(root: Root, state: Path) -> None:
    with knobs.apply(WANTED, root, state):
        with pytest.raises(Unfit, match=f"process {os.getpid()}"), knobs.apply({"numa_balancing": "3"}, root, state):
            pass
        with pytest.raises(Unfit):
            knobs.recover(root, state)
        assert root.read(BALANCING) == "1\n"
    assert values(root) == ORIGINAL
    with knobs.apply(WANTED, root, state):
        assert root.read(BALANCING) == "1\n"


def test_a_state_directory_that_cannot_be_made_is_told_before_anything_is_written(root: Root, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with (
        pytest.raises(NumabenchError, match="cannot keep a journal"),
        knobs.apply(WANTED, root, tmp_path / "file/state"),
    ):
        pass
    assert values(root) == ORIGINAL


def test_nothing_wanted_needs_no_state_directory(root: Root, state: Path) -> None:
    with knobs.apply({}, root, state) as applied:
        assert applied.writes == ()
    assert not state.exists()


def test_after_sigkill_the_next_start_puts_back(root: Root, state: Path) -> None:
    killed_while_set(root, state, WANTED)
    assert values(root) != ORIGINAL
    assert [entry.outcome for entry in knobs.recover(root, state)] == ["restored"] * 3
    assert values(root) == ORIGINAL
    assert knobs.recover(root, state) == ()


def test_after_sigkill_the_next_run_captures_the_old_value_and_not_the_leftover(root: Root, state: Path) -> None:
    killed_while_set(root, state, {"numa_balancing": "1"})
    with knobs.apply({"numa_balancing": "2"}, root, state) as applied:
        assert (applied.writes[0].before, root.read(BALANCING)) == ("0", "2\n")
    assert values(root) == ORIGINAL


def test_a_profile_is_in_force_again_after_a_run_that_was_killed_with_it(root: Root, state: Path) -> None:
    profile = Profile("mine", "", {knobs.find(name).name: value for name, value in WANTED.items()})
    killed_while_set(root, state, WANTED)
    planned = knobs.planned(profiles.here(profile, root), root, state)
    with knobs.apply(profiles.here(profile, root), root, state) as applied:
        assert [write.outcome for write in applied.writes] == ["set"] * 3
        assert [(write.before, write.outcome) for write in planned] == [
            (write.before, write.outcome) for write in applied.writes
        ]
        assert values(root) == {BALANCING: "1\n", SCAN_SIZE: "1024\n", SCAN_DELAY: "100\n"}
    assert values(root) == ORIGINAL


def test_a_run_is_planned_on_a_machine_as_it_was_before_a_killed_one(root: Root, state: Path) -> None:
    killed_while_set(root, state, WANTED)
    assert knobs.recover_before_run(root, state)
    assert values(root) == ORIGINAL
    assert not knobs.recover_before_run(root, state)


def test_after_a_reboot_the_journal_is_discarded(root: Root, state: Path) -> None:
    killed_while_set(root, state, {"numa_balancing": "1"})
    root.path("/proc/sys/kernel/random/boot_id").write_text("second-boot\n", encoding="ascii")
    assert [entry.outcome for entry in knobs.recover(root, state)] == ["discarded"]
    assert root.read(BALANCING) == "1\n"
    assert knobs.recover(root, state) == ()


def test_a_torn_last_line_announces_nothing_that_was_done(root: Root, state: Path) -> None:
    killed_while_set(root, state, {"numa_balancing": "1"})
    (journal,) = state.glob("*.journal")
    whole = journal.read_bytes()
    whole = whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]
    assert b'"writing"' in whole.splitlines()[-1]
    intent = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(intent, len(whole) - 1):
        journal.write_bytes(whole[:cut])
        assert knobs.recover(root, state) == ()
    journal.write_bytes(whole)
    assert [entry.outcome for entry in knobs.recover(root, state)] == ["restored"]


def test_a_signal_while_knobs_are_written_waits_until_they_can_be_put_back(root: Root, state: Path) -> None:
    def interrupt(_text: str) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), knobs.apply(WANTED, root, state, interrupt):
        pytest.fail("the block began although Ctrl-C was pressed before")
    assert values(root) == ORIGINAL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_values_in_force_are_those_of_the_kernel() -> None:
    found = knobs.read_all()
    for knob in knobs.KNOBS:
        texts = [LIVE.read(path) for path in knob.paths if LIVE.exists(path) and knob.kind == FILE]
        if texts and knob.group != "perf":
            assert found[knob.name] in texts[0]
        elif not any("*" in path for path in knob.paths) and knob.kind != PROCESS:
            assert knob.name not in found


@pytest.mark.parametrize(
    ("text", "value"),
    [("always [madvise] never\n", "madvise"), ("[always] never", "always"), ("60000\n", "60000"), ("\n", "")],
)
def test_of_a_choice_the_word_in_brackets_is_the_value(text: str, value: str) -> None:
    assert knobs.shown(text) == value


def test_knobs_have_names_and_short_names_of_their_own() -> None:
    names = [knob.name for knob in knobs.KNOBS]
    aliases = [knob.alias for knob in knobs.KNOBS]
    assert len(set(names)) == len(names)
    assert len(set(aliases)) == len(aliases)


POOL = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
FOLIOS = "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"
KSM = "/sys/kernel/mm/ksm/run"


def test_what_pages_of_a_kind_need_is_set_and_put_back_also_after_sigkill(root: Root, state: Path) -> None:
    before = {POOL: "3\n", FOLIOS: "always inherit madvise [never]\n", KSM: "0\n"}
    for name, text in before.items():
        root.path(name).parent.mkdir(parents=True, exist_ok=True)
        root.path(name).write_text(text, encoding="ascii")
    wanted = {"node1-hugepages-2048kB": "131", "hugepages-64kB": "madvise", "ksm_run": "1"}
    with knobs.apply(wanted, root, state) as applied:
        assert [(write.name, write.before, write.wanted) for write in applied.writes] == [
            ("hugetlb.node1-hugepages-2048kB", "3", "131"),
            ("thp.hugepages-64kB", "never", "madvise"),
            ("ksm.run", "0", "1"),
        ]
        assert {name: root.read(name) for name in before} == {POOL: "131\n", FOLIOS: "madvise\n", KSM: "1\n"}
    assert {name: knobs.shown(root.read(name)) for name in before} == {POOL: "3", FOLIOS: "never", KSM: "0"}
    killed_while_set(root, state, wanted)
    assert root.read(POOL) == "131\n"
    assert {entry.outcome for entry in knobs.recover(root, state)} == {"restored"}
    assert {name: knobs.shown(root.read(name)) for name in before} == {POOL: "3", FOLIOS: "never", KSM: "0"}


@pytest.mark.parametrize("name", ["node1-hugepages-2048", "nodex-hugepages-2048kB", "node1/../node2-hugepages-2048kB"])
def test_a_pool_is_named_by_its_node_and_size(name: str) -> None:
    with pytest.raises(UsageError, match="there is no knob"):
        knobs.find(name)


GOVERNORS = [f"/sys/devices/system/cpu/cpufreq/policy{number}/scaling_governor" for number in (0, 1, 10)]
NO_TURBO = "/sys/devices/system/cpu/intel_pstate/no_turbo"


def add_frequencies(root: Root) -> None:
    for path, text in {**dict.fromkeys(GOVERNORS, "powersave\n"), NO_TURBO: "0\n"}.items():
        root.path(path).parent.mkdir(parents=True, exist_ok=True)
        root.path(path).write_text(text, encoding="ascii")


def test_each_file_of_a_knob_is_set_and_put_back_by_itself(root: Root, state: Path) -> None:
    add_frequencies(root)
    root.path(GOVERNORS[1]).write_text("performance\n", encoding="ascii")
    with knobs.apply({"scaling_governor": "performance"}, root, state) as applied:
        assert [(write.name, write.outcome) for write in applied.writes] == [
            ("cpufreq.scaling_governor[policy0]", "set"),
            ("cpufreq.scaling_governor[policy1]", "kept"),
            ("cpufreq.scaling_governor[policy10]", "set"),
        ]
        assert knobs.read_all(root)["cpufreq.scaling_governor"] == "performance"
    assert [root.read(path).strip() for path in GOVERNORS] == ["powersave", "performance", "powersave"]
    assert knobs.read_all(root)["cpufreq.scaling_governor"] == "performance (1), powersave (2)"


@pytest.mark.parametrize("ending", ["leaves", "killed"])
def test_what_the_kernel_changes_with_a_write_is_put_back_too(root: Root, state: Path, ending: str) -> None:
    """A governor that resets no_turbo, as pyperf's source tells of intel_pstate."""
    add_frequencies(root)
    if ending == "leaves":
        with knobs.apply({"scaling_governor": "performance"}, root, state):
            root.path(NO_TURBO).write_text("1\n", encoding="ascii")
    else:
        killed_while_set(root, state, {"scaling_governor": "performance"})
        # Of the killed write nothing was noted: as if the kernel had done it between write and note.
        journal = state / "knobs.journal"
        kept = [line for line in journal.read_text().splitlines(keepends=True) if '"wrote"' not in line]
        journal.write_text("".join(kept))
        root.path(NO_TURBO).write_text("1\n", encoding="ascii")
        knobs.recover(root, state)
        assert root.read(NO_TURBO) == "0\n"
        return
    # Seen as 0 right after the write: the 1 that came later is somebody else's.
    assert root.read(NO_TURBO) == "1\n"


def test_kept_knobs_stay_until_they_are_released_and_the_first_value_comes_back(root: Root, state: Path) -> None:
    knobs.keep({"scan_size_mb": "512"}, root, state)
    knobs.keep({"scan_size_mb": "64", "numa_balancing": "2"}, root, state)
    with knobs.apply({"numa_balancing": "1"}, root, state):
        assert root.read(BALANCING) == "1\n"
    assert (root.read(BALANCING), root.read(SCAN_SIZE)) == ("2\n", "64\n")
    assert {(entry.name, entry.before, entry.now, entry.by) for entry in knobs.altered(root, state)} == {
        ("kernel.numa_balancing", "0", "2", "applied"),
        ("kernel.numa_balancing_scan_size_mb", "256", "64", "applied"),
    }
    assert {entry.outcome for entry in knobs.release(root, state)} == {"restored"}
    assert values(root) == ORIGINAL
    assert (knobs.altered(root, state), knobs.release(root, state)) == ((), ())


@pytest.mark.parametrize("torn", [0, 1])
def test_what_is_kept_after_a_torn_line_is_released_too(root: Root, state: Path, torn: int) -> None:
    """A process that was killed while it wrote to the journal, its first line or a later one."""
    if torn:
        knobs.keep({"scan_size_mb": "512"}, root, state)
    state.mkdir(exist_ok=True)
    with (state / "applied.journal").open("ab") as file:
        file.write(b'1234abcd {"writ')
    knobs.keep({"numa_balancing": "2"}, root, state)
    knobs.release(root, state)
    assert values(root) == ORIGINAL


def test_releasing_leaves_somebody_elses_value_unless_it_is_forced(root: Root, state: Path) -> None:
    for force in (False, True):
        root.path(SCAN_SIZE).write_text("256\n", encoding="ascii")
        knobs.keep({"scan_size_mb": "512"}, root, state)
        root.path(SCAN_SIZE).write_text("777\n", encoding="ascii")
        *_, entry = knobs.release(root, state, force=force)
        assert (entry.outcome, root.read(SCAN_SIZE)) == (("restored", "256\n") if force else ("foreign", "777\n"))


def test_what_is_left_alone_comes_back_by_force_later_also_beside_kept_ones(root: Root, state: Path) -> None:
    """The oldest value counts: that of before what is kept, and of before the first of two runs."""
    knobs.keep({"scan_size_mb": "512"}, root, state)
    with knobs.apply({"scan_size_mb": "1024"}, root, state):
        root.path(SCAN_SIZE).write_text("777\n", encoding="ascii")
    with knobs.apply({"numa_balancing": "1"}, root, state):
        root.path(BALANCING).write_text("2\n", encoding="ascii")
    with knobs.apply({"numa_balancing": "1"}, root, state):
        root.path(BALANCING).write_text("3\n", encoding="ascii")
    assert [entry.outcome for entry in knobs.release(root, state)] == ["foreign"]
    assert {(entry.name, entry.before, entry.by) for entry in knobs.altered(root, state)} == {
        ("kernel.numa_balancing_scan_size_mb", "256", "foreign"),
        ("kernel.numa_balancing", "0", "foreign"),
    }
    assert knobs.release(root, state) == ()
    assert {entry.outcome for entry in knobs.release(root, state, force=True)} == {"restored"}
    assert (values(root), list(state.glob("*.journal"))) == (ORIGINAL, [])


@pytest.mark.parametrize("line", range(8))
def test_a_damaged_line_of_a_journal_loses_nothing_else_and_is_told(root: Root, state: Path, line: int) -> None:
    """Header, two captures, and what is announced and closed of each: whichever it is, the file is kept aside."""
    knobs.keep({"scan_size_mb": "512", "numa_balancing": "2"}, root, state)
    journal = state / "applied.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    if line == len(lines):
        lines[1], lines[2] = b"\0" * 40 + b"\n", b"{}\n"
    else:
        lines[line] = b"X" + lines[line][1:]
    journal.write_bytes(b"".join(lines))
    assert {entry.name for entry in knobs.altered(root, state)} >= {"journal"}
    with pytest.raises(Unfit, match="is damaged"):
        knobs.keep({"scan_delay_ms": "1"}, root, state)
    assert all(not line.startswith("would set applied") for line, _ in knobs.planned_release(root, state))
    told = knobs.release(root, state)
    assert "damaged" in {entry.outcome for entry in told}
    lost = {1: {"scan_size"}, 2: {"numa_balancing"}, len(lines): {"scan_size", "numa_balancing"}}.get(line, set())
    restored = {entry.name for entry in told if entry.outcome == "restored"}
    unknown = {entry.name for entry in told if entry.outcome == "damaged"}
    assert (len(restored), len(unknown)) == (2 - len(lost), 1 + len(lost))
    if not lost:
        assert values(root) == ORIGINAL
    assert (state / "applied.journal.damaged-1").read_bytes().startswith(b"".join(lines))
    assert (knobs.altered(root, state), knobs.release(root, state)) == ((), ())


@pytest.mark.parametrize(
    "record",
    [3, {}, [], {"writing": "vm.nope", "wanted": "1"}, {"writing": 3, "wanted": ""}, {"name": "ksm.run"}, {"new": "x"}],
)
def test_a_record_of_another_version_is_damage_and_no_error(root: Root, state: Path, record: object) -> None:
    killed_while_set(root, state, {"numa_balancing": "1"})
    text = json.dumps(record)
    with (state / "knobs.journal").open("a") as file:
        file.write(f"{zlib.crc32(text.encode()):08x} {text}\n")
    assert {entry.name for entry in knobs.altered(root, state)} == {"journal", "kernel.numa_balancing"}
    assert [entry.outcome for entry in knobs.recover(root, state)] == ["restored", "damaged"]
    assert values(root) == ORIGINAL


@pytest.mark.parametrize("value", ["48", "0"])
def test_a_value_that_the_kernel_made_of_a_killed_write_is_ours(root: Root, state: Path, value: str) -> None:
    """Killed between a write and its note: a pool that was filled in part, `060` that the kernel shows as 48."""
    killed_while_set(root, state, {"scan_size_mb": "060"})
    journal = state / "knobs.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b'"wrote"' in lines.pop()
    journal.write_bytes(b"".join(lines))
    root.path(SCAN_SIZE).write_text(f"{value}\n", encoding="ascii")
    assert [entry.outcome for entry in knobs.recover(root, state)] == ["restored"]
    assert values(root) == ORIGINAL


def test_a_refused_second_value_does_not_forget_the_first(root: Root, state: Path) -> None:
    knobs.keep({"scan_size_mb": "512"}, root, state)
    journal = knob_journal.Journal(state, "applied.journal").load()
    journal.append({"writing": "kernel.numa_balancing_scan_size_mb", "wanted": "x"})
    journal.append({"refused": "kernel.numa_balancing_scan_size_mb"})
    knobs.release(root, state)
    assert values(root) == ORIGINAL


def test_a_preference_that_a_governor_has_changed_for_good_is_put_back(
    root: Root, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """amd-pstate: performance makes it 0, it may not be written then, and it stays so afterwards."""
    add_frequencies(root)
    preferences = [path.replace("scaling_governor", "energy_performance_preference") for path in GOVERNORS]
    for path in preferences:
        root.path(path).write_text("balance_performance\n", encoding="ascii")
    genuine = knob_access.write

    def writing(root: Root, path: str, value: str, kind: str) -> None:
        governor = path.replace("energy_performance_preference", "scaling_governor")
        if path in preferences and root.read(governor) == "performance\n":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        genuine(root, path, value, kind)
        if path in GOVERNORS and value == "performance":
            preference = path.replace("scaling_governor", "energy_performance_preference")
            root.path(preference).write_text("performance\n", encoding="ascii")

    monkeypatch.setattr(knob_access, "write", writing)
    for wanted in ({"scaling_governor": "performance"}, {"energy_performance_preference": "power"}):
        with knobs.apply(wanted, root, state):
            assert {root.read(path) for path in preferences} != {"balance_performance\n"}
        assert {root.read(path) for path in preferences} == {"balance_performance\n"}
        assert {root.read(path) for path in GOVERNORS} == {"powersave\n"}


def test_a_kept_knob_that_another_write_changes_is_set_and_put_back(
    root: Root, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A governor that resets no_turbo, which was as it is wanted."""
    add_frequencies(root)
    root.path(NO_TURBO).write_text("1\n", encoding="ascii")
    genuine = knob_access.write

    def writing(root: Root, path: str, value: str, kind: str) -> None:
        genuine(root, path, value, kind)
        if path in GOVERNORS:
            root.path(NO_TURBO).write_text("0\n", encoding="ascii")

    monkeypatch.setattr(knob_access, "write", writing)
    with knobs.apply({"scaling_governor": "performance", "no_turbo": "1"}, root, state):
        assert root.read(NO_TURBO) == "1\n"
    assert root.read(NO_TURBO) == "1\n"
    assert {root.read(path) for path in GOVERNORS} == {"powersave\n"}


def test_telling_that_fails_leaves_no_journal_behind(root: Root, state: Path) -> None:
    """Standard output on a full disk: what is put back is put back, and forgotten."""
    knobs.keep({"scan_size_mb": "512"}, root, state)

    def full(_text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        knobs.release(root, state, full)
    assert (values(root), list(state.glob("*.journal"))) == (ORIGINAL, [])


def test_to_look_whether_a_run_lives_never_refuses_one(tmp_path: Path) -> None:
    """Another process asks without end."""
    code = (
        "import sys; from pathlib import Path; from numabench.host.knob_journal import is_locked\n"
        "print('asking', flush=True)\n"
        "while True: is_locked(Path(sys.argv[1]))"
    )
    with knob_journal.locked(tmp_path):
        assert knob_journal.is_locked(tmp_path)
    reader, writer = os.pipe()
    asking = process.start([sys.executable, "-c", code, str(tmp_path)], stdout=writer)
    try:
        os.close(writer)
        assert os.read(reader, 6) == b"asking"
        for _ in range(200):
            with knob_journal.locked(tmp_path):
                pass
    finally:
        asking.kill(0)
        os.close(reader)


def test_a_killed_run_is_told_of_until_it_is_put_back(root: Root, state: Path) -> None:
    killed_while_set(root, state, WANTED)
    assert {entry.by for entry in knobs.altered(root, state)} == {"killed"}
    root.path("/proc/sys/kernel/random/boot_id").write_text("second-boot\n", encoding="ascii")
    assert {entry.is_stale for entry in knobs.altered(root, state)} == {True}
    assert {entry.outcome for entry in knobs.release(root, state)} == {"discarded"}
    assert knobs.altered(root, state) == ()


def test_a_process_is_stopped_and_goes_on(state: Path) -> None:
    """irqbalance, played by a process of that name."""
    program = "open('/proc/self/comm', 'w').write('irqbalance'); input()"
    reader, writer = os.pipe()
    running = process.start([sys.executable, "-c", program], stdin=reader)
    stat = Path(f"/proc/{running.pid}/stat")
    try:
        while Path(f"/proc/{running.pid}/comm").read_text() != "irqbalance\n":
            assert running.wait(0.01) is None
        with knobs.apply({"irqbalance": "stopped"}, LIVE, state) as applied:
            assert [(write.name, write.outcome) for write in applied.writes] == [(f"irqbalance[{running.pid}]", "set")]
            assert stat.read_text().rpartition(")")[2].split()[0] == "T"
        assert stat.read_text().rpartition(")")[2].split()[0] in {"S", "R"}
        with knobs.apply({"irqbalance": "stopped"}, LIVE, state) as applied:
            running.kill(0)
        assert [entry.outcome for entry in applied.restored] == ["gone"]
    finally:
        running.kill(0)
        os.close(reader)
        os.close(writer)
