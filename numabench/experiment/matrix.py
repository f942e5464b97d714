"""A sweep's matrix: command lines of `numabench run` from one with lists, and the order of their turns."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import re
from typing import TYPE_CHECKING

from numabench.errors import UsageError
from numabench.record import SweepAxis, SweepCell
from numabench.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The options of `numabench run` that may have a list of values, without their dashes.
AXES = (
    *("driver", "pages", "threads", "batch", "order", "mover", "mover-on", "route", "retries", "sharing", "mapping"),
    *("victims", "victim-access", "victim-pattern", "victim-on", "depth", "fanout", "mover-at", "size", "start-node"),
    *("thp", "balancing"),
)
# Those of which one value is a list.
LISTS = ("nodes", "obstacles", "churn")
PAIR = "pair"
ALL_PAIRS = "all"
MAX_UNITS = 100_000
_PAIR = re.compile(r"(\d{1,4})>(\d{1,4})")


def split(options: Sequence[tuple[str, str | None]]) -> tuple[tuple[SweepAxis, ...], tuple[str, ...]]:
    """The axes of a command line, and its words that are the same in every cell.

    `options` are its options as they were given, with their dashes; None is the value of one that has none. An option
    that may have a list is an axis where it has one of two values or more. Raises `UsageError` for a value that is
    empty or there twice, for a list where none may be, and for an option that is there twice: the last would win in
    every cell.
    """
    axes: dict[str, SweepAxis] = {}
    same: list[str] = []
    given: set[str] = set()
    for option, text in options:
        if option in given:
            raise UsageError(f"{option} is there twice", "write it once, and all its values in one list")
        given.add(option)
        name = option.removeprefix("--")
        if text is not None and "," in text and name not in (*AXES, *LISTS):
            raise UsageError(f"{option} may not have a list", "give it one value, and have a sweep for each")
        values = () if text is None or name not in AXES else tuple(word.strip() for word in text.split(","))
        if len(values) < 2:
            same += [option] if text is None else [option, text]
            continue
        axes[name] = _axis(option, name, values)
    assert not {f"--{name}" for name in axes} & set(same), "an axis's words come last in no cell"
    return tuple(axes.values()), tuple(same)


def _axis(option: str, name: str, values: tuple[str, ...]) -> SweepAxis:
    if "" in values:
        raise UsageError(f"a value of {option} is empty", "write them as 1,8,64")
    first: dict[object, str] = {}
    for value in values:
        meant = _meant(name, value)
        before = first.get(meant)
        if before is not None:
            what = f"{value} twice" if before == value else f"{before} and {value}, which are the same"
            raise UsageError(f"{option} has {what}", "write each value once: --repeats repeats them all")
        first[meant] = value
    return SweepAxis(name, values)


def _meant(name: str, value: str) -> object:
    """What a value is once it is read; the value itself where it is a word, or cannot be read: its cell says so."""
    with contextlib.suppress(UsageError, ValueError):
        if name == PAIR:
            return pair_nodes(value)
        return parse_size(value) if name == "size" else int(value)
    return value


def pair_axis(text: str, nodes: Sequence[int], *, both_ways: bool) -> SweepAxis:
    """The pairs of nodes that `--pairs` means: `0>1,1>0`, or `all` of some nodes.

    `both_ways` has `all` take each two nodes both ways, for a route that goes one way. Raises `UsageError`.
    """
    if text == ALL_PAIRS:
        if len(nodes) * (len(nodes) - 1) > MAX_UNITS:
            raise UsageError(f"--pairs all of {len(nodes):,} nodes are more than {MAX_UNITS:,} units", "name the pairs")
        pairs = itertools.permutations(nodes, 2) if both_ways else itertools.combinations(nodes, 2)
        values = tuple(f"{source}>{target}" for source, target in pairs)
        if not values:
            raise UsageError("--pairs all needs two nodes or more", "pass --nodes 2")
        return SweepAxis(PAIR, values)
    axis = _axis("--pairs", PAIR, tuple(word.strip() for word in text.split(",")))
    for value in axis.values:
        source, target = pair_nodes(value)
        if source == target:
            raise UsageError(f"--pairs {value} has one node", "a page moves between two")
    return axis


def pair_nodes(value: str) -> tuple[int, int]:
    """The source and the target of a pair as it is written. Raises `UsageError`."""
    match = _PAIR.fullmatch(value)
    if match is None:
        raise UsageError(f"'{value}' is no pair of nodes", "write SOURCE>TARGET, for example 0>1, or --pairs all")
    return int(match[1]), int(match[2])


def cells(workload: str, axes: Sequence[SweepAxis], same: Sequence[str]) -> tuple[SweepCell, ...]:
    """Every combination of the axes' values, the last axis fastest, with the words of `numabench` that run it."""
    return tuple(_cell(workload, axes, values, same) for values in itertools.product(*(axis.values for axis in axes)))


