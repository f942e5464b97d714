"""The morning as JUnit's XML: a cell is a test case, a regression its failure.

There is no standard; this keeps to the elements and attributes of Jenkins' schema (junit-10.xsd of its xUnit plugin).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from numabench.process import paste
from numabench.report.escape import escape, escape_lines
from numabench.report.nightly import words
from numabench.report.nightly.morning import BLOCKED, OK

if TYPE_CHECKING:
    from numabench.report.nightly.morning import Changed, Morning, TonightsCell

# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(morning: Morning) -> str:
    """The whole file."""
    worse = {one.cell: one for one in morning.worse}
    known = {cell.name for cell in morning.cells}
    failures = len(worse)
    errors = sum(cell.state not in {OK, BLOCKED} and cell.name not in worse for cell in morning.cells)
    skipped = sum(cell.state == BLOCKED and cell.name not in worse for cell in morning.cells)
    cases = [_case(cell, worse.get(cell.name)) for cell in morning.cells]
    # A change is new for some nights, in which its cell need not be measured.
    cases += [_absent(one) for one in morning.worse if one.cell not in known]
    totals = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    suites = ElementTree.Element("testsuites", {"name": _clean(morning.lab), **totals})
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": _clean(f"{morning.lab} {morning.night}"), **totals, "skipped": str(skipped)}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("night", morning.night), ("nights", str(morning.nights)), ("verdict", words.verdict(morning))):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    suite.extend(cases)
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _case(cell: TonightsCell, worse: Changed | None) -> ElementTree.Element:
    case = _element(cell.name, f"{cell.machine}.{cell.kernel}")
    if worse is not None:
        _fail(case, worse)
    elif cell.state != OK:
        kind = "skipped" if cell.state == BLOCKED else "error"
        told = {"message": _clean(cell.reason or cell.state)}
        ElementTree.SubElement(case, kind, told if kind == "skipped" else {"type": cell.state, **told})
    return case


def _absent(worse: Changed) -> ElementTree.Element:
    case = _element(worse.cell, "earlier")
    _fail(case, worse)
    return case


def _element(name: str, group: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"name": _clean(name), "classname": _clean(group)})


def _fail(case: ElementTree.Element, worse: Changed) -> None:
    lines = [
        f"{words.label(shift.figure.label, shift.figure.key.metric)}: {words.levels(shift.change, shift.figure.unit)}, "
        f"{words.size_and_night(shift.change)}"
        for shift in worse.shifts
    ]
    message = lines[0] + (f"; and {words.count(len(lines) - 1, 'figure')} more" if len(lines) > 1 else "")
    if kernel := words.kernel(worse):
        lines.append(f"its kernel is another since then: {kernel}")
    lines += [f"{mover.name}: {words.moved(mover)}" for mover in worse.graph.movers]
    lines += [f"along {' > '.join(worse.graph.path)}"] if worse.graph.path else []
    lines += [f"again: {paste(worse.again)}"] if worse.again else []
    failure = ElementTree.SubElement(case, "failure", {"type": "regression", "message": _clean(message)})
    failure.text = _clean("\n".join(lines), lines=True)


def _clean(text: str, *, lines: bool = False) -> str:
    """A text that is printable, and that XML can hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", escape_lines(text) if lines else escape(text))
