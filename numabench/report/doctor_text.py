"""The doctor's findings as text for somebody who does not know the project: the verdict first, then what mends what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.doctor.finding import BIASES, BLOCKS, INFORMS
from numabench.report.page import BOLD, RED, YELLOW, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.doctor.diagnosis import Diagnosis
    from numabench.record import MachineFinding

_MIN_WIDTH = 60
_TITLES = {
    BLOCKS: "Blocks: no run can take place until this is mended",
    BIASES: "Biases: a run can take place, and its figures are wrong, or may be",
    INFORMS: "Informs: good to know when figures are read",
}
_STYLES = {BLOCKS: RED, BIASES: YELLOW, INFORMS: BOLD}
_NAMED = 6


def render(diagnosis: Diagnosis, width: int = 100, colour: bool = False) -> str:
    """The verdict, the findings by weight, and what was found fine; no line is longer than `width` (at least 60)."""
    page = Page(max(width, _MIN_WIDTH), colour)
    page.text(verdict(diagnosis), _verdict_style(diagnosis))
    for weight, title in _TITLES.items():
        findings = diagnosis.weighing(weight)
        if findings:
            page.blank()
            page.text(title, _STYLES[weight])
        for finding in findings:
            _finding(page, finding)
    if diagnosis.fine:
        page.blank()
        page.text("Looked at and fine" + (" (this machine, not the guest)" if diagnosis.takes_guest else ""), BOLD)
        for fine in diagnosis.fine:
            page.item(fine.subject, fine.text, 2)
    return "\n".join(page.lines) + "\n"


def verdict(diagnosis: Diagnosis) -> str:
    """One line: whether a run can take place, and what is the matter with it."""
    blocks, biases = diagnosis.weighing(BLOCKS), diagnosis.weighing(BIASES)
    if blocks:
        return f"blocked: {names(blocks)}"
    guest = "in a guest (QEMU), since this machine has too few nodes" if diagnosis.takes_guest else ""
    if biases:
        things = f"{len(biases)} thing{'s' * (len(biases) != 1)}"
        return f"a run would take place {guest or 'here'}, and {things} would bias its figures: {names(biases)}"
    return f"ready{', ' + guest if guest else ''}: nothing here stands against a valid run"


def _verdict_style(diagnosis: Diagnosis) -> str:
    if diagnosis.is_blocked:
        return RED
    return YELLOW if diagnosis.weighing(BIASES) else BOLD


def names(findings: Sequence[MachineFinding]) -> str:
    """The first findings by their codes."""
    more = f" and {len(findings) - _NAMED} more" if len(findings) > _NAMED else ""
    return ", ".join(finding.code for finding in findings[:_NAMED]) + more


def _finding(page: Page, finding: MachineFinding) -> None:
    page.text(f"{finding.code}: {finding.cause}", indent=2, hang=2)
    page.text(f"effect: {finding.effect}", indent=4, hang=2)
    page.text(f"mend:   {finding.remedy}", indent=4, hang=2)
    if finding.source:
        page.text(f"see:    {finding.source}", indent=4, hang=2)
