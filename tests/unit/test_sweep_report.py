"""Reports of sweeps: tables, data, lines, pictures, and what could not run."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import driven_sweep
import pytest
from driven_sweep import BATCHES, MB_PER_S, THREADS, trial

from numabench import store
from numabench.analysis.sweep import SweepSummary, summarize
from numabench.record import SweepAxis
from numabench.report import sweep_csv, sweep_json, sweep_png
from numabench.report.sweep_tables import pair_tables, tables
from numabench.report.sweep_text import render

if TYPE_CHECKING:
    from pathlib import Path

PAGES = SweepAxis("pages", ("4k", "thp"))
# Twice the threads are twice the rate, and from batch 64 on nothing is gained.
RATES = {"1": 1.0, "8": 10.0, "64": 50.0, "512": 50.0}


def unit(values: dict[str, str], repeat: int) -> dict[str, Any]:
    rate = RATES[values["batch"]] * int(values["threads"]) * (1 + repeat / 100)
    return trial(rate, stall_ns=1000 * int(values["batch"]))


def summary(tmp_path: Path, *axes: SweepAxis, budget_s: float | None = None, **changed: Any) -> SweepSummary:
    path = driven_sweep.write(tmp_path, axes or (PAGES, THREADS, BATCHES), unit, 2, **changed)
    return summarize(store.load_sweep(path), budget_s)


def test_batches_are_rows_threads_are_columns_and_page_types_are_tables(tmp_path: Path) -> None:
    found = tables(summary(tmp_path))
    assert [table.fixed for table in found] == [(("pages", "4k"),), (("pages", "thp"),)]
    assert [(table.rows, table.columns) for table in found] == [(BATCHES, THREADS)] * 2
    cell = found[1].cells["64", "2"]
    assert cell.cell.values == ("thp", "2", "64")


def test_what_differs_takes_the_columns_where_threads_do_not(tmp_path: Path) -> None:
    drivers, orders = SweepAxis("driver", ("move_pages", "mbind")), SweepAxis("order", ("sequential", "random"))

    def layout(*axes: SweepAxis) -> list[tuple[str, str, int]]:
        path = driven_sweep.write(tmp_path / "-".join(axis.name for axis in axes), axes, lambda _values, _repeat: None)
        found = tables(summarize(store.load_sweep(path)))
        return [
            (each.rows.name if each.rows else "", each.columns.name if each.columns else "", len(found))
            for each in found
        ][:1]

    assert layout(BATCHES, PAGES) == [("batch", "pages", 1)]
    assert layout(drivers, PAGES, orders, BATCHES) == [("batch", "order", 4)]
    assert layout(PAGES) == [("pages", "", 1)]
    assert layout() == [("", "", 1)]


def test_the_text_has_medians_with_both_ends_and_the_knees(tmp_path: Path) -> None:
    text = render(summary(tmp_path, budget_s=100e-6))
    assert text.splitlines()[0] == "sweep of pingpong: 16 cells, 2 repeats"
    # 1,010 and 1,020 pages a second; their mean.
    low, median, high = (f"{MB_PER_S * rate:.4g}" for rate in (1.01, 1.015, 1.02))
    row = next(line for line in text.splitlines() if line.split()[:1] == ["1"])
    assert row.split()[1:3] == [median, f"({low}..{high})"]
    assert text.count("  pages thp, threads 2: 64") == 2, "the knee and the budget"
    assert "stays below 100 us" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_asked(tmp_path: Path, width: int) -> None:
    many = SweepAxis("threads", tuple(str(2**power) for power in range(8)))
    text = render(summary(tmp_path, many, BATCHES), width)
    assert max(map(len, text.splitlines())) <= width
    assert "threads 128" in text


def test_cells_that_could_not_run_have_their_reasons(tmp_path: Path) -> None:
    def lacking(values: dict[str, str], repeat: int) -> dict[str, Any] | None:
        return None if values["pages"] == "thp" else unit({"threads": "1", **values}, repeat)

    path = driven_sweep.write(tmp_path, (PAGES, BATCHES), lacking, 2)
    for each in store.read_plan(path).units:
        if each.status == "pending" and each.repeat == 1:
            store.write_outcome(path, each.name, "cannot-run", ("no huge page\x1b[2J is free",))
    text = render(summarize(store.load_sweep(path)))
    assert "4 of 16 units are left. Go on with it: numabench sweep --resume" in " ".join(text.split())
    assert "[1] no huge page\\x1b[2J is free" in text
    assert "\x1b" not in text
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["1"])
    assert row[-2:] == ["-", "[1]"], "one of its units has not run yet"


def test_a_guests_sweep_says_that_its_times_are_none(tmp_path: Path) -> None:
    path = driven_sweep.write(tmp_path, (BATCHES, THREADS), unit, 1)
    for file in path.glob("units/*/run.json"):
        record = json.loads(file.read_text())
        record["identity"] |= {"where": "guest", "accelerator": "tcg"}
        file.write_text(json.dumps(record))
    found = summarize(store.load_sweep(path))
    assert "Times are an emulated guest's and not performance." in render(found)
    assert sweep_json.report(found)["is_guest"]


def test_the_data_say_what_the_text_says(tmp_path: Path) -> None:
    report = json.loads(json.dumps(sweep_json.report(summary(tmp_path, budget_s=100e-6)), allow_nan=False))
    assert (report["complete"], len(report["cells"]), len(report["units"])) == (True, 16, 32)
    cell = next(each for each in report["cells"] if each["values"] == {"pages": "4k", "threads": "2", "batch": "8"})
    assert cell["mb_per_s"]["values"] == pytest.approx([MB_PER_S * 20.2, MB_PER_S * 20.4])
    assert cell["stall_p99_ns"]["median"] == 8000
    assert [(curve["knee"], curve["in_budget"]) for curve in report["curves"]] == [(64, 64)] * 4


def test_lines_are_one_a_unit_with_all_that_it_measured(tmp_path: Path) -> None:
    path = driven_sweep.write(tmp_path, (BATCHES, THREADS), unit, 1)
    (path / "units" / store.read_plan(path).units[3].name / "trials" / "0001").rename(tmp_path / "away")
    sweep = store.load_sweep(path)
    rows = list(csv.DictReader(io.StringIO(sweep_csv.render(sweep))))
    assert len(rows) == 8
    assert (rows[3]["status"], rows[3]["mb_per_s"]) == ("pending", "")
    for row, entry in zip(rows, sweep.units, strict=True):
        assert (row["batch"], row["threads"]) == sweep.cells[entry.cell].values
        if row["status"] == "ok":
            rate = RATES[row["batch"]] * int(row["threads"]) * 1.01
            assert float(row["mb_per_s"]) == pytest.approx(MB_PER_S * rate)
            assert float(row["pages_per_s"]) == pytest.approx(1000 * rate)
            assert int(row["stall_p99_ns"]) == 1000 * int(row["batch"])
            assert (int(row["confirmed_pages"]), int(row["calls"])) == (round(1000 * rate), 10)


def pairs_sweep(tmp_path: Path, nodes: int) -> SweepSummary:
    """Each pair there and back; the way back takes twice as long. One pair has not run."""
    values = tuple(f"{a}>{b}" for a in range(nodes) for b in range(a + 1, nodes))

    def both_ways(cell: dict[str, str], _repeat: int) -> dict[str, Any] | None:
        if cell["pair"] == values[-1] and nodes > 2:
            return None
        source, target = map(int, cell["pair"].split(">"))
        made = trial()
        mover = made["movers"][0]
        there = mover["directions"][0] | {"from": source, "to": target}
        back = there | {"from": target, "to": source, "busy_ns": 2 * there["busy_ns"]}
        mover["directions"] = [there, back]
        return made

    return summarize(store.load_sweep(driven_sweep.write(tmp_path, (SweepAxis("pair", values),), both_ways, 1)))


def test_a_pair_has_both_of_its_directions(tmp_path: Path) -> None:
    found = pairs_sweep(tmp_path, 3)
    (table,) = pair_tables(found)
    assert table.nodes == (0, 1, 2)
    assert sorted(table.pairs) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    rates = {pair: each.mb_per_s.median for pair, each in table.pairs.items() if each.mb_per_s is not None}
    # 1,000 pages in 10 ms there, in 20 ms back.
    assert rates[0, 2] == pytest.approx(MB_PER_S * 100)
    assert rates[2, 0] == pytest.approx(MB_PER_S * 50)
    text = render(found)
    assert next(line.split() for line in text.splitlines() if line.startswith("    2 ")) == ["2", "204.8", "-", "-"]


@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_heat_maps_are_drawn_for_any_number_of_nodes(tmp_path: Path, nodes: int) -> None:
    paths = sweep_png.draw(pairs_sweep(tmp_path, nodes), tmp_path / "png")
    assert "pairs-1.png" in [path.name for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_curves_are_drawn_and_a_sweep_without_victims_has_no_picture_of_them(tmp_path: Path) -> None:
    paths = sweep_png.draw(summary(tmp_path / "a", budget_s=1e-4), tmp_path / "png")
    assert [path.name for path in paths] == ["throughput.png", "stall.png"]

    def alone(values: dict[str, str], repeat: int) -> dict[str, Any]:
        return unit({"threads": "1", **values}, repeat) | {"victims": []}

    path = driven_sweep.write(tmp_path / "b", (BATCHES,), alone, 1)
    paths = sweep_png.draw(summarize(store.load_sweep(path)), tmp_path / "png2")
    assert [path.name for path in paths] == ["throughput.png"]


def test_a_sweep_that_has_not_begun_is_a_report_too(tmp_path: Path) -> None:
    path = driven_sweep.write(tmp_path, (PAGES, BATCHES), lambda _values, _repeat: None, 1)
    found = summarize(store.load_sweep(path))
    assert "8 of 8 units are left" in render(found)
    assert json.dumps(sweep_json.report(found), allow_nan=False)
    assert sweep_png.draw(found, tmp_path / "png") == ()
