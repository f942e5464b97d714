"""What speaks against a trial in which movers moved the pages."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from numabench.analysis import migration
from numabench.analysis.finding import BIASES, INFORMS, INVALID, Finding
from numabench.analysis.missing import Missing
from numabench.analysis.moves import moves
from numabench.record import NULL, VICTIM
from numabench.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.analysis.moves import Moves
    from numabench.record import MoverCall, Run, Trial, WorkloadThread, WrongWord

THP = "thp"
_MAKE_ROOM = "see that the target nodes have free huge pages: echo 1 > /proc/sys/vm/compact_memory"
_KINDS = {
    "stale": "an older value",
    "other-page": "another page's",
    "garbage": "what nobody stored",
    "zero": "zero",
}


def check_moves(run: Run, trial: Trial) -> Iterator[Finding]:
    """Pages that did not move, or not as they were."""
    found = moves(trial)
    if not run.planned.has_movers or run.planned.driver == NULL or isinstance(found, Missing):
        return
    if found.confirmed.units == 0:
        errors = _listed(found.call_errors) or _listed(found.status)
        yield Finding(
            "nothing-migrated",
            INVALID,
            f"of {found.requested.units:,} pages asked for none was found on its target"
            + (f": {errors}" if errors else ""),
            "see what the statuses say (move_pages(2)); of pages that others map --move-all moves them, too",
        )
    elif found.left.units or found.call_errors:
        yield _partial(run, found)


def check_units(run: Run, trial: Trial) -> Iterator[Finding]:
    """Pages larger than base pages that did not stay whole.

    Of a page that was split movers still ask for the first base page alone, and count what they moved as a whole one.
    """
    mover, units = run.planned.mover, trial.units
    if mover is None:
        return
    split = migration.kernel_count(trial).thp_split
    if units is not None and units.split:
        yield Finding(
            "pages-split",
            INVALID if run.planned.has_movers else BIASES,
            f"{units.split:,} of {units.units:,} pages of {mover.pages} were no whole pages any more at the end"
            + (", where the movers went on to count them as whole ones" if run.planned.has_movers else ""),
            _MAKE_ROOM,
        )
    elif mover.pages == THP and not isinstance(split, Missing) and split:
        yield Finding(
            "huge-pages-split",
            BIASES,
            f"the kernel split {split:,} huge pages instead of moving them whole (thp_migration_split)",
            _MAKE_ROOM,
        )
    if units is not None and not units.is_seen:
        yield Finding(
            "pages-not-seen",
            BIASES,
            f"whether pages of {mover.pages} stayed whole could not be seen, but for their ends on two nodes",
            "run it as root, who may read /proc/kpageflags",
        )


def check_victims(run: Run, trial: Trial) -> Iterator[Finding]:
    """Victims that had to wait for a CPU, which looks like a stall by migration."""
    if not run.planned.has_movers:
        return
    users = Counter(thread.cpus for thread in trial.threads)
    sharing = [thread.index for thread in trial.threads if thread.role == VICTIM and _has_company(thread, users)]
    if not sharing:
        return
    victims = sum(thread.role == VICTIM for thread in trial.threads)
    times = sum(victim.preempted or 0 for victim in trial.victims if victim.thread in sharing)
    yield Finding(
        "victims-share-cpus",
        BIASES,
        f"{len(sharing)} of {victims} victims had no CPU of their own, and were preempted {times:,} times: their "
        "longest accesses are the scheduler's as much as migration's",
        "ask for fewer movers (--threads) or victims, or for nodes with a CPU for each (--mover-on, --victim-on)",
    )


def _has_company(thread: WorkloadThread, users: Counter[str]) -> bool:
    """Whether the one CPU that a thread is pinned to is another's, too."""
    return thread.cpus.isdecimal() and users[thread.cpus] > 1


def _partial(run: Run, found: Moves) -> Finding:
    """Pages left behind. Where obstacles were laid it is what was wanted, and to know."""
    told = [f"{found.left.units:,} of {found.requested.units:,} pages were not on their target in the end"]
    if found.status:
        told.append(f"statuses {_listed(found.status)}")
    if found.call_errors:
        told.append(f"calls failed with {_listed(found.call_errors)}")
    return Finding(
        "partial-migration",
        INFORMS if run.planned.obstacles else BIASES,
        "; ".join(told),
        "see that the target nodes have free memory, and what holds the pages (move_pages(2)); or add --retries",
    )


def _listed(counts: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def lost_write(trial: Trial) -> Finding:
    """The first word that did not hold what was stored there."""
    word = min(trial.wrong_words, key=lambda each: each.t_ns)
    more = f" (and {len(trial.wrong_words) - 1} more)" if len(trial.wrong_words) > 1 else ""
    return Finding(
        "lost-write",
        INVALID,
        f"page {word.page}, offset {word.offset}: {word.expected:#x} was stored and {word.found:#x} found, "
        f"{_KINDS.get(word.kind, word.kind)}, {_since_go(trial, word.t_ns)} after GO; {_call(trial, word)}{more}",
        "suspect the kernel's migration, or the machine's memory: keep this directory and report it",
        trial.placement,
        (trial.index,),
    )


def _call(trial: Trial, word: WrongWord) -> str:
    call = word.call
    if call is None:
        return "its last move is not known any more" if word.is_call_forgotten else "no call had moved the page"
    when = f"from {_since_go(trial, call.begin_ns)} to {_since_go(trial, call.end_ns)}{_under_way(word, call)}"
    if not call.end_ns:
        when = f"since {_since_go(trial, call.begin_ns)}, under way at that moment"
    return f"its last move was by thread {call.thread}, node {call.source} to {call.target}, {when}"


def _under_way(word: WrongWord, call: MoverCall) -> str:
    return ", under way at that moment" if call.begin_ns <= word.t_ns <= call.end_ns else ""


def _since_go(trial: Trial, t_ns: int) -> str:
    if trial.clock.go_ns is None:
        return f"{t_ns} ns"
    return f"{(t_ns - trial.clock.go_ns) / NS_PER_S:.6f} s"
