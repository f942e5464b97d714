"""What the doctor finds on machines that no machine here is, in the words of the kernel's documentation."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from doctor_machines import CPU, NODE, QUIET, context, meminfo, pressure, stat, status, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numabench.doctor import finding as finding_module
from numabench.doctor.context import Context, Left, Needs, needs_of
from numabench.doctor.diagnosis import CHECKS, Diagnosis, examine
from numabench.doctor.finding import BIASES, BLOCKS, INFORMS
from numabench.doctor.sample import Sample, read, take
from numabench.host import cgroup, profiles, topology
from numabench.host.capture import open_tree
from numabench.host.clock import ClockState
from numabench.host.root import Root
from numabench.workload import catalog

FIXTURES = Path(__file__).parents[1] / "fixtures/topology"
CLOCKS = "/sys/devices/system/clocksource/clocksource0"
LIMITED = "/sys/fs/cgroup/user.slice"


def weights(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.weight for finding in diagnosis.findings}


def found(here: Context) -> dict[str, str]:
    return weights(examine(here))


def cause(here: Context, code: str) -> str:
    return next(finding.cause for finding in examine(here).findings if finding.code == code)


def test_on_a_quiet_machine_everything_is_looked_at_and_fine(tmp_path: Path) -> None:
    root = tree(tmp_path)
    diagnosis = examine(context(root, later=read(root, 1.0)))
    assert diagnosis.findings == ()
    assert len({fine.subject for fine in diagnosis.fine}) == len(CHECKS) - 1
    # That the system calls may be made is for the running machine to say.
    assert "system calls" not in {fine.subject for fine in diagnosis.fine}


FOUND: list[tuple[dict[str, str | None], str, str, str]] = [
    ({f"{NODE}/node1/meminfo": meminfo(1, 8 << 20, 2 << 20)}, "uneven-free-memory", INFORMS, "node 1 has 2 GiB free"),
    ({f"{NODE}/node1/meminfo": meminfo(1, 8 << 20, 1 << 14)}, "node-full", BLOCKS, "node 1 has 16 MiB free"),
    (
        {f"{NODE}/node1/meminfo": meminfo(1, 8 << 20, 4 << 20, 3 << 20, 1 << 19)},
        "page-cache-on-node",
        BIASES,
        "the page cache takes 2.5 GiB of node 1 (31%)",
    ),
    ({"/proc/self/status": status(mems="0")}, "too-few-nodes", BLOCKS, "node 1 is outside the cpuset"),
    ({"/proc/self/status": status(mems="0")}, "cpuset-without-nodes", INFORMS, "Mems_allowed_list 0"),
    ({"/proc/self/status": status(cpus="0,2")}, "cpuset-without-cpus", INFORMS, "CPU 1,3 may not be used"),
    ({"/proc/self/status": status(capabilities="0" * 16)}, "no-cap-sys-nice", INFORMS, "CAP_SYS_NICE"),
    ({"/proc/self/status": status(capabilities="0" * 16)}, "no-cap-perfmon", INFORMS, "CAP_PERFMON"),
    ({"/proc/self/status": status(capabilities="0" * 16)}, "perf-paranoid", INFORMS, "perf_event_paranoid is 2"),
    ({"/proc/self/status": status(capabilities="0" * 16)}, "no-symbols", INFORMS, "CAP_SYSLOG is missing"),
    ({"/proc/self/uid_map": "0 1000 1\n"}, "user-namespace", INFORMS, "uid_map 0 1000 1"),
    # Root there has every capability, and none that capable() would find.
    ({"/proc/self/uid_map": "0 1000 1\n"}, "no-cap-sys-nice", INFORMS, "CAP_SYS_NICE"),
    ({"/proc/self/uid_map": "0 1000 1\n"}, "knobs-not-writable", BIASES, "CAP_SYS_ADMIN is missing"),
    ({"/proc/1/environ": "PATH=/bin\0container=lxc\0"}, "container", INFORMS, "(lxc)"),
    ({"/run/.containerenv": "", "/proc/self/mounts": "overlay / overlay rw 0 0\n"}, "container", INFORMS, "(podman)"),
    ({"/.dockerenv": "", "/proc/2/stat": None}, "container", INFORMS, "(docker)"),
    ({"/proc/2/stat": stat(2, "bash", 1, 0)}, "container", INFORMS, "PID namespace"),
    ({f"{LIMITED}/memory.max": "1073741824\n"}, "memory-limit", INFORMS, f"{LIMITED}/memory.max is 1 GiB"),
    ({f"{LIMITED}/run.scope/cpu.max": "150000 100000\n"}, "cpu-quota", BIASES, "allows 1.5 CPUs of the 4"),
    ({f"{LIMITED}/run.scope/pids.max": "100\n"}, "task-limit", INFORMS, "pids.max is 100"),
    ({"/proc/sys/kernel/numa_balancing": None}, "no-balancing", INFORMS, "no kernel.numa_balancing"),
    ({"/proc/sys/kernel/numa_balancing": "2\n"}, "tiering-on", INFORMS, "is 2"),
    ({"/sys/kernel/mm/numa/demotion_enabled": "true\n"}, "demotion-on", INFORMS, "in one tier"),
    (
        {
            "/sys/kernel/mm/numa/demotion_enabled": "true\n",
            "/sys/devices/virtual/memory_tiering/memory_tier4/nodelist": "0\n",
            "/sys/devices/virtual/memory_tiering/memory_tier22/nodelist": "1\n",
        },
        "demotion-on",
        INFORMS,
        "demotion_enabled is on",
    ),
    (
        {
            "/sys/devices/virtual/memory_tiering/memory_tier4/nodelist": "0\n",
            "/sys/devices/virtual/memory_tiering/memory_tier22/nodelist": "1\n",
        },
        "several-memory-tiers",
        INFORMS,
        "node 1 is in a slower memory tier",
    ),
    (
        {"/proc/meminfo": "SwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n"},
        "swap-on",
        BIASES,
        "2 GiB of swap are on, 1 GiB in use",
    ),
    ({"/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n"}, "thp-always", BIASES, "always"),
    ({"/sys/kernel/mm/ksm/run": "1\n", "/sys/kernel/mm/ksm/pages_sharing": "12\n"}, "ksm-running", INFORMS, "12 pages"),
    ({"/proc/sys/vm/zone_reclaim_mode": "1\n"}, "zone-reclaim", BIASES, "is 1"),
    (
        {"/proc/sys/vm/overcommit_memory": "2\n", "/proc/meminfo": "CommitLimit: 2048 kB\nCommitted_AS: 1024 kB\n"},
        "overcommit-strict",
        INFORMS,
        "1 MiB can still be promised",
    ),
    ({"/proc/sys/vm/numa_stat": "0\n"}, "numastat-frozen", INFORMS, "vm.numa_stat is 0"),
    (
        {"/proc/loadavg": "7.00 1.00 1.00 9/200 300\n"},
        "load-average",
        BIASES,
        "7.00 threads ran or waited (the load average), on 4 CPUs",
    ),
    (
        {"/proc/pressure/memory": pressure("3.50")},
        "pressure",
        BIASES,
        "some task waited for memory in 3.5 % of the last ten seconds",
    ),
    ({"/proc/77/stat": stat(77, "numad", 1, 5)}, "numad", BIASES, "process 77"),
    ({"/proc/78/stat": stat(78, "irqbalance", 1, 5)}, "irqbalance", INFORMS, "process 78"),
    # The kernel keeps 15 characters of a name.
    ({"/proc/79/stat": stat(79, "power-profiles-", 1, 5)}, "power-profiles-daemon", INFORMS, "process 79"),
    ({"/proc/cpuinfo": "flags : fpu hypervisor\n"}, "virtual-machine", BIASES, "(vm-other)"),
    (
        {"/proc/cpuinfo": "flags : fpu hypervisor\n", "/sys/class/dmi/id/sys_vendor": "QEMU\n"},
        "emulated",
        BIASES,
        "QEMU without KVM",
    ),
    (
        {f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "powersave\n" for cpu in (1, 2, 3)},
        "governor",
        BIASES,
        "powersave on 3 of 4",
    ),
    ({f"{CPU}/cpufreq/boost": "1\n"}, "boost", BIASES, "cpufreq/boost is 1"),
    ({f"{CPU}/intel_pstate/no_turbo": "0\n"}, "boost", BIASES, "no_turbo is 0"),
    (
        {f"{CPU}/cpu{cpu}/topology/core_cpus_list": f"{cpu & ~1}-{cpu | 1}\n" for cpu in range(4)},
        "smt",
        INFORMS,
        "2 cores are shared",
    ),
    ({f"{CPU}/cpu0/cpuidle/state1/disable": "0\n"}, "idle-states", INFORMS, "up to 133 us (C6)"),
    (
        {
            f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "3\n",
            **{f"{CPU}/cpu{cpu}/thermal_throttle/package_throttle_count": "4\n" for cpu in range(4)},
        },
        "throttled",
        INFORMS,
        "7 times since boot",
    ),
    (
        {"/proc/cpuinfo": "microcode : 0x2b\nflags : fpu\n\nmicrocode : 0x2c\n"},
        "mixed-microcode",
        BIASES,
        "0x2b on 1 CPUs, 0x2c on 1 CPUs",
    ),
    ({f"{CLOCKS}/current_clocksource": "hpet\n"}, "slow-clocksource", BIASES, "hpet"),
    ({"/sys/class/dmi/id/bios_date": "06/30/2021\n"}, "old-firmware", INFORMS, "2021-06-30, 5 years old"),
    ({"/proc/sys/kernel/perf_event_max_sample_rate": "32000\n"}, "perf-rate-lowered", INFORMS, "32,000"),
    ({"/proc/sys/kernel/nmi_watchdog": "1\n"}, "nmi-watchdog", INFORMS, "is 1"),
    (
        {name: None for name in QUIET if "/tracing/" in name},
        "no-tracefs",
        INFORMS,
        "tracefs is not mounted",
    ),
    (
        {"/sys/kernel/tracing/events/lock/contention_begin/id": None},
        "no-tracepoints",
        INFORMS,
        "no lock:contention_begin",
    ),
    ({"/sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, "lockdown", INFORMS, "(integrity)"),
    ({"/proc/sys/kernel/kptr_restrict": "2\n"}, "no-symbols", INFORMS, "kptr_restrict is 2"),
]


@pytest.mark.parametrize(
    ("files", "code", "weight", "told"), FOUND, ids=[f"{place}-{row[1]}" for place, row in enumerate(FOUND)]
)
def test_a_machine_that_is_otherwise_is_found_and_told(
    tmp_path: Path, files: dict[str, str | None], code: str, weight: str, told: str
) -> None:
    here = context(tree(tmp_path, files))
    assert found(here).get(code) == weight
    assert told in cause(here, code)


def test_every_finding_says_what_it_does_and_what_mends_it(tmp_path: Path) -> None:
    told = []
    for place, (files, code, _, _) in enumerate(FOUND):
        here = context(tree(tmp_path / str(place), files))
        told += [finding for finding in examine(here).findings if finding.code == code]
    assert len(told) >= len(FOUND)
    assert [finding.code for finding in told if not (finding.cause and finding.effect and finding.remedy)] == []


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("memless", "node-without-memory", "node 2 has no memory"),
        ("cpuless", "node-without-cpus", "node 2 has memory and no CPU"),
        ("1n", "too-few-nodes", "2 nodes are needed, and this machine has 1"),
        ("cpuset", "too-few-nodes", "node 1 is outside the cpuset"),
        ("2n-smt", "smt", "2 cores are shared"),
    ],
)
def test_captured_guests_are_what_they_were_made_as(name: str, code: str, told: str) -> None:
    """How each was made is in tests/fixtures/topology/README.md."""
    with open_tree(FIXTURES / f"{name}.tar.xz") as root:
        assert told in cause(context(root), code)


def test_a_guest_serves_where_nodes_are_too_few_and_then_nothing_blocks(tmp_path: Path) -> None:
    here = context(tree(tmp_path, {"/proc/self/status": status(mems="0")}), denied_calls={"move_pages": errno.EPERM})
    assert examine(here).is_blocked
    lacking = examine(replace(here, guest_lacks=("qemu is not installed",)))
    assert weights(lacking)["too-few-nodes"] == BLOCKS
    assert "qemu is not installed" in lacking.findings[0].cause
    served = examine(replace(here, guest_lacks=()))
    assert (served.takes_guest, served.is_blocked) == (True, False)
    assert (weights(served)["too-few-nodes"], weights(served)["calls-refused"]) == (BIASES, INFORMS)


@pytest.mark.parametrize(("asked", "serves"), [(Needs(8), True), (Needs(9), False), (Needs(1, (8,)), False)])
def test_a_guest_serves_as_many_nodes_as_the_largest_has(tmp_path: Path, asked: Needs, serves: bool) -> None:
    told = examine(context(tree(tmp_path), asked, guest_lacks=(), most_guest_nodes=8))
    assert (told.takes_guest, told.is_blocked) == (serves, not serves)
    if not serves:
        assert "the largest guest has 8" in told.findings[0].cause
        assert "install" not in told.findings[0].remedy


@pytest.mark.parametrize(
    ("target", "driver", "weight"),
    [
        ("pingpong", "move_pages", BLOCKS),
        ("pingpong", "autonuma", BLOCKS),
        ("pingpong", "null", None),
        ("forktree", "mbind", BLOCKS),
        ("numa02", "autonuma", INFORMS),
    ],
)
def test_one_node_is_no_source_and_target_as_a_run_says(
    tmp_path: Path, target: str, driver: str, weight: str | None
) -> None:
    asked = needs_of(catalog.find(target), driver, node_count=1)
    assert found(context(tree(tmp_path), asked)).get("one-node") == weight
    # In a guest source and target would be the same, too.
    far = needs_of(catalog.find(target), driver, node_count=1, node_ids=(5,))
    assert found(context(tree(tmp_path / "far"), far, guest_lacks=())).get("one-node") == weight


def test_nodes_without_any_cpu_have_nobody_to_use_them(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{NODE}/node1/cpulist": "\n"})
    assert found(context(root, Needs(1, (1,))))["node-without-cpus"] == BLOCKS
    assert found(context(root, Needs(2, (0, 1))))["node-without-cpus"] == BIASES


def test_a_driver_that_the_kernel_lacks_blocks(tmp_path: Path) -> None:
    here = context(tree(tmp_path), Needs(driver="home-node"), driver_lacks=("it needs Linux 5.17",))
    assert (found(here)["driver"], cause(here, "driver")) == (BLOCKS, "driver home-node: it needs Linux 5.17")


def test_what_is_of_this_kernel_does_not_bias_a_guest_and_load_does(tmp_path: Path) -> None:
    """Each with a kernel of its own: the knobs, swap and page cache of the machine below are not the guest's."""
    unfit: dict[str, str | None] = {
        "/proc/meminfo": "SwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
        "/proc/sys/vm/zone_reclaim_mode": "1\n",
        f"{NODE}/node1/meminfo": meminfo(1, 8 << 20, 2 << 20, 5 << 20),
        "/proc/cpuinfo": "flags : fpu hypervisor\n",
        "/proc/loadavg": "7.00 1.00 1.00 9/200 300\n",
        f"{CPU}/cpufreq/boost": "1\n",
        f"{LIMITED}/run.scope/cpu.max": "150000 100000\n",
    }
    here = context(
        tree(tmp_path, unfit), Needs(4), left=Left(killed=("ksm.run is 0",)), read_only="it is mounted read-only"
    )
    own = {"swap-on", "thp-always", "zone-reclaim", "page-cache-on-node", "virtual-machine", "left-altered"}
    felt = {"too-few-nodes", "load-average", "boost", "cpu-quota"}
    there = found(replace(here, guest_lacks=(), most_guest_nodes=8))
    assert {code for code, weight in there.items() if weight == BIASES} == felt
    assert own | felt | {"knobs-not-writable"} <= set(there)
    assert own <= {code for code, weight in found(here).items() if weight == BIASES}


