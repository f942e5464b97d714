"""night.json: what a night is to do, written before anything runs and never changed."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench import __version__
from numabench.errors import ResultError, UsageError
from numabench.fields import Fields, parse
from numabench.fleet.cells import Block, Cell
from numabench.fleet.plan import MachinePlan
from numabench.store import check_writable, files
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import fsync_directory, json_file, refuse, write_durably

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KIND = "numabench-night"
NIGHTS, NIGHT_FILE, SCHEMA_VERSION = files.NIGHTS, files.NIGHT_FILE, files.NIGHT_SCHEMA_VERSION
ATTEMPTS, CELLS, CLAIMS = "attempts", "cells", "claims"
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.([2-9]|[1-9]\d+))?", re.ASCII)
# Freed when the disk is full, for the words that end the night.
RESERVE_FILE, _RESERVE_BYTES = ".reserve", 256 * 1024


@dataclass(frozen=True)
class NightKernel:
    """A kernel as a night found it: its release, and its build id where that is known; `wish` is what a guest boots.

    `twin_of` is the name of the kernel that this one is, too; `missing` says why it could not be had.
    """

    name: str
    kind: str
    wish: str
    release: str
    build_id: str = ""
    parameters: tuple[str, ...] = ()
    entry: str = ""
    features: tuple[str, ...] = ()
    twin_of: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Night:
    """A night's plan. Times are UTC as ISO 8601, empty where there is none.

    Nothing begins after `start_by_utc`, and all is ended by `deadline_utc`. `left_out` says of cells why they are not
    measured.
    """

    path: Path
    lab: str
    seed: int
    attempts: int
    began_utc: str
    start_by_utc: str
    deadline_utc: str
    kernels: Mapping[str, NightKernel]
    machines: Mapping[str, MachinePlan]
    blocks: tuple[Block, ...]
    cells: Mapping[str, Cell]
    left_out: Mapping[str, str]

    @property
    def name(self) -> str:
        """The date on which it began, and its number where it was not the first."""
        return self.path.name

    def block(self, block_id: str) -> Block:
        """The block of that id. Raises `ResultError`."""
        for block in self.blocks:
            if block.id == block_id:
                return block
        raise ResultError(f"night {self.name} has no block '{block_id}'", f"they are in {self.path / NIGHT_FILE}")


def names(lab: Path) -> tuple[str, ...]:
    """The nights of a lab, oldest first."""
    try:
        found = [_NAME.fullmatch(path.name) for path in (lab / NIGHTS).iterdir()]
    except FileNotFoundError:
        return ()
    matches = [
        match for match in found if match and _is_date(match[1]) and (lab / NIGHTS / match[0] / NIGHT_FILE).is_file()
    ]
    return tuple(match[0] for match in sorted(matches, key=lambda match: (match[1], int(match[2] or 1))))


def last(lab: Path) -> str:
    """A lab's last night, empty where there is none; those of the future only where there are no others.

    A clock that went wrong once would have its night be the last for years.
    """
    known = names(lab)
    return next((name for name in reversed(known) if not is_future(name)), known[-1] if known else "")


def is_future(name: str) -> bool:
    """Whether a night's date is none that it can be anywhere yet."""
    tomorrow = datetime.datetime.now().astimezone().date() + datetime.timedelta(days=1)
    return datetime.date.fromisoformat(name[:10]) > tomorrow


def new_name(lab: Path, date: str) -> str:
    """The name for a night that begins on a date: the date itself, or with `.2` behind it."""
    number = 1
    while path_of(lab, name := date if number == 1 else f"{date}.{number}").exists():
        number += 1
    return name


def path_of(lab: Path, name: str) -> Path:
    """A night's directory. Raises `UsageError` for a name that is not a night's."""
    if not is_name(name):
        raise UsageError(f"{name!a} is not a night's name", "write it as 2026-11-25, or 2026-11-25.2")
    return lab / NIGHTS / name


def is_name(name: str) -> bool:
    """Whether a word is a night's name: a date, and from the second night of that date on its number."""
    match = _NAME.fullmatch(name)
    return match is not None and _is_date(match[1])


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def check_new(lab: Path, name: str) -> None:
    """Refuse a name that no new night can have, before kernels are built for it: `UsageError`, `ResultError`."""
    if path_of(lab, name).exists():
        raise ResultError(f"night {name} is there already", "go on with it: --resume")


def _reserve(path: Path) -> None:
    write_durably(path / RESERVE_FILE, b"\0" * _RESERVE_BYTES)


