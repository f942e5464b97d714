"""The thread's question answered in text: what was counted in both modes, and beside it what the mails said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.missing import Missing
from numabench.comparison.rmap_lock import FLUSHES_PER_2MB, LOCKS_PER_2MB, WAIT_REMAP, WAIT_UNMAP
from numabench.report import calltree_text
from numabench.report.escape import escape
from numabench.report.page import BOLD, YELLOW, Page
from numabench.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numabench.comparison.rmap_lock import ArmResult, Mode
    from numabench.comparison.treediff import NodeChange

_MIN_WIDTH = 100
_LABEL, _VALUE = 44, 16
# What takes the lock: to unmap, and to remap.
_TAKERS = ("folio_lock_anon_vma_read", "rmap_walk_anon")
_LEAST_SHARE = 0.005
_WAITING_PHASES = ("unmap, waiting for rwsem", "remap, waiting for rwsem")


def render(kernel: str, arms: Sequence[ArmResult], *, width: int = 100, colour: bool = False) -> str:
    """The report of one kernel's arms."""
    page = Page(max(width, _MIN_WIDTH), colour=colour)
    page.text("Does sharing anon_vma's lock take the waiting out of page migration?", BOLD)
    page.text(
        f"kernel {kernel}, booted with walks of the reverse map taking the lock shared (as it is) and exclusive (as "
        "before v3.8), in turns"
    )
    page.text("Times are emulated guests' and not performance: judge by counts and shares.", YELLOW)
    for arm in arms:
        page.blank()
        _arm(page, arm)
    page.blank()
    _mails(page)
    return "".join(line.rstrip() + "\n" for line in page.lines)


def _arm(page: Page, arm: ArmResult) -> None:
    page.text(f"{arm.name}{' (control)' if arm.is_control else ''}: {arm.what}", BOLD)
    if arm.shared is None or arm.exclusive is None:
        page.text("not run in both modes yet", indent=2)
        return
    page.raw(f"  {'':<{_LABEL}}{'shared':>{_VALUE}}{'exclusive':>{_VALUE}}  in 2012")
    for label, figure, mails in _ROWS:
        cells = "".join(f"{figure(mode):>{_VALUE}}" for mode in (arm.shared, arm.exclusive))
        page.raw(f"  {label:<{_LABEL}}{cells}  {mails}")
    _split(page, arm.exclusive)
    if arm.diff is not None and arm.diff.tree is not None:
        tree = arm.diff.tree
        waits = [node for node in tree.phases if node.name.startswith(_WAITING_PHASES)]
        page.text("from shared to exclusive, in points of the workload's CPU samples (95 %):", indent=2)
        for node in waits:
            page.raw(_change(node.name, node))
        for node in tree.nodes:
            if node.name in _TAKERS and max(node.share_a, node.share_b) >= _LEAST_SHARE:
                page.raw(_change(f"{tree.nodes[node.parent].name} > {node.name}", node))
    if arm.waiting is not None and arm.waiting.total_weight and not arm.is_control:
        page.text("who waits in exclusive mode, each share of its parent as in the thread:", indent=2)
        drawn = calltree_text.render(arm.waiting, calltree_text.OF_2012)
        for line in drawn.splitlines():
            page.raw(line)


def _change(name: str, node: NodeChange) -> str:
    interval = "" if node.ci95 is None else f"({node.ci95[0] * 100:+.1f}..{node.ci95[1] * 100:+.1f})"
    return f"    {escape(name):<{_LABEL - 2}}{node.delta * 100:>+7.1f}  {interval:<16}  {node.verdict}"


def _split(page: Page, mode: Mode) -> None:
    """How the waiting divides between the two steps, which is what the thread's tree showed."""
    if isinstance(mode.wait_unmap, Missing) or isinstance(mode.wait_remap, Missing):
        return
    whole = mode.wait_unmap + mode.wait_remap
    if whole:
        page.raw(
            f"  {'of the waiting: unmap / remap':<{_LABEL}}{'':>{_VALUE}}"
            f"{f'{mode.wait_unmap / whole * 100:.1f} / {mode.wait_remap / whole * 100:.1f} %':>{_VALUE}}"
            f"  {WAIT_UNMAP * 100:.2f} / {WAIT_REMAP * 100:.2f} %"
        )


def _count(value: float | Missing) -> str:
    return "-" if isinstance(value, Missing) else format_count(round(value))


def _share(value: float | Missing) -> str:
    return "-" if isinstance(value, Missing) else f"{value * 100:.3g} %"


def _number(value: float | Missing) -> str:
    return "-" if isinstance(value, Missing) else f"{value:.3g}" if value < 100 else format_count(round(value))


_ROWS: tuple[tuple[str, Callable[[Mode], str], str], ...] = (
    ("boots", lambda mode: str(mode.boots), ""),
    (
        "migrated, as the kernel counts it",
        lambda mode: "-" if isinstance(mode.migrated_bytes, Missing) else format_bytes(mode.migrated_bytes),
        "",
    ),
    ("rmap locks taken, per 2 MB", lambda mode: _number(mode.locks_per_2mb), f"{LOCKS_PER_2MB:,}"),
    ("rmap locks taken meanwhile", lambda mode: _count(mode.acquired), ""),
    ("rw-semaphores waited for meanwhile (all)", lambda mode: _count(mode.waited), ""),
    ("  of the locks taken", lambda mode: _share(mode.contended_share), ""),
    ("  per 2 MB", lambda mode: _number(mode.waits_per_2mb), ""),
    ("CPU samples waiting for an rwsem in unmap", lambda mode: _share(mode.wait_unmap), ""),
    ("CPU samples waiting for an rwsem in remap", lambda mode: _share(mode.wait_remap), ""),
    ("TLB flushes, per 2 MB", lambda mode: _number(mode.flushes_per_2mb), f"{FLUSHES_PER_2MB:,}"),
    (
        "MB/s confirmed (guest time)",
        lambda mode: "-" if isinstance(mode.mb_per_s, Missing) else f"{mode.mb_per_s:.1f}",
        "",
    ),
)


_MAILS = (
    (
        "Ingo Molnar, 30 Nov 2012: of the points where threads were scheduled away 96.43 % were in the anon_vma mutex, "
        "50.61 % of these below rmap_walk (remap) and 49.39 % below page_lock_anon_vma (unmap)."
    ),
    "Ingo Molnar, 1 Dec 2012: the lock is taken 1024 times for 2 MB, and the TLB is flushed 512 times.",
    'Linus Torvalds, 1 Dec 2012: "make the mutex be a rwsem instead, and have migration only take it for reading".',
    (
        'Rik van Riel, 1 Dec 2012: the "same anonymous page could be mapped into multiple processes that inherited '
        'memory from the same (grand)parent": the lock cannot be left out.'
    ),
    (
        'Ingo Molnar, 2 Dec 2012 (commit 4fc3f1d66b1e): "With this change applied the profile is now nicely flat and '
        "there's no anon-vma related scheduling/blocking.\""
    ),
)


def _mails(page: Page) -> None:
    page.text("What the mails said", BOLD)
    for words in _MAILS:
        page.text(words, indent=2, hang=2)
