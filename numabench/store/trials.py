"""Reading one trial's directory: trial.json, what was sampled, what was recorded."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.fields import DAMAGED, Fields, parse
from numabench.record import (
    WORKER,
    Clock,
    DataCheck,
    MemorySlice,
    Observed,
    PageCensus,
    Sample,
    SamplerCost,
    Snapshot,
    ThreadWork,
    Trial,
    WorkloadThread,
)
from numabench.store.driven import read_family, read_mover, read_units, read_victim, read_wrong_word
from numabench.store.files import EVENTS_FILE, PRUNED_FILE, SAMPLES_FILE, TRIAL_FILE, TRIALS

if TYPE_CHECKING:
    from pathlib import Path


def read_trial(directory: Path, nodes: int) -> Trial:
    """The trial in a directory, of a run with so many nodes. Raises `ResultError`, naming the file that is damaged."""
    trial = parse(directory / TRIAL_FILE, read_bytes(directory / TRIAL_FILE))
    if not (directory / EVENTS_FILE).is_file():
        raise ResultError(f"{directory / EVENTS_FILE} is missing", DAMAGED)
    _check_size(directory / EVENTS_FILE, trial)
    check, pages = trial.optional_object("check"), trial.optional_object("pages")
    first_touch = trial.optional_object("first_touch")
    sampler = trial.object("sampler")
    counters = trial.object("counters")
    observed = trial.optional_object("observe")
    family, units = trial.optional_object("family"), trial.optional_object("units")
    unit_bytes, unit_pages = _read_unit(trial.object("workload"))
    return Trial(
        index=trial.count("index"),
        placement=trial.text("placement"),
        role=trial.text("role"),
        status=trial.text("status"),
        message=trial.text("message", ""),
        exit_status=trial.optional_integer("exit_status"),
        clock=_read_clock(trial.object("clock")),
        slices=tuple(
            MemorySlice(row.count("pid"), row.count("bytes"), row.indices("threads")) for row in trial.rows("slices")
        ),
        threads=tuple(
            WorkloadThread(
                row.count("thread"),
                row.count("pid"),
                row.count("tid", 0),
                row.text("name", ""),
                row.text("policy", ""),
                row.text("role", WORKER),
                row.text("cpus", ""),
            )
            for row in trial.rows("threads")
        ),
        done=tuple(_read_work(row) for row in trial.rows("done")),
        check=None
        if check is None
        else DataCheck(check.count("bytes"), check.count("wrong"), check.object("first_wrong").fields or None),
        first_touch=None if first_touch is None else first_touch.node_counts("nodes"),
        before=_read_snapshot(counters.optional_object("before")),
        after=_read_snapshot(counters.optional_object("after")),
        pages=None if pages is None else _read_census(pages),
        sampler=SamplerCost(
            sampler.count("samples", 0),
            sampler.count("interval_ns", 0),
            sampler.count("cpu_ns", 0),
            sampler.number("busy", 0.0),
        ),
        samples=_read_samples(directory / SAMPLES_FILE, trial, nodes + 1),
        knobs=trial.texts_by_name("knobs"),
        observed=None if observed is None else _read_observed(directory, trial, observed),
        movers=tuple(read_mover(row) for row in trial.rows("movers")),
        victims=tuple(read_victim(row) for row in trial.rows("victims")),
        wrong_words=tuple(read_wrong_word(row) for row in trial.rows("wrong_words")),
        family=None if family is None else read_family(family),
        units=None if units is None else read_units(units),
        flags=tuple(trial.object("workload").object("driver").texts("flags")),
        unit_bytes=unit_bytes,
        unit_pages=unit_pages,
    )


def _read_unit(start: Fields) -> tuple[int | None, int | None]:
    """The page that movers count in: its bytes, and how many base pages it is."""
    unit_bytes = start.object("driver").optional_count("unit_bytes")
    if unit_bytes is None:
        return None, None
    page_bytes = start.count("page_bytes")
    if not page_bytes or not unit_bytes or unit_bytes % page_bytes:
        start.wrong("driver.unit_bytes", "a number of whole pages")
    return unit_bytes, unit_bytes // page_bytes


def _read_observed(directory: Path, trial: Fields, observed: Fields) -> Observed:
    """What a pass recorded. A trial that failed may have no recording."""
    name, kallsyms = observed.text("file"), observed.text("kallsyms", "")
    for key, value in (("file", name), ("kallsyms", kallsyms)):
        if "/" in value or value in {".", ".."}:
            observed.wrong(key, "a file's name")
    file = directory / name
    if name in trial.object("files").fields and not _is_pruned(directory, name):
        if not file.is_file():
            raise ResultError(f"{file} is missing", DAMAGED)
        _check_size(file, trial)
    return Observed(
        recipe=observed.text("recipe"),
        file=file if file.is_file() else None,
        kallsyms=directory.parents[1] / kallsyms if kallsyms else None,
        events=tuple(observed.texts("events")),
        frequency_hz=observed.optional_count("frequency_hz"),
        size_bytes=file.stat().st_size if file.is_file() else 0,
        perf_version=observed.text("perf", ""),
        enabled_ns=observed.optional_integer("enabled"),
        disabled_ns=observed.optional_integer("disabled"),
        functions=observed.texts_by_name("functions"),
        not_counted=observed.texts_by_name("not_counted"),
        missed=observed.counts("missed"),
    )


def _is_pruned(directory: Path, name: str) -> bool:
    """Whether a trial's recording is gone because somebody wanted its room."""
    run = directory.parents[1]
    note = run / PRUNED_FILE
    if (directory / name).is_file() or not note.is_file():
        return False
    return f"{TRIALS}/{directory.name}/{name}" in parse(note, read_bytes(note)).texts("recordings")


