"""Booting this machine itself with another kernel, once: through its boot loader, kexec, or a command of the user's.

The night that asks for it ends with the machine, and what is to be done after the boot is on disk before. Who starts
the night again (`numabench nightly run LAB.toml --resume`) finds it there; whether the right kernel came up, the block
finds out as everywhere (attest.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import CannotRun, NumabenchError, ProgramError
from numabench.fields import parse
from numabench.fleet.booter import NativeBoot, NoBoot
from numabench.fleet.night_file import SCHEMA_VERSION, now_utc
from numabench.host.booted import booted
from numabench.host.root import LIVE
from numabench.store.reading import check_version
from numabench.store.trials import read_bytes
from numabench.store.writing import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numabench.fleet.booter import Boot
    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night, NightKernel
    from numabench.host.root import Root

FILE = "reboot.json"
_COMMAND_S = 120.0


class GoingDown(NumabenchError):
    """The machine is going down for a block; the night goes on when it is up again."""

    exit_code = 0


@dataclass(frozen=True)
class Pending:
    """What a machine went down for: a block's try, from the boot `boot_id`."""

    night: str
    block: str
    token: str
    boot_id: str


def pending(lab: Path) -> Pending | None:
    """What this machine was to go down for, if anything. Raises `ResultError` for a file that is damaged."""
    file = lab / FILE
    if not file.exists():
        return None
    fields = parse(file, read_bytes(file))
    check_version(fields, SCHEMA_VERSION)
    return Pending(**fields.strings("night block token boot_id"))


def loader_commands(kernel: NightKernel, reboot: Sequence[str], running: str, others: Sequence[str]) -> list[list[str]]:
    """The commands that boot a kernel once.

    `reboot` is a machine's way (docs/nightly.md), `running` the command line of the kernel that runs, and `others` are
    parameters of other kernels, which kexec must not hand on.
    """
    if reboot[0] == "grub":
        return [["grub-reboot", kernel.entry], ["systemctl", "reboot"]]
    if reboot[0] == "systemd-boot":
        return [["bootctl", "set-oneshot", kernel.entry], ["systemctl", "reboot"]]
    if reboot[0] == "kexec":
        kept = [word for word in running.split() if word not in others and not word.startswith("BOOT_IMAGE=")]
        line = " ".join((*kept, *kernel.parameters))
        image, initrd = f"/boot/vmlinuz-{kernel.release}", f"/boot/initrd.img-{kernel.release}"
        return [["kexec", "-l", image, f"--initrd={initrd}", f"--command-line={line}"], ["systemctl", "kexec"]]
    return [[word.replace("{release}", kernel.release).replace("{entry}", kernel.entry) for word in reboot]]


class OneShotBooter:
    """Boots this machine anew for each block."""

    def __init__(self, lab: Path, root: Root = LIVE) -> None:
        """`root` is where the running kernel is read from."""
        self._lab, self._root = lab, root

    def awaits(self, token: str) -> bool:
        """Whether it went down, or was about to, for the try of that token."""
        asked = pending(self._lab)
        return asked is not None and asked.token == token

    def boot(self, night: Night, block: Block, token: str) -> Boot:
        """Go on, where this machine has come up since the try began; else have it go down, and raise `GoingDown`.

        Raises `NoBoot` where it was to go down and did not, or a command for it failed.
        """
        now = booted(self._root)
        asked = pending(self._lab)
        if asked is not None and (asked.night, asked.block, asked.token) == (night.name, block.id, token):
            (self._lab / FILE).unlink()
            if asked.boot_id == now.boot_id:
                raise NoBoot("the machine was to boot anew and did not")
            return NativeBoot()
        record = {"night": night.name, "block": block.id, "token": token, "boot_id": now.boot_id}
        replace(self._lab / FILE, {"schema_version": SCHEMA_VERSION, **record, "asked_utc": now_utc().isoformat()})
        kernel = night.kernels[block.kernel]
        others = [word for other in night.kernels.values() for word in other.parameters]
        try:
            for argv in loader_commands(kernel, night.machines[block.machine].reboot, now.cmdline, others):
                process.run(argv, timeout_s=_COMMAND_S).check("booting another kernel")
        except (ProgramError, CannotRun) as error:
            (self._lab / FILE).unlink()
            raise NoBoot(str(error)) from None
        raise GoingDown(
            f"the machine goes down for {block.id}, kernel {kernel.release}",
            "when it is up again, the night goes on with: numabench nightly run LAB.toml --resume",
        )
