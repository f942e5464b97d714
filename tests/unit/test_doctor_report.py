"""The doctor's findings as text and data, in a run's record, and in its report."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from doctor_machines import CPU, context, status, tree
from synthetic_run import run_record, write

from numabench import doctor, store
from numabench.doctor import load
from numabench.doctor.diagnosis import Diagnosis, examine
from numabench.doctor.finding import BIASES, INFORMS, Finding
from numabench.errors import ResultError
from numabench.record import MachineFinding
from numabench.report import doctor_json, doctor_text, run_json, run_text

SWAP = MachineFinding("swap-on", BIASES, "swap", "2 GiB of swap are on", "pages go there", "sudo swapoff -a", "vm.rst")
SMT = MachineFinding("smt", INFORMS, "CPU idle and SMT", "2 cores are shared", "slower", "echo off")


def unfit(directory: Path) -> Diagnosis:
    return examine(context(tree(directory, {"/proc/self/status": status(mems="0"), f"{CPU}/cpufreq/boost": "1\n"})))


@pytest.mark.parametrize("width", [60, 72, 100, 200])
def test_no_line_is_wider_than_asked(tmp_path: Path, width: int) -> None:
    assert max(map(len, doctor_text.render(unfit(tmp_path), width).splitlines())) <= width


def test_the_verdict_comes_first_and_findings_by_weight(tmp_path: Path) -> None:
    lines = doctor_text.render(unfit(tmp_path), 200).splitlines()
    assert lines[0] == "blocked: too-few-nodes"
    titles = [line.partition(":")[0] for line in lines if line and not line.startswith(" ")]
    assert titles == ["blocked", "Blocks", "Biases", "Informs", "Looked at and fine"]
    place = next(number for number, line in enumerate(lines) if line.startswith("  boost:"))
    assert [line.strip().partition(":")[0] for line in lines[place + 1 : place + 4]] == ["effect", "mend", "see"]


def test_a_machine_without_findings_is_ready(tmp_path: Path) -> None:
    quiet = examine(context(tree(tmp_path)))
    assert doctor_text.verdict(quiet) == "ready: nothing here stands against a valid run"
    assert doctor_json.report(quiet)["status"] == "ready"


def test_colours_are_only_there_when_asked_for_and_texts_are_escaped() -> None:
    evil = Finding("other-load", BIASES, "other load", "\x1b[31mcc1\x07", "slower", "kill it", "")
    plain = doctor_text.render(Diagnosis((evil,), ()), 100)
    assert "\x1b" not in plain
    assert "\x07" not in plain
    assert "\x1b[33m" in doctor_text.render(Diagnosis((evil,), ()), 100, colour=True)


def test_the_data_says_what_the_text_says(tmp_path: Path) -> None:
    diagnosis = unfit(tmp_path)
    shown = json.loads(json.dumps(doctor_json.report(diagnosis), allow_nan=False))
    assert (shown["status"], shown["verdict"]) == ("blocked", "blocked: too-few-nodes")
    assert shown["findings"] == [asdict(finding) for finding in diagnosis.findings]


def test_a_run_keeps_what_was_found_and_its_report_shows_it(tmp_path: Path) -> None:
    record = {**run_record(), "doctor": [asdict(SWAP), asdict(SMT)]}
    run = store.load(write(tmp_path, record))
    assert run.doctor == (SWAP, SMT)
    shown = run_text.render(run)
    assert "doctor            biases: swap-on: 2 GiB of swap are on\n" in shown
    assert "                  to know: smt\n" in shown
    assert run_json.report(run)["doctor"] == record["doctor"]


def test_of_a_run_on_which_nothing_was_found_the_report_says_so(tmp_path: Path) -> None:
    run = store.load(write(tmp_path, {**run_record(), "doctor": []}))
    assert "doctor            nothing stood against a valid run\n" in run_text.render(run)


def test_a_run_of_before_has_none_and_its_report_says_nothing(tmp_path: Path) -> None:
    run = store.load(write(tmp_path))
    assert run.doctor is None
    assert "doctor" not in run_text.render(run)
    assert run_json.report(run)["doctor"] is None


@pytest.mark.parametrize("wrong", ["all is well", [1], [{"code": 1}]])
def test_what_is_no_list_of_findings_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ResultError, match=r"run\.json"):
        store.load(write(tmp_path, {**run_record(), "doctor": wrong}))


def codes_in_the_source() -> set[str]:
    """What a `Finding` is made with, and the services that are one each."""
    codes = set()
    for path in Path(doctor.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Finding":
                codes.add(ast.literal_eval(call.args[0]) if isinstance(call.args[0], ast.Constant) else None)
    return {code for code in codes if code} | {unit for _, _, unit in load._SERVICES.values()}


def test_the_table_in_the_documentation_has_every_finding() -> None:
    table = (Path(__file__).parents[2] / "docs/doctor.md").read_text().partition("## What is found")[2]
    listed = re.findall(r"`([a-z0-9-]+)`", table.partition("How the less")[0])
    assert len(listed) == len(set(listed))
    assert set(listed) == codes_in_the_source()