def _check_size(file: Path, trial: Fields) -> None:
    """A file that was cut where a line ends is found by its size."""
    stored = trial.object("files").optional_object(file.name)
    if stored is not None and stored.count("bytes") != file.stat().st_size:
        raise ResultError(f"{file} has {file.stat().st_size} bytes, {stored.count('bytes')} were written", DAMAGED)


def _read_clock(clock: Fields) -> Clock:
    return Clock(*(clock.optional_integer(name) for name in ("started", "ready", "go", "stop", "ended")))


def _read_work(row: Fields) -> ThreadWork:
    return ThreadWork(
        row.count("pid"), row.count("thread"), row.count("bytes"), row.count("elapsed_ns"), row.count("cpu_ns", 0)
    )


def _read_census(pages: Fields) -> PageCensus:
    before, after = pages.object("before"), pages.object("after")
    return PageCensus(
        before=before.node_counts("nodes"),
        after=after.node_counts("nodes"),
        before_status=before.counts("status"),
        after_status=after.counts("status"),
        moved=pages.pair_counts("moved"),
        unknown=pages.count("unknown", 0),
    )


def _read_snapshot(snapshot: Fields | None) -> Snapshot | None:
    if snapshot is None:
        return None
    return Snapshot(
        t_ns=snapshot.integer("t_ns"),
        vmstat=snapshot.counts("vmstat"),
        interrupts=snapshot.counts("interrupts"),
        nodes=snapshot.object("nodes").fields,
        sched=snapshot.object("sched").fields,
        pressure=snapshot.object("pressure").fields,
        loadavg=snapshot.numbers("loadavg"),
        cpu_stalled_us=snapshot.object("pressure").object("cpu").object("some").optional_count("total_us"),
        lock_events=snapshot.counts("lock_events"),
    )


def _read_samples(file: Path, trial: Fields, columns: int) -> tuple[Sample, ...]:
    data = read_bytes(file)
    _check_size(file, trial)
    if data and not data.endswith(b"\n"):
        raise ResultError(f"{file} is cut in its last line", DAMAGED)
    samples = tuple(_read_sample(parse(file, line), columns) for line in data.splitlines())
    if any(later.t_ns < earlier.t_ns for earlier, later in itertools.pairwise(samples)):
        raise ResultError(f"{file}: its samples are not in the order of time", DAMAGED)
    return samples


def _read_sample(sample: Fields, columns: int) -> Sample:
    rows = sample.matrix("pages", columns)
    sizes = sample.integers("slice_bytes") if "slice_bytes" in sample.fields else None
    if sizes is not None and (len(sizes) != len(rows) or min(sizes, default=0) < 0):
        sample.wrong("slice_bytes", "a size for each slice")
    return Sample(
        t_ns=sample.integer("t_ns"),
        pages=rows,
        cpu_nodes=sample.integers("cpu_node"),
        status=sample.counts("status"),
        vmstat=sample.counts("vmstat"),
        slice_bytes=sizes,
        due_ns=sample.optional_integer("due_ns"),
    )


def read_bytes(file: Path) -> bytes:
    """What a file holds. Raises `ResultError` where it is missing or may not be read."""
    try:
        if not file.is_file() and file.exists():
            raise ResultError(f"{file} is not a file", DAMAGED)
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ResultError(f"{file} is missing", DAMAGED) from None
    except OSError as error:
        raise ResultError(f"cannot read {file}: {error.strerror}", "see who may read it") from None
