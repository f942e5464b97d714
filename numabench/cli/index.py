"""`numabench index LAB`: every figure of every night in one SQLite file, and as Parquet for pandas."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.errors import EXIT_FAILED

if TYPE_CHECKING:
    from numabench.store.index import Measured

INDEX_LAB = typer.Argument(metavar="LAB", help="The lab's directory: that with its nights.")


def index(
    lab: Annotated[Path, INDEX_LAB],
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make all of it anew, not only what is new.")] = False,
    parquet: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a Parquet file a night, a row a value, into DIR.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was added as JSON.")] = False,
) -> None:
    """Bring a lab's index up to what its nights have published.

    The index is derived: take it away, and this makes it again. It exits with 1 where a run cannot be read; the others
    are in the index then.
    """
    from numabench.store import index as of_lab

    if parquet is not None:
        from numabench.report import parquet as writer

        writer.require()
    counts = of_lab.update(lab, measured, anew=rebuild)
    written = 0
    if parquet is not None:
        with of_lab.open_index(lab) as opened:
            written = writer.write(parquet, of_lab.VALUE_COLUMNS, opened.nights(), opened.values)
    for message in counts.unreadable:
        from numabench.report.escape import escape

        print(f"numabench: left out: {escape(message)}", file=sys.stderr)
    if as_json:
        import dataclasses
        import json

        print(json.dumps({**dataclasses.asdict(counts), "parquet_files": written}, indent=1))
    else:
        print(
            f"{counts.runs} runs of {counts.boots} boots in {counts.nights} nights added to {lab / of_lab.INDEX_FILE}"
            + (f", {counts.removed} boots removed: they are gone, or others" if counts.removed else "")
        )
        if parquet is not None:
            print(f"{written} nights written to {parquet}")
    if counts.unreadable:
        raise typer.Exit(EXIT_FAILED)


def measured(path: Path) -> Measured:
    """What the index keeps of a run: its figures, also of its observing passes. Raises `ResultError`."""
    from numabench import store
    from numabench.cli import recordings
    from numabench.comparison import metrics
    from numabench.store.index import Measured, MetricRow

    run = store.load(path)
    figures = metrics.values(run, recordings.observations(run))
    rows = []
    for (placement, metric), values in figures.items():
        total = metrics.total_of(metric.name)
        row = MetricRow(
            name=f"{placement}/{metric.name}",
            label=metric.label,
            unit=metric.unit,
            better=metric.better,
            is_time=metric.is_time,
            step=metric.step,
            relative_step=metric.relative_step,
            total=f"{placement}/{total}" if total else "",
        )
        rows.append((row, values))
    return Measured(
        run.run_id,
        run.created_utc,
        str(run.identity.get("boot_id", "")),
        run.machine.kernel_release,
        run.workload,
        tuple(sorted(rows, key=lambda row: row[0].name)),
    )