def test_nodes_asked_for_by_number_are_looked_for(tmp_path: Path) -> None:
    root = tree(tmp_path)
    assert "too-few-nodes" not in found(context(root, Needs(2, (0, 1))))
    assert "node 5 is asked for" in cause(context(root, Needs(2, (1, 5))), "too-few-nodes")


@pytest.mark.parametrize(
    ("mode", "number", "code"),
    [(2, errno.EPERM, "seccomp"), (0, errno.EPERM, "calls-refused"), (0, errno.ENOSYS, "kernel-without-numa")],
)
def test_what_refuses_the_calls_is_told_apart(tmp_path: Path, mode: int, number: int, code: str) -> None:
    root = tree(tmp_path, {"/proc/self/status": status(seccomp_mode=mode)})
    assert found(context(root, denied_calls={"move_pages": number}))[code] == BLOCKS
    assert found(context(root, denied_calls={"mbind": number}))[code] == INFORMS
    mbind = needs_of(catalog.find("pingpong"), "mbind")
    assert found(context(root, mbind, denied_calls={"mbind": number}))[code] == BLOCKS


@pytest.mark.parametrize(
    ("driver", "value", "weight"),
    [("autonuma", "0", BLOCKS), ("autonuma", "1", INFORMS), ("mbind", "0", INFORMS), ("mbind", "1", BIASES)],
)
def test_knobs_that_cannot_be_written_weigh_what_they_cost(
    tmp_path: Path, driver: str, value: str, weight: str
) -> None:
    root = tree(tmp_path, {"/proc/sys/kernel/numa_balancing": f"{value}\n"})
    here = context(root, Needs(driver=driver), read_only="it is mounted read-only")
    assert found(here)["knobs-not-writable"] == weight


