"""Whether what has booted is what was asked for: a result of another kernel under its name would be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.errors import ResultError
from numabench.fields import parse
from numabench.fleet.night_file import ATTEMPTS
from numabench.fleet.publish import ATTEMPT_FILE
from numabench.store.trials import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numabench.fields import Fields
    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night
    from numabench.host.booted import Booted


def differences(night: Night, block: Block, found: Booted, own: str) -> tuple[str, ...]:
    """Why a boot is not the one that a block asks for, a sentence a reason; none where it is.

    Build ids are those of the plan, else of the first attempt of this night on this kernel; a boot id that another
    block of this machine had is of a machine that did not boot. `own` is the attempt's directory's name.
    """
    kernel = night.kernels[block.kernel]
    reasons = []
    if found.release != kernel.release:
        reasons.append(f"the kernel is {found.release or 'unknown'} and not {kernel.release}")
    before = list(_attempts(night, own))
    same = {kernel.name, kernel.twin_of or kernel.name}
    known = kernel.build_id or next(
        (told.text("build_id", "") for told in before if _is_right(told) and _plain_name(night, told) in same), ""
    )
    if known and found.release == kernel.release and found.build_id != known:
        reasons.append(f"its build id is {found.build_id or 'unknown'} and not {known}")
    words = found.cmdline.split()
    reasons += [f"it was booted without {word}" for word in kernel.parameters if word not in words]
    if night.machines[block.machine].boots_anew:
        others = [told for told in before if told.text("boot_id", "") == found.boot_id]
        taken = [told.text("block", "") for told in others if told.text("block", "") != block.id]
        if not found.boot_id:
            reasons.append("it has no boot id")
        elif taken:
            reasons.append(f"it was not booted for this block: {taken[0]} ran in the same boot")
    return tuple(reasons)


def _is_right(told: Fields) -> bool:
    return not told.texts("wrong")


def _plain_name(night: Night, told: Fields) -> str:
    """The kernel that an attempt ran on, by its own name where it is a twin."""
    kernel = night.kernels.get(told.text("kernel", ""))
    return "" if kernel is None else kernel.twin_of or kernel.name


def _attempts(night: Night, own: str) -> Iterator[Fields]:
    """What the night's other attempts said of themselves, where that can be read."""
    for path in sorted((night.path / ATTEMPTS).iterdir()):
        if path.name == own or path.name.startswith("."):
            continue
        file = path / ATTEMPT_FILE
        try:
            told = parse(file, read_bytes(file))
        except ResultError:
            continue
        yield told