def first_cell(workload: str, axes: Sequence[SweepAxis], same: Sequence[str]) -> SweepCell:
    """The first of the cells, without making the others."""
    return _cell(workload, axes, tuple(axis.values[0] for axis in axes), same)


def _cell(workload: str, axes: Sequence[SweepAxis], values: tuple[str, ...], same: Sequence[str]) -> SweepCell:
    words = [word for axis, value in zip(axes, values, strict=True) for word in _words(axis.name, value)]
    return SweepCell(values, ("run", workload, *words, *same, "--repeats", "1"))


def _words(name: str, value: str) -> list[str]:
    if name != PAIR:
        return [f"--{name}", value]
    source, target = pair_nodes(value)
    return ["--nodes", f"{min(source, target)},{max(source, target)}", "--start-node", str(source)]


def check_units(axes: Sequence[SweepAxis], repeats: int) -> None:
    """Refuse, with `UsageError`, more units than `MAX_UNITS`; by arithmetic, for each cell takes its time to check."""
    cell_count = math.prod(len(axis.values) for axis in axes)
    if cell_count * repeats > MAX_UNITS:
        times = "1 repeat" if repeats == 1 else f"{repeats:,} repeats"
        raise UsageError(f"{cell_count:,} cells in {times} are more than {MAX_UNITS:,} units", "ask for fewer values")


def turns(cell_count: int, repeats: int, seed: int) -> tuple[tuple[int, int], ...]:
    """The order of all units as (cell, repeat), repeats counted from 1.

    Every repeat holds each cell once, in an order of its own, shuffled by the seed: what drifts on the machine meets
    all cells alike.
    """
    shuffled = random.Random(seed)  # noqa: S311  an experiment's order, not a secret
    order = []
    for repeat in range(1, repeats + 1):
        block = list(range(cell_count))
        shuffled.shuffle(block)
        order += [(cell, repeat) for cell in block]
    return tuple(order)


def without(words: Sequence[str], option: str) -> tuple[str, ...]:
    """Words without an option and its value."""
    kept, left = [], iter(words)
    for word in left:
        if word == option:
            next(left, None)
        else:
            kept.append(word)
    return tuple(kept)


def unit_name(index: int, values: Sequence[str]) -> str:
    """A name for a unit's directory: its number, and its cell's values as far as they go into a file's name."""
    words = "-".join(re.sub(r"[^A-Za-z0-9._]", "_", value) for value in values)
    return f"{index:04}-{words}"[:64].rstrip("-")


def described(axes: Sequence[SweepAxis], values: Sequence[str]) -> str:
    """A cell in words: `batch 8, threads 1`."""
    return ", ".join(f"{axis.name} {value}" for axis, value in zip(axes, values, strict=True)) or "the only cell"


def plan(
    workload: str, axes: Sequence[SweepAxis], table: Sequence[SweepCell], repeats: int, seed: int
) -> Mapping[str, object]:
    """The part of sweep.json that says what is to run, and when."""
    return {
        "workload": workload,
        "axes": [{"name": axis.name, "values": list(axis.values)} for axis in axes],
        "cells": [{"values": list(cell.values), "argv": list(cell.argv)} for cell in table],
        "repeats": repeats,
        "seed": seed,
        "units": [
            {"name": unit_name(index, table[cell].values), "cell": cell, "repeat": repeat}
            for index, (cell, repeat) in enumerate(turns(len(table), repeats, seed), 1)
        ],
    }