def test_a_run_that_has_set_its_knobs_is_told_what_they_are_now(tmp_path: Path) -> None:
    root = tree(tmp_path, {"/proc/sys/kernel/numa_balancing": "1\n"})
    assert "balancing-on" in found(context(root, Needs(driver="mbind", has_set_knobs=True)))
    assert found(context(root, Needs(driver="autonuma", has_set_knobs=True))) == {}
    off = tree(tmp_path, {"/proc/sys/kernel/numa_balancing": "0\n"})
    assert "balancing-off" in found(context(off, Needs(driver="autonuma", has_set_knobs=True)))


def test_a_workload_that_fits_on_no_node_is_told_and_one_that_fits_is_not(tmp_path: Path) -> None:
    root = tree(tmp_path)
    # 7 GiB are free, of which three quarters may be used.
    assert "6 GiB" in cause(context(root, needs_of(catalog.find("numa01"), "autonuma")), "node-memory-short")
    assert "node-memory-short" not in found(context(root, needs_of(catalog.find("numa02"), "autonuma")))


def test_passes_that_were_asked_for_are_blocked_by_what_they_lack(tmp_path: Path) -> None:
    root = tree(tmp_path, {name: None for name in QUIET if "/tracing/" in name})
    assert found(context(root, Needs(passes=("lock",))))["no-tracefs"] == BLOCKS
    assert found(context(root, Needs(passes=("stat",))))["no-tracefs"] == INFORMS


