"""values.json of a published boot: what the index keeps of its runs, so that these can go and their figures stay.

The directories stay the truth: where it is there, it stands for the runs, whether these are still there or not.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from numabench.errors import ResultError
from numabench.fields import Fields, parse
from numabench.store.index_tables import Measured, MetricRow, scanned
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, refuse, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUES_FILE = "values.json"
RUNS = "runs"
# 1: the first.
SCHEMA_VERSION = 1


def of_boot(boot: Path, metrics_of: Callable[[Path], Measured]) -> tuple[tuple[Path, Measured], ...]:
    """The runs of a published boot, by name, with what the index keeps of each; read from them unless it is kept.

    `metrics_of` reads a run's directory. Raises `ResultError` where something cannot be read.
    """
    file = boot / VALUES_FILE
    if not file.exists():
        return tuple((run, metrics_of(run)) for run in scanned(boot / RUNS))
    fields = parse(file, read_bytes(file))
    check_version(fields, SCHEMA_VERSION)
    return tuple((boot / RUNS / row.text("run"), _measured(row)) for row in fields.rows("runs"))


def keep(boot: Path, metrics_of: Callable[[Path], Measured]) -> None:
    """Have what the index keeps of a boot's runs on the disk apart from them. Raises `ResultError`."""
    file = boot / VALUES_FILE
    if file.exists():
        return
    rows = [{"run": run.name, **_plain(measured)} for run, measured in of_boot(boot, metrics_of)]
    partial = file.with_name(f".tmp-{VALUES_FILE}")
    try:
        record = json.dumps({"schema_version": SCHEMA_VERSION, "runs": rows}, separators=(",", ":"), allow_nan=False)
        write_durably(partial, record.encode("ascii") + b"\n")
        partial.rename(file)
        fsync_directory(boot)
    except ValueError as error:
        raise ResultError(f"{boot}: its figures cannot be kept: {error}", "its runs stay") from error
    except OSError as error:
        partial.unlink(missing_ok=True)
        refuse(file, error)


def _plain(measured: Measured) -> dict[str, Any]:
    plain = dataclasses.asdict(measured)
    plain["figures"] = [
        {**dataclasses.asdict(metric), "values": [float(value) for value in values]}
        for metric, values in measured.figures
    ]
    return plain


def _measured(row: Fields) -> Measured:
    return Measured(
        **row.strings("run_id created_utc boot_id release workload"),
        figures=tuple((_metric(figure), _values(figure)) for figure in row.rows("figures")),
    )


def _metric(row: Fields) -> MetricRow:
    return MetricRow(
        **row.strings("name label unit better total"),
        is_time=row.fields.get("is_time") is True,
        step=row.number("step", 0.0),
        relative_step=row.number("relative_step", 0.0),
    )


def _values(row: Fields) -> tuple[float, ...]:
    """Any finite number: what a figure is, its size included, is not known here."""
    values = row.array("values")
    if not all(type(value) is float for value in values):
        row.wrong("values", "a list of numbers")
    return tuple(values)
