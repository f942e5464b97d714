"""A guest: this machine's file system under another kernel, with other NUMA nodes, through virtme-ng."""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from numabench import process
from numabench.errors import CannotRun, LostGuest, UsageError
from numabench.host.root import LIVE
from numabench.lab import agent
from numabench.lab.accel import Accel
from numabench.lab.console import last_words, says_why
from numabench.lab.requirements import INSTALL_HINT, requirements, virtme_run
from numabench.reaper import Reaper
from numabench.units import KIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from numabench.lab.kernels import Kernel
    from numabench.lab.shapes import Shape

BOOT_TIMEOUT_S = 180.0
# QEMU 7.2 itself dies of a general protection fault once in some dozens of boots under TCG on a busy host.
BOOT_LIMIT = 2
_TAIL_INTERVAL_S = 0.1
_STOP_GRACE_S = 15.0
_READ_BYTES = 1024 * 1024
_KEPT_OUTPUT_BYTES = 64 * 1024 * 1024

# Below these the guest sees the host's files and may change them for itself: the changes live in its memory.
_OVERLAYS = ("/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr", "/var")  # noqa: S108  a mount point
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR", "XDG_CACHE_HOME", "NUMABENCH_DEBUG")


class Listener(Protocol):
    """Receives what a command prints, as it prints it: exact bytes, in pieces of any size."""

    def __call__(self, stream: str, data: bytes) -> None:
        """Take `data` from `stream`, which is `stdout` or `stderr`."""


def _ignore(stream: str, data: bytes) -> None:
    """Drop it."""


def _missing_memory(shape: Shape) -> tuple[str, ...]:
    """Why this machine's memory does not hold the guest's, or nothing (MemAvailable, proc_meminfo(5))."""
    available = re.search(r"^MemAvailable:\s+(\d+) kB$", LIVE.read_or_none("/proc/meminfo") or "", re.MULTILINE)
    if available is None or int(available[1]) * KIB >= shape.memory_bytes:
        return ()
    wanted, free = format_bytes(shape.memory_bytes), format_bytes(int(available[1]) * KIB)
    return (f"topology {shape.name} takes {wanted} of memory and this machine has {free} available",)


