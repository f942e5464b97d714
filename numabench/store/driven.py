"""Reading what movers and victims left of a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.record import (
    Direction,
    Family,
    Latency,
    LongAccess,
    MixedCalls,
    MoverCall,
    MoverWork,
    UnitCheck,
    VictimWork,
    WrongWord,
)

if TYPE_CHECKING:
    from numabench.fields import Fields


def read_latency(latency: Fields) -> Latency:
    """A histogram, whose buckets ascend and lie between its extremes."""
    buckets = latency.count_pairs("counts")
    lows = [low for low, _ in buckets]
    found = Latency(latency.count("min"), latency.count("max"), latency.count("sum"), buckets)
    if lows != sorted(set(lows)) or any(count == 0 for _, count in buckets):
        latency.wrong("counts", "a list of buckets that ascend and hold something")
    if buckets and not (lows[0] <= found.min_ns <= found.max_ns and lows[-1] <= found.max_ns):
        latency.wrong("counts", "between 'min' and 'max'")
    return found


def read_mover(row: Fields) -> MoverWork:
    """A mover's work."""
    return MoverWork(
        pid=row.count("pid"),
        thread=row.count("thread"),
        passes=row.count("passes"),
        calls=row.count("calls"),
        call_errors=row.counts("call_errors"),
        positive=row.count("positive"),
        requested=row.count("requested"),
        confirmed=row.count("confirmed"),
        already=row.count("already"),
        retried=row.count("retried"),
        left=row.count("left"),
        status=row.counts("status"),
        asked_again=row.count("asked_again"),
        query_ns=row.count("query_ns"),
        elapsed_ns=row.count("elapsed_ns"),
        cpu_ns=row.count("cpu_ns"),
        directions=tuple(_read_direction(direction) for direction in row.rows("directions")),
        mixed=_read_mixed(row.optional_object("mixed")),
    )


def _read_mixed(row: Fields | None) -> MixedCalls | None:
    if row is None:
        return None
    return MixedCalls(row.count("calls"), row.count("busy_ns"), read_latency(row.object("latency")))


def _read_direction(row: Fields) -> Direction:
    return Direction(
        source=row.count("from"),
        target=row.count("to"),
        units=row.count("pages"),
        calls=row.count("calls"),
        busy_ns=row.count("busy_ns"),
        latency=read_latency(row.object("latency")),
    )


def read_units(row: Fields) -> UnitCheck:
    """What was seen of the pages at the end."""
    return UnitCheck(row.count("units"), row.count("split"), row.count("verified") != 0)


def read_victim(row: Fields) -> VictimWork:
    """A victim's work."""
    return VictimWork(
        pid=row.count("pid"),
        thread=row.count("thread"),
        accesses=row.count("accesses"),
        elapsed_ns=row.count("elapsed_ns"),
        cpu_ns=row.count("cpu_ns"),
        clock_ns=row.count("clock_ns"),
        latency=read_latency(row.object("latency")),
        longest=tuple(
            LongAccess(
                access.count("t_ns"),
                access.count("ns"),
                access.count("page"),
                access.count("write") != 0,
                _read_call(access),
            )
            for access in row.rows("longest")
        ),
        checked=row.count("checked"),
        wrong=row.count("wrong"),
        preempted=row.optional_count("preempted"),
    )


def read_wrong_word(row: Fields) -> WrongWord:
    """A word that did not hold what was stored there."""
    return WrongWord(
        pid=row.count("pid"),
        thread=row.integer("thread"),
        t_ns=row.count("t_ns"),
        address=row.count("addr"),
        page=row.count("page"),
        offset=row.count("offset"),
        expected=row.count("expected"),
        found=row.count("found"),
        kind=row.text("kind"),
        call=_read_call(row),
        is_call_forgotten=row.count("forgotten", 0) != 0,
    )


def _read_call(row: Fields) -> MoverCall | None:
    call = row.optional_object("call")
    if call is None:
        return None
    return MoverCall(
        call.count("thread"), call.count("begin_ns"), call.count("end_ns"), call.count("from"), call.count("to")
    )


def read_family(family: Fields) -> Family:
    """The processes that inherited the memory."""
    mapmax = family.integer("mapmax", -1)
    return Family(
        processes=family.count("processes"),
        depth=family.count("depth"),
        fanout=family.count("fanout"),
        vmas_per_page=family.count("vmas_per_page"),
        chain=family.indices("chain"),
        mapmax=None if mapmax < 0 else mapmax,
        forks=family.count("forks", 0),
        mremaps=family.count("mremaps", 0),
        splits=family.count("splits", 0),
        writes=family.count("writes", 0),
    )
