"""Booting a machine with a kernel for a block: a guest, this machine as it runs, or this machine anew (`reboot`)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

from numabench import process
from numabench.errors import LostGuest, UsageError
from numabench.fleet.cell_run import own_environment
from numabench.lab import delegate, kernels, shapes
from numabench.lab.guest import Guest, guest_environment
from numabench.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.fleet.cells import Block
    from numabench.fleet.night_file import Night

# What a block is given to end when it is told to: its run puts the machine back first.
_END_S = 20.0
_SILENCE_S = 300.0


class NoBoot(Exception):
    """What was to boot did not come up; `args[0]` says why."""


class Vanished(Exception):
    """What had booted is gone, or does not answer; `args[0]` says why."""


class Boot(Protocol):
    """A machine that is up for a block. What has booted there, the block finds out itself (attest.py)."""

    def run(self, argv: Sequence[str], timeout_s: float) -> int:
        """Run numabench there and wait for its end; its exit status. Raises `Vanished`."""

    def close(self) -> None:
        """End what was booted."""


class Booter(Protocol):
    """Boots machines of one kind."""

    def awaits(self, token: str) -> bool:
        """Whether this machine went down for the try of that token, which goes on now."""

    def boot(self, night: Night, block: Block, token: str) -> Boot:
        """Bring a block's machine up with its kernel, for the try of that token. Raises `NoBoot`.

        Where this machine itself has to go down, this raises `reboot.GoingDown` once that is on its way.
        """


class GuestBooter:
    """Boots a guest for each block. It writes to the night's directory and nowhere else."""

    def awaits(self, token: str) -> bool:  # noqa: ARG002  of a protocol
        """No: a guest that the night did not end with has ended with the night."""
        return False

    def boot(self, night: Night, block: Block, token: str) -> Boot:  # noqa: ARG002  nobody asks a guest for it
        """A guest of the machine's shape. Raises `CannotRun` where no guest can run here."""
        machine = night.machines[block.machine]
        try:
            kernel = kernels.find(night.kernels[block.kernel].wish)
        except UsageError as error:
            raise NoBoot(str(error)) from None
        shape = shapes.shape(
            machine.shape,
            memory_per_node_bytes=machine.memory_per_node_bytes,
            cpus_per_node=machine.cpus_per_node,
        )
        delegate.compile_bytecode()
        try:
            return _GuestBoot(Guest.boot(kernel, shape, delegate.choose_accel(kernel), writable=(night.path,)))
        except LostGuest as error:
            raise NoBoot(str(error)) from None


class _GuestBoot:
    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def run(self, argv: Sequence[str], timeout_s: float) -> int:
        """Run it as the guest's root; what it says on stderr is passed on."""
        env = guest_environment() | delegate.python_environment()
        try:
            return self._guest.run(
                argv, timeout_s=timeout_s, silence_s=_SILENCE_S, env=env, on_output=delegate.relay_stderr
            ).exit_status
        except LostGuest as error:
            raise Vanished(str(error)) from None

    def close(self) -> None:
        """End the guest."""
        self._guest.close()


class NativeBooter:
    """Boots nothing: the machine runs what it runs."""

    def awaits(self, token: str) -> bool:  # noqa: ARG002  of a protocol
        """No: it goes down for nobody."""
        return False

    def boot(self, night: Night, block: Block, token: str) -> Boot:  # noqa: ARG002  of a protocol
        """The machine that asks."""
        return NativeBoot()


class NativeBoot:
    """The machine that asks, in its present boot. A block that still runs when this process dies is ended."""

    def run(self, argv: Sequence[str], timeout_s: float) -> int:
        """Run it beside this process. An exception while waiting (Ctrl-C) has it end well first."""
        reaper = Reaper()
        try:
            running = process.start(argv, stderr=sys.stderr.fileno(), env={**os.environ, **own_environment()})
            reaper.watch(running.pid)
            try:
                status = running.wait(timeout_s)
            finally:
                # Also where it has ended, by SIGKILL: a run of its may be left.
                running.kill(grace_s=_END_S)
                reaper.forget()
        finally:
            reaper.reap()
        if status is None:
            raise Vanished(f"it was not done after {timeout_s:.0f} s and was ended")
        return status

    def close(self) -> None:
        """Nothing was booted."""
