"""The phases of migration in text: a row each, with what waits for locks inside, and what could not be placed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.phases import OUTSIDE, PHASES

if TYPE_CHECKING:
    from numabench.analysis.phases import PhaseReport, PhaseShare


def render(report: PhaseReport) -> str:
    """A table of phases as shares of all weight, empty where no stack belongs to a migration."""
    if not report.migration_weight:
        return ""
    shares = [share for share in report.shares if share.phase != OUTSIDE]
    lines = [
        (
            f"# Migration: {_percent(report.migration_weight, report.total_weight)} of everything, "
            f"for {', '.join(_drivers(shares, report.migration_weight))}"
        ),
        "# Phase                         Share  waiting for a lock",
        "# .......................... ........  ..................",
    ]
    for phase in sorted(PHASES, key=lambda phase: -report.weight(phase)):
        weight = report.weight(phase)
        if weight:
            lines.append(f"# {phase:<26} {_percent(weight, report.total_weight):>8}  {_waits(shares, phase, report)}")
    lines.append(
        f"# Not placed: {_percent(report.unplaced_weight, report.migration_weight)} of migration; "
        f"outside migration: {_percent(report.total_weight - report.migration_weight, report.total_weight)}"
    )
    return "".join(line.rstrip() + "\n" for line in lines)


def _percent(weight: int, total: int) -> str:
    return f"{weight * 100 / total if total else 0:.2f}%"


def _drivers(shares: list[PhaseShare], total: int) -> list[str]:
    sums: dict[str, int] = {}
    for share in shares:
        sums[share.driver] = sums.get(share.driver, 0) + share.weight
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return [f"{driver or 'an unknown driver'} {_percent(weight, total)}" for driver, weight in ordered]


def _waits(shares: list[PhaseShare], phase: str, report: PhaseReport) -> str:
    sums: dict[str, int] = {}
    for share in shares:
        if share.phase == phase and share.waits_for:
            sums[share.waits_for] = sums.get(share.waits_for, 0) + share.weight
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{lock} {_percent(weight, report.total_weight)}" for lock, weight in ordered)