def second(root_of: Path, files: dict[str, str | None]) -> Sample:
    """A second between a quiet machine and the same with files changed."""
    before, after = (tree(root_of / name, changed) for name, changed in (("before", {}), ("after", files)))
    return Sample(read(before, 10.0), read(after, 11.0), ticks_per_s=100, own_pid=0)


def test_stolen_time_is_a_share_of_all_cpus(tmp_path: Path) -> None:
    sample = second(tmp_path, {"/proc/stat": "cpu  100 0 100 1000 0 0 0 40 0 0\n"})
    here = replace(context(tree(tmp_path / "before")), sample=sample)
    assert "10.0%" in cause(here, "stolen-time")  # 40 ticks of 4 x 100


def test_a_busy_process_is_named_and_what_called_the_doctor_is_not(tmp_path: Path) -> None:
    family = {"/proc/50/stat": stat(50, "bash", 1, 0), "/proc/51/stat": stat(51, "python (x) 1", 50, 0)}
    before = tree(tmp_path / "before", {**family, "/proc/60/stat": stat(60, "cc1 a) b", 1, 0)})
    later = {
        "/proc/stat": "cpu  260 0 100 1000 0 0 0 0 0 0\n",
        "/proc/50/stat": stat(50, "bash", 1, 40),
        "/proc/51/stat": stat(51, "python (x) 1", 50, 30),
        "/proc/60/stat": stat(60, "cc1 a) b", 1, 90),
    }
    after = tree(tmp_path / "after", later)
    sample = Sample(read(before, 0.0), read(after, 1.0), 100, own_pid=51)
    assert [(other.pid, other.name, round(other.share, 2)) for other in sample.others()] == [(60, "cc1 a) b", 0.9)]
    # 160 ticks were busy, 70 of them ours.
    assert round(sample.others_cpus(), 2) == 0.9
    assert "cc1 a) b (process 60) 90%" in cause(replace(context(before), sample=sample), "other-load")


