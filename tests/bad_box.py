"""A place to be hostile in: recorded runs, files of every bad kind, and whether any of it was touched."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import damage
import driven_run
import driven_sweep
import lab_nights
import synthetic_run
from driven_run import GO_NS, MILLISECOND_NS, PAGE, SECOND_NS

from numabench import store
from numabench.cli.index import measured
from numabench.fleet import ledger, night_file, quarantine, reboot, unattended, verdict
from numabench.fleet.outcome import OK, Outcome
from numabench.fleet.quarantine import Quarantined
from numabench.host.knob_journal import Journal
from numabench.record import SweepAxis
from numabench.state_dir import JOURNAL
from numabench.store import boot_values
from numabench.store.index import INDEX_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_PERF = Path(__file__).parent / "fixtures/perf/perf-6.1"
_TOPOLOGY = Path(__file__).parent / "fixtures/topology"
MOVER, VICTIM = 200, 201
RUN, OTHER_RUN = "20261125T010000Z-pingpong-aaaaaa", "20261125T020000Z-pingpong-bbbbbb"
SWEEP = driven_sweep.SWEEP_ID
KERNEL = "6.1.0-box"
CELL, METRIC = lab_nights.CELL, lab_nights.FIGURE
NIGHTS = (PRUNED_NIGHT, OLD_NIGHT, LAST_NIGHT) = ("2026-11-23", "2026-11-24", "2026-11-25")
# What a lab has that is made anew at will.
DERIVED = (INDEX_FILE, verdict.VERDICT_FILE)
_LOCKS = frozenset({".night.lock", ".unattended.lock", ".acknowledged.lock"})
_LAB = b"""
[lab]
directory = "lab"
keep_nights = 1
[kernels.k]
cached = "none"
[machines.vm]
guest = { nodes = 2 }
[[experiment]]
name = "e"
workload = "pingpong"
options = { nodes = 2 }
"""


def unpacked(name: str) -> bytes:
    """A recording of two migratepages(8), made in a guest (tests/fixtures/perf)."""
    return lzma.decompress((_PERF / f"{name}.xz").read_bytes())


class Box:
    """The place, below an empty directory. `cwd` is where commands run, and where they may write."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.results, self.inputs, self.kept, self.cwd = (at / name for name in ("results", "in", "kept", "out"))
        for path in (self.inputs, self.kept, self.cwd, at / "tmp", at / "home", at / "bin"):
            path.mkdir()
        _write_run(self.results, RUN)
        _write_run(self.results, OTHER_RUN)
        driven_sweep.write(self.results, [SweepAxis("batch", ("1", "8"))], lambda *_: driven_sweep.trial(), 1)
        _write_inputs(self.inputs)
        _write_lab(self.lab)
        _write_kernel(at / "cache/numabench/kernels" / KERNEL)
        _write_profile(at / "home/numabench/profiles/own.toml")
        plan = {"kernel": KERNEL, "boots": 1, "arms": ["one-mapping"]}
        store.write_note(at / "reproduced", "reproduce.json", plan)
        for name in ("precious", "precious.tar"):
            (self.kept / name).write_text("precious\n")
        (self.kept / "read-only").mkdir()
        (self.kept / "read-only").chmod(0o555)
        os.mkfifo(self.kept / "fifo")
        self._before = self.state()

    @property
    def lab(self) -> Path:
        """A lab with three nights that have ended; of the first no run is left."""
        return self.inputs / "lab"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a command: no program is found, so that no guest can boot and nothing can be fetched."""
        return {
            "PATH": str(self.at / "bin"),
            "HOME": str(self.at / "home"),
            "TMPDIR": str(self.at / "tmp"),
            "XDG_CACHE_HOME": str(self.at / "cache"),
            "XDG_CONFIG_HOME": str(self.at / "home"),
            "NUMABENCH_STATE_DIR": str(self.at / "state/numabench"),
            "MPLCONFIGDIR": str(self.at / "home"),
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
            # As systemd says it of a night that it killed.
            "SERVICE_RESULT": "signal",
        }

    @property
    def places(self) -> dict[str, str]:
        """What stands in `{}` in a command line of the tests."""
        names = {"run": RUN, "other": OTHER_RUN, "sweep": SWEEP, "kernel": KERNEL}
        names |= {"cell": CELL, "metric": METRIC, "night": LAST_NIGHT}
        return {"at": str(self.at), "in": str(self.inputs), **names}

    def state(self) -> dict[str, tuple[object, ...]]:
        """Every file but those below `cwd`, by what changes when it is written to, whoever sets its times back.

        Of a lab's lock it counts that it is there: whoever has it writes into it who that is.
        """
        found: dict[str, tuple[object, ...]] = {}
        directories = [str(self.at)]
        while directories:
            for entry in os.scandir(directories.pop()):
                status = entry.stat(follow_symlinks=False)
                if entry.name in _LOCKS:
                    found[entry.path] = (status.st_mode, status.st_ino)
                elif not entry.is_dir(follow_symlinks=False):
                    found[entry.path] = (status.st_mode, status.st_ino, status.st_size, status.st_ctime_ns)
                elif entry.path != str(self.cwd):
                    found[entry.path] = (status.st_mode,)
                    directories.append(entry.path)
        return found

    def accept(self) -> None:
        """Take what was changed on purpose for the state that is to stay."""
        self._before = self.state()

    @contextlib.contextmanager
    def keeping(self, names: Iterable[str]) -> Iterator[None]:
        """Have files of the lab be as they were when the block ends, those of some names."""
        files = [Path(at, name) for at, _, there in os.walk(self.lab) for name in set(there) & {*names}]
        with contextlib.ExitStack() as stack:
            stack.callback(self.accept)
            for path in files:
                stack.enter_context(damage.kept(path))
            self.accept()
            yield

    def changes(self) -> list[str]:
        """What is not as it was before."""
        now = self.state()
        changed = [path for path in self._before.keys() | now.keys() if self._before.get(path) != now.get(path)]
        self._before = now
        return sorted(changed)

    def written(self) -> list[str]:
        """What lies below `cwd`; it is taken away."""
        found = []
        for directory, names, files in os.walk(self.cwd, topdown=False):
            for name in files:
                found.append(name)
                os.unlink(os.path.join(directory, name))  # noqa: PTH108, PTH118
            for name in names:
                found.append(name)
                os.rmdir(os.path.join(directory, name))  # noqa: PTH106, PTH118
        return found


def _write_run(results: Path, run_id: str) -> None:
    """A driven run of a guest with a measured trial, and passes of cpu, lock and cost."""
    threads = [
        {"pid": tid, "tid": tid, "thread": number, "name": "migratepages", "policy": "default", "role": role}
        for number, (tid, role) in enumerate([(MOVER, "mover"), (VICTIM, "victim")])
    ]
    work = driven_run.mover(
        0,
        pid=MOVER,
        confirmed=(1 << 30) // PAGE,
        elapsed_ns=2 * SECOND_NS,
        cpu_ns=SECOND_NS,
        query_ns=SECOND_NS // 4,
        directions=[driven_run.direction(0, 1, (1 << 30) // PAGE, 250 * MILLISECOND_NS, calls=6)],
    )
    recipes = {"cpu": "cpu-clock", "lock": "lock"}
    record = driven_run.run_record("migrate_pages")
    record["run_id"] = run_id
    record["identity"] |= {"where": "guest", "accelerator": "tcg"}
    record["plan"]["order"] = [["default", "measure"], *(["default", f"observe:{recipe}"] for recipe in recipes)]
    writer = store.create(results, run_id)
    writer.write_run(record)
    facts: dict[str, Any] = {"threads": threads, "movers": [work], "victims": [driven_run.victim(1, pid=VICTIM)]}
    writer.write_trial(1, driven_run.trial_record(1, **facts), b'{"event":"start"}\n', synthetic_run.samples())
    (writer.path / "kallsyms-0123").write_bytes(unpacked("kallsyms"))
    for index, (recipe, name) in enumerate(recipes.items(), start=2):
        observe = {
            "recipe": recipe,
            "file": f"{recipe}.data",
            "events": [name],
            "frequency_hz": 499,
            "perf": "6.1.187",
            "argv": ["perf", "record"],
            "enabled": GO_NS - 1,
            "disabled": GO_NS + 11 * SECOND_NS,
            "kallsyms": "kallsyms-0123",
        }
        recording = writer.scratch(index) / f"{recipe}.data"
        recording.write_bytes(unpacked(f"{name}.data"))
        seen = driven_run.trial_record(index, role=f"observe:{recipe}", observe=observe, **facts)
        writer.write_trial(index, seen, b"{}\n", synthetic_run.samples(), [recording])
    writer.write_end(driven_run.synthetic_run.END | {"restored": []})


def _write_inputs(inputs: Path) -> None:
    recording = unpacked("cpu-clock.data")
    contents = {
        "perf.data": recording,
        "names.toml": b'[rename]\nold = "new"\n',
        "profile.toml": b'inherits = "none"\n[knobs]\n"ksm.run" = 0\n',
        "state.json": b'{"kind": "numabench state", "values": {"ksm.run": "0"}}\n',
        "tree.tar": lzma.decompress((_TOPOLOGY / "1n.tar.xz").read_bytes()),
        "lab.toml": _LAB,
        "fragment": b"CONFIG_KSM=y\n",
        "patch": b"--- a/mm/x.c\n+++ b/mm/x.c\n@@ -1 +1 @@\n-a\n+b\n",
        "empty": b"",
        "rubbish": damage.RUBBISH,
        "cut.json": b'{"schema_version": 1, "kind": "numa',
        "deep.json": b"[" * 100_000,
        "deep.toml": b"[rename]\nold = " + b"[" * 100_000,
        "text": b"words\n",
        "knob": b"0\n",
        "unreadable": recording,
        "image": _bzimage("6.1.0-image"),
    }
    for name, content in contents.items():
        (inputs / name).write_bytes(content)
    (inputs / "unreadable").chmod(0)
    os.mkfifo(inputs / "fifo")
    (inputs / "directory").mkdir()
    (inputs / "directory/file").write_text("a\n")
    (inputs / "source").mkdir()
    (inputs / "source/Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\n")
    (inputs / "source/Kconfig").write_text("")
    (inputs / "loop").symlink_to("loop")
    (inputs / "dangling").symlink_to("nowhere")


def _write_lab(lab: Path) -> None:
    """Nights of one cell, whose runs the first has no more, and the files of a lab that say what is known."""
    for night in NIGHTS:
        path = lab_nights.write_night(lab, night)
        boot = lab_nights.publish(path, 10.0)
        if night == PRUNED_NIGHT:
            boot_values.keep(boot, measured)
            shutil.rmtree(boot / boot_values.RUNS)
        made = night_file.load(path)
        book = ledger.Ledger(made, lab)
        book.end_cell(made.blocks[0], CELL, Outcome(OK))
        book.note("night-ended", how="done")
    (lab / "acknowledged.toml").write_text(
        f'[[change]]\ncell = "{CELL}"\nmetric = "{METRIC}"\nnight = "{LAST_NIGHT}"\nreason = "it is known"\n'
    )
    quarantine.add(lab, Quarantined("box", "other", "it does not come up", "2026-11-25T22:00:00+00:00", LAST_NIGHT))
    for lock in _LOCKS:
        (lab / lock).touch()
    verdict.bring_up(lab, LAST_NIGHT, measured, print)


def _bzimage(release: str) -> bytes:
    """As much of a kernel image as says what it is (Documentation/arch/x86/boot.rst)."""
    setup = bytearray(4096)
    setup[0x202:0x206] = b"HdrS"
    setup[0x20E:0x210] = struct.pack("<H", 0x400)
    setup[0x600 : 0x600 + len(release)] = release.encode()
    return bytes(setup)


def _write_kernel(directory: Path) -> None:
    """A kernel in the cache."""
    (directory / "boot").mkdir(parents=True)
    (directory / f"boot/vmlinuz-{KERNEL}").write_bytes(_bzimage(KERNEL))
    record = {"release": KERNEL, "source": "debian:box", "sha256": "0"}
    (directory / "kernel.json").write_text(json.dumps(record))


def _write_profile(file: Path) -> None:
    """A profile of the user's own."""
    file.parent.mkdir(parents=True)
    file.write_text('summary = "a few"\ninherits = "none"\n[knobs]\n"ksm.run" = 1\n')