def guest_environment() -> dict[str, str]:
    """The variables of this process that mean the same in a guest; no others get there."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


@dataclass(frozen=True)
class _Patience:
    """How long a command may take in all, and how long it may print nothing."""

    timeout_s: float
    silence_s: float


def check_writable(directories: Iterable[Path]) -> None:
    """Refuse, with `UsageError`, what cannot be shared with a guest for writing."""
    for path in directories:
        if not path.is_dir():
            raise UsageError(f"{path} is not a directory", "only directories can be shared with a guest")


class Guest:
    """A running guest; several commands can be run in it, one after another. Ends with its context.

    The guest reads the host's files; it writes only to the directories it was given as `writable`. Whatever way this
    process ends, the guest ends with it and its temporary directory is removed.
    """

    def __init__(self, kernel: Kernel, shape: Shape, accel: Accel, writable: Sequence[Path]) -> None:
        self.kernel = kernel
        self.shape = shape
        self.accel = accel
        self.boots = 1
        self._runs = 0
        self._heard = b""
        self._directory = Path(tempfile.mkdtemp(prefix="numabench-guest-"))
        self._reaper: Reaper | None = Reaper(self._directory)
        self._exchange = self._directory / "exchange"
        self._console = self._directory / "console.log"
        self._shares = {agent.EXCHANGE_TAG: self._exchange}
        self._shares |= {f"numabench.{number}": path.resolve() for number, path in enumerate(writable)}
        self._work, self._work_far = socket.socketpair()
        self._stop, self._stop_far = socket.socketpair()
        self._virtme: process.Process | None = None

    @classmethod
    def boot(
        cls,
        kernel: Kernel,
        shape: Shape,
        accel: Accel,
        *,
        writable: Sequence[Path] = (),
        boot_timeout_s: float = BOOT_TIMEOUT_S,
    ) -> Guest:
        """A guest that is ready for commands.

        Raises `CannotRun` where this machine lacks what guests need (also the memory), `UsageError` where a writable
        directory is none, and `LostGuest` where the kernel dies or is not up after `boot_timeout_s` seconds. Where QEMU
        itself dies without a word, it is started once more; `boots` counts the starts.
        """
        lacking = requirements()
        if lacking:
            raise CannotRun("a guest", lacking, INSTALL_HINT)
        if _missing_memory(shape):
            raise CannotRun("a guest", _missing_memory(shape), "give its nodes less")
        check_writable(writable)
        for boots in range(1, BOOT_LIMIT + 1):
            guest = cls(kernel, shape, accel, writable)
            guest.boots = boots
            try:
                guest._start()
                guest._await_agent(boot_timeout_s)
            except BaseException as error:
                crashed = isinstance(error, LostGuest) and not guest.alive and not says_why(guest._console)
                guest.close()
                if crashed and boots < BOOT_LIMIT:
                    continue
                raise
            return guest
        raise AssertionError("the last boot returned or raised")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the guest still runs."""
        return self._virtme is not None and self._virtme.wait(0) is None

    def close(self) -> None:
        """End the guest at once and remove its temporary directory. Closing twice is fine."""
        if self._reaper is None:
            return
        for end in (self._work, self._work_far, self._stop, self._stop_far):
            end.close()
        if self._virtme is not None:
            self._virtme.kill()
            self._reaper.forget()
        reaper, self._reaper = self._reaper, None
        reaper.reap()

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout_s: float = 600.0,
        silence_s: float | None = None,
        shown: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        on_output: Listener = _ignore,
    ) -> process.Completed:
        """Run a command in the guest, as root, without standard input, and wait for its end.

        The exit status is the shell's: 0 to 255, 128 + n for death by signal n. `on_output` gets every byte; the texts
        in the answer hold the first 64 MiB of each stream and replace what is not UTF-8. `cwd` is kept where the guest
        has it (else `/`). `env` is the whole environment, by default `guest_environment()`. An exception while waiting
        (Ctrl-C) sends SIGTERM to the command and gives it 15 seconds to end well.

        Raises `LostGuest` where the guest dies, and where the command is not done after `timeout_s` seconds or prints
        nothing for `silence_s` seconds: the guest is then ended, for nothing is known of what else it still does.
        `shown` is the command line to name then, where it is not `argv`.
        """
        self._runs += 1
        name = str(self._runs)
        directory = self._exchange / name
        directory.mkdir()
        words = agent.command_script(argv, cwd=cwd, env=guest_environment() if env is None else env)
        (directory / "command").write_text(words, encoding="utf-8", errors="surrogateescape")
        # Opened before the guest knows of them: what a guest does to its shared directory cannot lead elsewhere.
        with contextlib.ExitStack() as stack:
            files = {}
            for stream in ("stdout", "stderr"):
                (directory / stream).touch()
                files[stream] = stack.enter_context((directory / stream).open("rb", buffering=0))
            patience = _Patience(timeout_s, math.inf if silence_s is None else silence_s)
            status = self._serve(name, process.paste(shown or argv), files, patience, on_output)
            texts = {}
            for stream, file in files.items():
                file.seek(0)
                texts[stream] = file.read(_KEPT_OUTPUT_BYTES).decode(errors="replace")
        shutil.rmtree(directory)
        return process.Completed(tuple(argv), status, texts["stdout"], texts["stderr"])

    def _start(self) -> None:
        """Start virtme-run and with it QEMU, in a session that the reaper knows."""
        self._exchange.mkdir()
        scratch = self._directory / "scratch"
        scratch.mkdir()
        (self._exchange / "agent").write_text(agent.AGENT, encoding="utf-8")
        writable = {tag: path for tag, path in self._shares.items() if tag != agent.EXCHANGE_TAG}
        (self._exchange / "mounts").write_text(agent.mounts_script(writable), encoding="utf-8")
        # virtme-run leaves files in TMPDIR when it is killed.
        path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
        env = os.environ | {"TMPDIR": str(scratch), "PATH": path}
        # QEMU opens its standard error anew for the console and would write over what is there already, so both go
        # through a pipe, and `cat` reads it also while this process is busy.
        reading, writing = os.pipe()
        try:
            with self._console.open("ab") as console:
                process.start(["cat"], stdin=reading, stdout=console.fileno())
            far = (self._work_far.fileno(), self._stop_far.fileno())
            self._virtme = process.start(self._argv(), stderr=writing, pass_fds=far, env=env)
        finally:
            os.close(reading)
            os.close(writing)
        assert self._reaper is not None
        self._reaper.watch(self._virtme.pid)
        self._work_far.close()
        self._stop_far.close()

    def _argv(self) -> list[str]:
        """`virtme-run`, and not `vng`: that one goes through a shell without quoting, and reads the user's settings."""
        tcg = self.accel is Accel.TCG
        argv = [virtme_run() or "virtme-run", f"--kimg={self.kernel.image}", "--mods=auto", "--force-9p"]
        argv += ["--name=numabench-guest", "--show-boot-console", "--verbose", *self.shape.options()]
        argv += [f"--overlay-rwdir={directory}" for directory in _OVERLAYS if Path(directory).is_dir()]
        argv += ["--kopt=numabench.lab=1", f"--kopt=numabench.accel={self.accel.value}"]
        argv += [f"--kopt={parameter}" for parameter in self.kernel.parameters]
        argv += ["--disable-kvm"] if tcg else []
        argv += [f"--script-sh={agent.first_command()}"]
        # With erms and fsrm the kernel copies pages by `rep movsb`, which TCG emulates a byte at a time.
        options = ["-cpu", "max,-erms,-fsrm"] if tcg else ["-machine", "accel=kvm"]
        options += ["-device", "virtio-serial-pci,id=numabench"]
        for port, end in ((agent.WORK_PORT, self._work_far), (agent.STOP_PORT, self._stop_far)):
            options += ["-chardev", f"socket,id={port},fd={end.fileno()}"]
            options += ["-device", f"virtserialport,bus=numabench.0,name={port},chardev={port}"]
        for tag, path in self._shares.items():
            where = str(path).replace(",", ",,")
            options += ["-fsdev", f"local,id={tag},path={where},security_model=none,multidevs=remap"]
            options += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return [*argv, "--qemu-opts", *options]

    def _await_agent(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (remaining_s := deadline - time.monotonic()) > 0:
            line = self._hear(remaining_s)
            if line == agent.READY:
                return
        raise self._lost(f"did not come up within {timeout_s:.0f} s")

    def _serve(
        self, name: str, what: str, files: Mapping[str, BinaryIO], patience: _Patience, on_output: Listener
    ) -> int:
        """Have the agent do run `name`; its exit status."""
        try:
            self._tell(self._work, name, what)
            status = self._await_status(name, what, patience, files, on_output)
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(LostGuest):
                self._tell(self._stop, "stop", what)
                self._await_status(name, what, _Patience(_STOP_GRACE_S, math.inf), files, on_output)
            raise
        if isinstance(status, str):
            lost = self._lost(f"{status}: {what}")
            self.close()
            raise lost
        return status

    def _await_status(
        self, name: str, what: str, patience: _Patience, files: Mapping[str, BinaryIO], on_output: Listener
    ) -> int | str:
        """The exit status of run `name`, or what exhausted our patience. Passes all its output on meanwhile."""
        heard = time.monotonic()
        deadline = heard + patience.timeout_s
        while (remaining_s := deadline - time.monotonic()) > 0:
            if time.monotonic() - heard > patience.silence_s:
                return f"said nothing for {patience.silence_s:.0f} s"
            line = self._hear(min(_TAIL_INTERVAL_S, remaining_s), f" while it ran {what}")
            for stream, file in files.items():
                while data := file.read(_READ_BYTES):
                    heard = time.monotonic()
                    on_output(stream, data)
            number, _, status = line.partition(" ")
            if number == name:
                return int(status)
        return f"was still running after {patience.timeout_s:.0f} s"

    def _tell(self, port: socket.socket, word: str, what: str) -> None:
        try:
            port.sendall(f"{word}\n".encode())
        except OSError:
            raise self._lost(f"was gone when it was to run {what}") from None

    def _hear(self, timeout_s: float, when: str = "") -> str:
        """The agent's next line, or an empty one at the deadline. Raises `LostGuest` where the guest has ended."""
        if b"\n" not in self._heard:
            assert self._virtme is not None
            ends: list[socket.socket | process.Process] = [self._work, self._virtme]
            readable, _, _ = select.select(ends, [], [], max(timeout_s, 0.0))
            if self._work in readable:
                self._heard += self._listen()
            if self._virtme in readable or self._virtme.exit_status is not None:
                raise self._lost(f"ended{when or ' before it was up'}")
        line, newline, rest = self._heard.partition(b"\n")
        if not newline:
            return ""
        self._heard = rest
        return line.decode(errors="replace")

    def _listen(self) -> bytes:
        try:
            heard = self._work.recv(4096)
        except ConnectionError:
            heard = b""
        if not heard:
            # QEMU has closed its end: it is about to be gone, and its parent after it.
            assert self._virtme is not None
            self._virtme.wait(10.0)
            self._virtme.kill()
        return heard

    def _lost(self, happened: str) -> LostGuest:
        """What to raise for a guest that is gone or has to be given up."""
        nodes = f"{self.shape.name}, {self.accel.value}"
        words = last_words(self._console)
        return LostGuest(f"the guest with kernel {self.kernel.wish} ({nodes}) {happened}{words}")
