"""The machine's knobs as text: what is not as it was, each group, and what a profile would set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.report.page import BOLD, YELLOW, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.host.knobs import Altered
    from numabench.host.profiles import Profile
    from numabench.host.state import Difference, Row

_BY = {
    "killed": "a run that was killed set it: numabench state restore",
    "run": "a run that is going has set it, and puts it back",
    "applied": "numabench state apply set it: numabench state restore",
    "foreign": "somebody else set it after numabench had: numabench state restore --force",
}
_NARROW, _VALUE = 48, 22


def show(
    rows: Sequence[Row], profile: Profile, altered: Sequence[Altered], left: Sequence[str], *, width: int, colour: bool
) -> str:
    """Every knob that is here, in groups; those that the profile would set are marked with `*`."""
    page = Page(width, colour)
    altered_lines(page, altered, left)
    absent = [row.name for row in rows if row.value is None]
    for group in dict.fromkeys(row.group for row in rows):
        shown = [row for row in rows if row.group == group and row.value is not None]
        if not shown:
            continue
        page.text(group, BOLD)
        wide = min(max(len(row.name) for row in shown), _NARROW)
        value = min(max(len(_value(row)) for row in shown), _VALUE)
        for row in shown:
            _row(page, row, wide, value)
        page.blank()
    count = sum(row.differs for row in rows)
    if profile.knobs:
        page.text(f"* {_knobs(count)} that profile {profile.name} would set while a run lasts" if count else
                  f"All knobs are as profile {profile.name} wants them.", YELLOW if count else "")  # fmt: skip
    if absent:
        page.text(f"Not here, or not to be read: {', '.join(absent)}.")
    return "\n".join(page.lines) + "\n"


def _value(row: Row) -> str:
    return f"{row.value} -> {row.wanted}" if row.differs else row.value or ""


def _row(page: Page, row: Row, wide: int, value: int) -> None:
    what = f"{row.meaning}: {row.why}" if row.differs and row.why else row.meaning
    lead = f"{'*' if row.differs else ' '} {row.name:<{wide}}  {_value(row):<{value}}  "
    page.text(lead + what, YELLOW if row.differs else "", hang=min(len(lead), max(page.width - 24, 4)))


def altered_lines(page: Page, altered: Sequence[Altered], left: Sequence[str]) -> None:
    """What is not as it was before numabench came."""
    if not altered and not left:
        return
    page.text("Not as it was", BOLD)
    for entry in altered:
        by = "the machine was booted since: numabench state restore forgets it" if entry.is_stale else _BY[entry.by]
        page.text(f"  {entry.name} is {entry.now}, it was {entry.before}; {by}", YELLOW, hang=4)
    for text in left:
        page.text(f"  {text}: numabench state restore", YELLOW, hang=4)
    page.blank()


def show_differences(found: Sequence[Difference], first: str, second: str, *, width: int, colour: bool) -> str:
    """What two states have differently."""
    page = Page(width, colour)
    if not found:
        page.text(f"No knob differs between {first} and {second}.")
        return "\n".join(page.lines) + "\n"
    wide = max(len(each.name) for each in found)
    first, second = _short(first), _short(second)
    column = min(max(len(first), *(len(each.first or "-") for each in found)), _NARROW)
    page.text(f"{'':<{wide}}  {first:<{column}}  {second}", BOLD)
    for each in found:
        page.text(f"{each.name:<{wide}}  {each.first or '-':<{column}}  {each.second or '-'}", hang=wide + 2)
    return "\n".join(page.lines) + "\n"


def _short(name: str) -> str:
    return name if len(name) <= _VALUE else f"...{name[3 - _VALUE :]}"


def show_profiles(found: Sequence[Profile], refused: Sequence[str], *, width: int, colour: bool) -> str:
    """Profiles with what they set, and the files that cannot be used."""
    page = Page(width, colour)
    for profile in found:
        page.text(f"{profile.name}: {profile.summary}", BOLD)
        for name, value in profile.knobs.items():
            page.text(f"  {name} = {value}")
    for text in refused:
        page.text(f"Not used: {text}", YELLOW, hang=2)
    return "\n".join(page.lines) + "\n"


def _knobs(count: int) -> str:
    return "1 knob" if count == 1 else f"{count} knobs"
