"""Which kernel each cell of a lab's nights ran, as far as the nights' own files say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.analysis.history.types import KernelId
from numabench.errors import ResultError
from numabench.fields import parse
from numabench.fleet import night_file
from numabench.fleet.plan import GUEST
from numabench.fleet.publish import ATTEMPT_FILE
from numabench.store.trials import read_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numabench.fields import Fields
    from numabench.fleet.night_file import Night

# What a boot loader writes on a command line is no parameter: paths with the release in them.
_LOADERS_OWN = ("BOOT_IMAGE=", "initrd=")


class KernelIds:
    """The kernel of each cell in each night: what was attested there, with the parameters that it was to have.

    A night is read once, when it is asked for. What cannot be read, or was never attested, is not known.
    """

    def __init__(self, lab: Path) -> None:
        self._lab = lab
        self._nights: dict[str, Mapping[str, KernelId]] = {}

    def __call__(self, night: str, cell: str) -> KernelId | None:
        """The kernel that a cell ran in a night."""
        if night not in self._nights:
            try:
                self._nights[night] = _of_night(night_file.load(night_file.path_of(self._lab, night)))
            except ResultError:
                self._nights[night] = {}
        return self._nights[night].get(cell)


def _of_night(night: Night) -> dict[str, KernelId]:
    attested: dict[tuple[str, str], KernelId] = {}
    for path in sorted((night.path / night_file.ATTEMPTS).glob(f"*/{ATTEMPT_FILE}")):
        try:
            told = parse(path, read_bytes(path))
            if not told.texts("wrong"):
                key = told.text("machine"), told.text("kernel")
                attested.setdefault(key, _kernel(night, key, told))
        except ResultError:
            continue
    found = {name: attested.get((cell.machine, cell.kernel)) for name, cell in night.cells.items()}
    return {name: kernel for name, kernel in found.items() if kernel is not None}


def _kernel(night: Night, key: tuple[str, str], told: Fields) -> KernelId:
    machine, kernel = night.machines.get(key[0]), night.kernels.get(key[1])
    if machine is None or kernel is None:
        told.wrong("kernel", "one of the night's")
    # How a guest is started says nothing of its kernel.
    words = kernel.parameters if machine.kind == GUEST else _parameters(told.text("cmdline", ""))
    return KernelId(told.text("release", ""), told.text("build_id", ""), words)


def _parameters(cmdline: str) -> tuple[str, ...]:
    return tuple(word for word in cmdline.split() if not word.startswith(_LOADERS_OWN))
