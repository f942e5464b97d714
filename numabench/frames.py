"""A run as tidy pandas frames, for notebooks: one row an observation, units in the columns' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench import store
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from numabench.record import Run, Trial


@dataclass(frozen=True)
class RunFrames:
    """A run's tables. `trial` joins them all.

    - `trials`: one row a trial: `trial`, `placement`, `role`, `status`, `elapsed_s` (GO to stop), `moved_pages`,
      `moved_bytes` (confirmed: pages on another node than at READY), `unknown_pages`, `stored_bytes`, `wrong_bytes`,
      `pages_before_nodeN`, `pages_after_nodeN`.
    - `samples`: one row a sample, slice and node: `trial`, `sample`, `t_s` (since GO), `slice`, `node` (-1: elsewhere),
      `pages` (found there), `sampled_pages` (of the slice), `size_bytes` (of the slice).
    - `threads`: one row a sample and thread: `trial`, `sample`, `t_s`, `thread`, `cpu_node` (-1: unknown).
    - `counters`: one row a trial and counter of /proc/vmstat or /proc/interrupts: `trial`, `source`, `counter`,
      `before`, `after`, `delta`.
    - `series`: one row a sample and counter of /proc/vmstat: `trial`, `sample`, `t_s`, `counter`, `value`.
    """

    trials: pd.DataFrame
    samples: pd.DataFrame
    threads: pd.DataFrame
    counters: pd.DataFrame
    series: pd.DataFrame


def load_frames(path: str | Path) -> RunFrames:
    """Load a run directory. Raises `ResultError` as `numabench.store.load` does."""
    return make_frames(store.load(path))


def make_frames(run: Run) -> RunFrames:
    """The frames of a run that is loaded. A frame without rows keeps its columns."""
    return RunFrames(
        trials=_frame([_trial_row(run, trial) for trial in run.trials], _trial_columns(run)),
        samples=_frame(
            [row for trial in run.trials for row in _sample_rows(run, trial)],
            ["trial", "sample", "t_s", "slice", "node", "pages", "sampled_pages", "size_bytes"],
        ),
        threads=_frame(
            [row for trial in run.trials for row in _thread_rows(trial)],
            ["trial", "sample", "t_s", "thread", "cpu_node"],
        ),
        counters=_frame(
            [row for trial in run.trials for row in _counter_rows(trial)],
            ["trial", "source", "counter", "before", "after", "delta"],
        ),
        series=_frame(
            [row for trial in run.trials for row in _series_rows(trial)],
            ["trial", "sample", "t_s", "counter", "value"],
        ),
    )


def _frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=pd.Index(columns))


def _trial_columns(run: Run) -> list[str]:
    nodes = [f"pages_{when}_node{node}" for when in ("before", "after") for node in run.nodes]
    return [
        *("trial", "placement", "role", "status", "elapsed_s", "moved_pages", "moved_bytes", "unknown_pages"),
        *("stored_bytes", "wrong_bytes", *nodes),
    ]


def _trial_row(run: Run, trial: Trial) -> tuple[Any, ...]:
    clock, pages, check = trial.clock, trial.pages, trial.check
    known = clock.go_ns is not None and clock.stop_ns is not None
    moved = None if pages is None else sum(pages.moved.values())
    censuses = [None, None] if pages is None else [pages.before, pages.after]
    return (
        trial.index,
        trial.placement,
        trial.role,
        trial.status,
        ((clock.stop_ns or 0) - (clock.go_ns or 0)) / NS_PER_S if known else None,
        moved,
        None if moved is None else moved * run.page_bytes,
        None if pages is None else pages.unknown,
        sum(work.stored_bytes for work in trial.done) if trial.done else None,
        None if check is None else check.wrong_bytes,
        *(None if census is None else census.get(node, 0) for census in censuses for node in run.nodes),
    )


def _times(trial: Trial) -> list[tuple[int, float]]:
    """The samples' places and seconds since GO; none for a trial that had no GO."""
    if trial.clock.go_ns is None:
        return []
    go_ns = trial.clock.go_ns
    return [(place, (sample.t_ns - go_ns) / NS_PER_S) for place, sample in enumerate(trial.samples)]


def _sample_rows(run: Run, trial: Trial) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for place, t_s in _times(trial):
        sample = trial.samples[place]
        for number, counts in enumerate(sample.pages):
            size = trial.slice_bytes(sample, number)
            rows += [
                (trial.index, place, t_s, number, node, pages, sum(counts), size)
                for node, pages in zip((*run.nodes, -1), counts, strict=True)
            ]
    return rows


def _thread_rows(trial: Trial) -> list[tuple[Any, ...]]:
    return [
        (trial.index, place, t_s, thread, node)
        for place, t_s in _times(trial)
        for thread, node in enumerate(trial.samples[place].cpu_nodes)
    ]


def _counter_rows(trial: Trial) -> list[tuple[Any, ...]]:
    if trial.before is None or trial.after is None:
        return []
    sources = (
        ("vmstat", trial.before.vmstat, trial.after.vmstat),
        ("interrupts", trial.before.interrupts, trial.after.interrupts),
    )
    return [
        (trial.index, source, name, before[name], after[name], after[name] - before[name])
        for source, before, after in sources
        for name in before
        if name in after
    ]


def _series_rows(trial: Trial) -> list[tuple[Any, ...]]:
    return [
        (trial.index, place, t_s, name, value)
        for place, t_s in _times(trial)
        for name, value in trial.samples[place].vmstat.items()
    ]
