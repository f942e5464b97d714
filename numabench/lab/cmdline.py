"""Words for a guest's kernel command line (Documentation/admin-guide/kernel-parameters.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PARAMETER = re.compile(r"[A-Za-z_][\w.-]*(=[\w.,:;/@+%~*&!=^-]*)?", re.ASCII)
# What starts the guest, and by what it is heard: with another root, init or console nothing would come up.
_OWN = ("init", "rdinit", "initrd", "root", "rootflags", "rootfstype", "rootwait", "ro", "rw", "console", "panic")
_OWN_FAMILIES = ("numabench", "virtme")


def checked(parameters: Sequence[str]) -> tuple[str, ...]:
    """The same parameters. Raises `UsageError` for what is none, and for one that the guest's own start depends on."""
    for parameter in parameters:
        if not _PARAMETER.fullmatch(parameter):
            raise UsageError(f"'{parameter}' is no kernel parameter", "for example: --kernel '6.12 numa_balancing=0'")
        name = parameter.partition("=")[0]
        # The kernel takes a dash and an underscore for the same (parameqn() in kernel/params.c).
        family = re.split(r"[._]", name.replace("-", "_"))[0]
        if name in _OWN or family in _OWN_FAMILIES:
            raise UsageError(f"the kernel parameter '{name}' is the guest's own", "leave it out")
    return tuple(parameters)