def test_pages_that_migrate_by_themselves_are_counted(tmp_path: Path) -> None:
    sample = second(tmp_path, {"/proc/vmstat": "pgmigrate_success 1100\nnuma_pages_migrated 550\n"})
    here = replace(context(tree(tmp_path / "before")), sample=sample)
    assert cause(here, "already-migrating") == "1,000 pages migrated in 1 s, 500 of them by balancing"


def test_heat_while_the_doctor_looks_biases(tmp_path: Path) -> None:
    sample = second(tmp_path, {f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "2\n"})
    assert found(replace(context(tree(tmp_path / "before")), sample=sample))["throttled"] == BIASES


def test_pressure_that_is_over_is_the_callers_own_and_not_told(tmp_path: Path) -> None:
    waited = pressure("30.00", 3_000_000)
    root = tree(tmp_path, {"/proc/pressure/cpu": waited})
    for total_us, told in ((3_000_000, False), (3_200_000, True)):
        after = tree(tmp_path / "after", {"/proc/pressure/cpu": pressure("30.00", total_us)})
        sample = Sample(read(root, 0.0), read(after, 1.0), 100)
        assert ("pressure" in found(replace(context(root), sample=sample))) is told


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (ClockState(True, False, 0.0001, 12.5), None),
        (ClockState(True, False, -0.5, 0.0), "clock-steps"),
        (ClockState(True, True, 0.0, 0.0), "clock-steps"),
        (ClockState(False, False, 0.0, 0.0), "clock-unsynchronised"),
    ],
)
def test_the_clock_as_adjtimex_tells_it(tmp_path: Path, state: ClockState, code: str | None) -> None:
    assert list(found(context(tree(tmp_path), clock=state))) == ([] if code is None else [code])