def reserve_again(path: Path) -> None:
    """Have a night that goes on the room again that the words of its last end took; not where there is none."""
    if not (path / RESERVE_FILE).exists():
        with contextlib.suppress(OSError):
            _reserve(path)


def create(night: Night) -> None:
    """Write a night's directory, whole or not at all. Raises `ResultError` where it cannot be, or is there already."""
    nights = night.path.parent
    check_writable(nights)
    check_new(nights.parent, night.name)
    partial = nights / f".tmp-{night.name}"
    fields = {name: value for name, value in _plain(night).items() if name != "path"}
    record = {"schema_version": SCHEMA_VERSION, "kind": KIND, "numabench": __version__, "night": night.name, **fields}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for name in (ATTEMPTS, CELLS, CLAIMS):
            (partial / name).mkdir(parents=True)
        write_durably(partial / NIGHT_FILE, json_file(record))
        _reserve(partial)
        fsync_directory(partial)
        partial.rename(night.path)
        fsync_directory(nights)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        refuse(night.path, error)


def _plain(night: Night) -> dict[str, Any]:
    plain = dataclasses.asdict(night)
    for cell_id, cell in night.cells.items():
        plain["cells"][cell_id]["is_aa"] = cell.is_aa
    return plain


def load(path: Path) -> Night:
    """Read a night's plan. Raises `ResultError` for what is damaged, of another kind, or newer than this numabench."""
    file = path / NIGHT_FILE
    fields = parse(file, read_bytes(file))
    if fields.fields.get("kind") != KIND:
        raise ResultError(f"{file} was not written by numabench", "give the directory of a night, LAB/nights/DATE")
    check_version(fields, SCHEMA_VERSION)
    cells = {name: _cell(name, row) for name, row in _by_name(fields, "cells").items()}
    blocks = tuple(_block(row) for row in fields.rows("blocks"))
    for block in blocks:
        if not set(block.cells) <= set(cells):
            fields.wrong("blocks", "of cells that are there")
    return Night(
        path=path,
        lab=fields.text("lab"),
        seed=fields.count("seed"),
        attempts=fields.count("attempts"),
        began_utc=fields.text("began_utc"),
        start_by_utc=fields.text("start_by_utc", ""),
        deadline_utc=fields.text("deadline_utc", ""),
        kernels={name: _kernel(name, row) for name, row in _by_name(fields, "kernels").items()},
        machines={name: _machine(name, row) for name, row in _by_name(fields, "machines").items()},
        blocks=blocks,
        cells=cells,
        left_out=fields.texts_by_name("left_out"),
    )


def _by_name(fields: Fields, key: str) -> dict[str, Fields]:
    owner = fields.object(key)
    return {name: owner.object(name) for name in owner.fields}


def _cell(name: str, row: Fields) -> Cell:
    return Cell(
        id=name,
        experiment=row.text("experiment"),
        words=tuple(row.texts("words")),
        kernel=row.text("kernel"),
        machine=row.text("machine"),
        priority=row.count("priority"),
        repeats=row.count("repeats"),
        boots=row.count("boots"),
        guess_s=row.number("guess_s", 0.0),
        timeout_s=row.number("timeout_s", 0.0),
        twin_of=row.text("twin_of", ""),
    )


def _block(row: Fields) -> Block:
    return Block(row.text("id"), row.text("machine"), row.text("kernel"), row.count("boot"), tuple(row.texts("cells")))


def _kernel(name: str, row: Fields) -> NightKernel:
    return NightKernel(
        name=name,
        **row.strings("kind wish release build_id entry twin_of missing"),
        parameters=tuple(row.texts("parameters")),
        features=tuple(row.texts("features")),
    )


def _machine(name: str, row: Fields) -> MachinePlan:
    return MachinePlan(
        name=name,
        **row.strings("kind shape partition"),
        cpus_per_node=row.count("cpus_per_node", 1),
        memory_per_node_bytes=row.optional_count("memory_per_node_bytes"),
        reboot=tuple(row.texts("reboot")),
        features=tuple(row.texts("features")),
        nodes=tuple(row.texts("nodes")),
    )


def now_utc() -> datetime.datetime:
    """The time of day, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def has_passed(time_utc: str) -> bool:
    """Whether a time of a night's plan lies behind us; an empty one never does."""
    return bool(time_utc) and now_utc() >= datetime.datetime.fromisoformat(time_utc)


def seconds_left(time_utc: str) -> float | None:
    """The seconds to a time of a night's plan; None for an empty one."""
    if not time_utc:
        return None
    return (datetime.datetime.fromisoformat(time_utc) - now_utc()).total_seconds()