@contextlib.contextmanager
def left_by_a_killed_run(box: Box) -> Iterator[Path]:
    """The journal of a run that was killed when it had set a knob, which is a file of the box."""
    directory = box.at / "state/numabench"
    directory.mkdir(parents=True)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    knob = str(box.inputs / "knob")
    journal = Journal(directory)
    for record in (
        {"boot_id": boot_id},
        {
            "name": "ksm.run",
            "path": knob,
            "before": "1",
            "wanted": "0",
            "outcome": "set",
            "message": "",
            "kind": "file",
            "began": "",
            "boot_id": boot_id,
        },
        {"writing": "ksm.run", "wanted": "0"},
    ):
        journal.append(record)
    try:
        yield directory / JOURNAL
    finally:
        shutil.rmtree(box.at / "state")


BROKEN_OFF = (unattended.FILE, reboot.FILE)


@contextlib.contextmanager
def broken_off(box: Box) -> Iterator[None]:
    """A lab's machine went down for the first block of a night before its plan was made, which is told of as ended."""
    words = {"night": "2026-11-26", "block": "b01", "token": "t", "boot_id": "b"}
    files = [box.lab / name for name in BROKEN_OFF]
    for file in files:
        store.write_note(box.lab, file.name, {"schema_version": 1, **words})
    try:
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)
        box.accept()