MENDED_BY_A_RUN: dict[str, str | None] = {
    "/sys/kernel/mm/ksm/run": "1\n",
    "/proc/sys/vm/numa_stat": "0\n",
    "/proc/sys/kernel/numa_balancing": "2\n",
    "/sys/kernel/mm/numa/demotion_enabled": "true\n",
    "/sys/devices/virtual/memory_tiering/memory_tier4/nodelist": "0\n",
    "/sys/devices/virtual/memory_tiering/memory_tier22/nodelist": "1\n",
}


def test_what_every_run_sets_biases_only_where_it_could_not(tmp_path: Path) -> None:
    root = tree(tmp_path, MENDED_BY_A_RUN)
    codes = {"ksm-running", "numastat-frozen", "tiering-on", "demotion-on"}
    free = examine(context(root))
    assert {weights(free)[code] for code in codes} == {INFORMS}
    assert {finding.remedy for finding in free.findings if finding.code in codes} == {finding_module.RUN_SETS_IT}
    for here in (context(root, read_only="it is mounted read-only"), context(root, Needs(has_set_knobs=True))):
        assert {weights(examine(here))[code] for code in codes} == {BIASES}


def test_what_the_profile_quiet_sets_names_it_first(tmp_path: Path) -> None:
    files: dict[str, str | None] = {
        f"{CPU}/cpufreq/policy1/scaling_governor": "powersave\n",
        f"{CPU}/cpufreq/boost": "1\n",
        f"{CPU}/cpu0/cpuidle/state1/disable": "0\n",
        "/proc/sys/kernel/nmi_watchdog": "1\n",
        "/proc/sys/vm/zone_reclaim_mode": "1\n",
        "/proc/78/stat": stat(78, "irqbalance", 1, 5),
        f"{NODE}/node1/meminfo": meminfo(1, 8 << 20, 4 << 20, 3 << 20),
    }
    mends = {finding.code: finding.remedy for finding in examine(context(tree(tmp_path, files))).findings}
    codes = {"governor", "boost", "idle-states", "nmi-watchdog", "zone-reclaim", "irqbalance", "page-cache-on-node"}
    assert codes <= set(mends)
    assert [code for code in codes if not mends[code].startswith("numabench run --profile quiet")] == []
    quiet = profiles.load("quiet").knobs
    own = {"cpufreq.scaling_governor", "cpufreq.boost", "cpuidle.disable", "kernel.nmi_watchdog"}
    assert own | {"vm.zone_reclaim_mode", "irqbalance", "vm.drop_caches"} <= set(quiet)


def test_another_run_is_told_and_refuses_one_that_sets_knobs(tmp_path: Path) -> None:
    root = tree(tmp_path)
    other = Left(other_run=("kernel.numa_balancing is 0",))
    assert found(context(root, left=other)) == {"another-run": BLOCKS}
    assert found(context(root, Needs(has_set_knobs=True), left=other))["another-run"] == BIASES
    assert "none goes on, and none has left a knob set" not in {
        fine.text for fine in examine(context(root, left=other)).fine
    }


@pytest.mark.parametrize(("state", "runs"), [("S", True), ("R", True), ("T", False), ("Z", False)])
def test_a_service_that_is_stopped_does_not_run(tmp_path: Path, state: str, runs: bool) -> None:
    """Profile quiet stops irqbalance with SIGSTOP: state T of proc_pid_stat(5)."""
    told = stat(78, "irqbalance", 1, 5).replace(" S ", f" {state} ")
    assert ("irqbalance" in found(context(tree(tmp_path, {"/proc/78/stat": told})))) is runs


def test_what_a_killed_run_left_is_told(tmp_path: Path) -> None:
    here = context(tree(tmp_path), left=Left(killed=("kernel.numa_balancing was 1 and was set to 0",)))
    assert "was set to 0" in cause(here, "left-altered")


def test_perf_opens_a_file_for_each_event_and_cpu(tmp_path: Path) -> None:
    root = tree(tmp_path)
    assert "few-open-files" not in found(context(root, open_files=1024))
    many = replace(topology.read(root), online_cpus=tuple(range(256)))
    assert "few-open-files" in found(replace(context(root, open_files=1024), topology=many))


V1 = {
    "/proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n",
    "/proc/self/mountinfo": (
        "40 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 30 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    ),
    # No limit, as the kernel shows it for pages of 4 KiB.
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": "536870912\n",
    "/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000\n",
    "/sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
}


def test_limits_of_version_1_are_read_by_controller(tmp_path: Path) -> None:
    root = tree(tmp_path, V1)
    memory, quota = cgroup.memory_limit(root), cgroup.cpu_quota(root)
    assert memory is not None
    assert quota is not None
    assert (memory.value, memory.file) == (512 << 20, "/sys/fs/cgroup/memory/box/memory.limit_in_bytes")
    assert (quota.value, cgroup.task_limit(root)) == (0.5, None)


def test_in_a_container_what_is_mounted_is_the_callers_own(tmp_path: Path) -> None:
    """Version 1 in a container: the path is the host's, and the mount begins there (proc_pid_mountinfo(5))."""
    root = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "4:memory:/docker/abc\n",
            "/proc/self/mountinfo": "40 30 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n",
        },
    )
    limit = cgroup.memory_limit(root)
    assert limit is not None
    assert limit.value == 1 << 20


def test_of_several_limits_the_tightest_counts(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{LIMITED}/memory.max": "1000\n", f"{LIMITED}/run.scope/memory.max": "2000\n"})
    limit = cgroup.memory_limit(root)
    assert limit is not None
    assert (limit.value, limit.file) == (1000, f"{LIMITED}/memory.max")


def test_an_empty_tree_with_a_meminfo_is_no_reason_to_fail(tmp_path: Path) -> None:
    root = tree(tmp_path, {name: None for name in QUIET if name != "/proc/meminfo"})
    assert found(context(root))["too-few-nodes"] == BLOCKS


# What is read by others than the doctor, and refused there.
_READ_ELSEWHERE = {"/proc/self/status", f"{NODE}/online", f"{CPU}/online", "/proc/vmstat"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(sorted(set(QUIET) - _READ_ELSEWHERE)), min_size=1, max_size=8),
    text=st.one_of(
        st.text(max_size=40), st.sampled_from(["", "-1\n", "max\n", "9" * 30, "a=b=c", "\0\0", "some avg10="])
    ),
)
def test_no_rubbish_in_any_file_ends_the_doctor(tmp_path: Path, names: list[str], text: str) -> None:
    root = Root(tmp_path) if (tmp_path / "proc").exists() else tree(tmp_path)
    try:
        for name in names:
            (tmp_path / name.lstrip("/")).write_text(text, encoding="utf-8", errors="replace")
        examine(context(root))
    finally:
        for name in names:
            (tmp_path / name.lstrip("/")).write_text(QUIET[name])


def test_a_captured_tree_is_not_waited_for(tmp_path: Path) -> None:
    sample = take(tree(tmp_path), 3600.0)
    assert sample.elapsed_s == 0
