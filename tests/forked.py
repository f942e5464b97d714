"""The command line many times over: a process that has all of it imported, and forks for each command.

Starting Python and importing numpy for each of thousands of commands would take half an hour; a fork takes
milliseconds. Each command has a session, limits and a watchdog of its own, and what it leaves running is found, for its
orphans become children of this process (PR_SET_CHILD_SUBREAPER, prctl(2)). Several in one fork take a fourth of that:
most of its cost are the pages that the first of them writes to.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numabench.process import Process

_PR_SET_CHILD_SUBREAPER = 36
_CPU_S, _ADDRESS_BYTES = 20, 1 << 30
# Commands of these tests end in a tenth of a second; a machine that is shared may be slow.
_DEADLINE_S = 15.0
_LIBRARIES = (
    *("numpy", "scipy.stats", "scipy.special", "scipy.optimize", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "tomllib", "tarfile", "lzma", "sh", "psutil", "difflib", "textwrap"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: `status` is its exit code, negative the signal that killed it.

    `left` are the processes that outlived it. One that did not end in time is `hung`; where, its stderr tells.
    """

    words: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    cpu_s: float
    hung: bool
    left: tuple[str, ...]


class Forked:
    """The process, seen from the tests."""

    def __init__(self) -> None:
        from numabench import process

        ours, theirs = os.pipe(), os.pipe()
        # One thread: a fork takes only that which called it.
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process: Process = process.start(
            [sys.executable, __file__], stdin=theirs[0], stdout=ours[1], stderr=2, env=env
        )
        os.close(theirs[0])
        os.close(ours[1])
        self._requests = os.fdopen(theirs[1], "w", encoding="ascii")
        self._answers = os.fdopen(ours[0], encoding="ascii")
        self.cpu_s = 0.0

    def run(self, *words: str, cwd: Path, env: Mapping[str, str], **how: Any) -> Ended:
        """Run `numabench` with these words.

        `how` may have `stdout` and `stderr`, a path or `closed`; `stdin`, `closed`; `file_bytes`, how large a file may
        grow; `deadline_s`; and `constants`, values of the product's own, by their dotted names.
        """
        return self._ask({"words": words, "cwd": str(cwd), "env": dict(env), **how})

    def run_in_turn(
        self, every: Sequence[Sequence[str]], *, cwd: Path, env: Mapping[str, str], **how: Any
    ) -> list[Ended]:
        """Run several in one process, each when the one before has ended; `how` may not have streams.

        None at all where that process hung, was killed or left another: which of them it was is not known.
        """
        all_of_them = self._ask({"words": (), "every": every, "cwd": str(cwd), "env": dict(env), **how})
        if all_of_them.status or all_of_them.hung or all_of_them.left:
            return []
        told = json.loads(all_of_them.stdout)
        return [
            Ended(tuple(words), status, stdout, stderr, 0.0, False, ())
            for words, (status, stdout, stderr) in zip(every, told, strict=True)
        ]

    def _ask(self, asked: dict[str, Any]) -> Ended:
        self._requests.write(json.dumps(asked) + "\n")
        self._requests.flush()
        answer = json.loads(self._answers.readline())
        ended = Ended(**{**answer, "words": tuple(asked["words"]), "left": tuple(answer["left"])})
        self.cpu_s += ended.cpu_s
        return ended

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._answers.close()
        if self._process.wait(30.0) is None:
            self._process.kill()


def _import_all() -> None:
    import numabench

    for module in pkgutil.walk_packages(numabench.__path__, "numabench."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        importlib.import_module(name)
    _build_command_lines()
    from matplotlib.figure import Figure

    # The first picture looks for fonts.
    figure = Figure()
    figure.add_subplot().set_title("a")
    figure.savefig(io.BytesIO())


def _build_command_lines() -> None:
    """Have typer make its tables of commands and options once, which it does for each command line anew."""
    import typer.main

    from numabench.cli import commands, run_words

    typer.main.get_command = functools.cache(typer.main.get_command)
    with contextlib.suppress(typer.BadParameter):
        typer.main.get_command(commands.app)(["run", "x", "--seed", "y"], standalone_mode=False)
    with contextlib.suppress(typer.BadParameter):
        run_words.run_command().make_context("run", ["x", "--seed", "y"])


def _serve() -> None:
    _import_all()
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    pipes = {name: os.pipe() for name in ("stdout", "stderr")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if not pid:
        _be_command(asked, {name: ends[1] for name, ends in pipes.items()})
    for _, end in pipes.values():
        os.close(end)
    texts, hung = _watch(pid, {name: ends[0] for name, ends in pipes.items()}, asked.get("deadline_s", _DEADLINE_S))
    _, status = os.waitpid(pid, 0)
    left = _end_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "status": os.waitstatus_to_exitcode(status),
        **{name: data.decode("utf-8", "surrogateescape") for name, data in texts.items()},
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "hung": hung,
        "left": left,
    }


def _watch(pid: int, ends: dict[str, int], deadline_s: float) -> tuple[dict[str, bytes], bool]:
    """What the command prints until it ends; one that is late says where it is (SIGUSR1) and is killed."""
    texts = dict.fromkeys(ends, b"")
    names = {end: name for name, end in ends.items()}
    pidfd = os.pidfd_open(pid)
    until, hung = time.monotonic() + deadline_s, False
    waiting = [pidfd, *names]
    while pidfd in waiting:
        ready = select.select(waiting, [], [], max(until - time.monotonic(), 0))[0]
        if not ready:
            signals = (signal.SIGUSR1, signal.SIGKILL) if not hung else (signal.SIGKILL,)
            os.kill(pid, signals[0])
            until, hung = time.monotonic() + 0.5, True
            if len(signals) == 1:
                break
        for end in ready:
            if end == pidfd:
                waiting.remove(pidfd)
            else:
                part = os.read(end, 1 << 16)
                texts[names[end]] += part
                waiting = waiting if part else [one for one in waiting if one != end]
    for end, name in names.items():
        os.set_blocking(end, False)
        with contextlib.suppress(BlockingIOError):
            while part := os.read(end, 1 << 20):
                texts[name] += part
    for end in (pidfd, *names):
        os.close(end)
    return texts, hung


def _end_orphans() -> list[str]:
    """What the command left running: told, and ended."""
    told = []
    while children := Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split():
        for child in map(int, children):
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
                name = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                told += [] if state == "Z" else [name]
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return told


def _be_command(asked: dict[str, Any], ends: dict[str, int]) -> None:
    """Become the command, as far as a process can that was forked: streams, directory, environment, limits."""
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    tempfile.tempdir = None
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        where = asked.get(name)
        os.dup2(ends[name] if where in {None, "closed"} else os.open(where, os.O_WRONLY), number)
    os.closerange(3, 64)
    faulthandler.register(signal.SIGUSR1, file=os.dup(2), all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S + 5))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _ADDRESS_BYTES, mapped + _ADDRESS_BYTES))
    if "file_bytes" in asked:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"], asked["file_bytes"]))
    _drop_capabilities()
    for dotted, value in asked.get("constants", {}).items():
        module, _, name = dotted.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
        setattr(importlib.import_module(module), name, value)
    if "every" in asked:
        _run_in_turn(asked["every"])
    os._exit(
        _status_of(asked["words"], {name for name in ("stdin", "stdout", "stderr") if asked.get(name) == "closed"})
    )


def _run_in_turn(every: Sequence[Sequence[str]]) -> NoReturn:
    """Run them all, and tell on stdout how each ended, and what it printed."""
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    told = []
    for words in every:
        files = {number: os.memfd_create("stream") for number in (1, 2)}
        for number, file in files.items():
            os.dup2(file, number)
        status = _status_of(words, set())
        told.append((status, *(_printed(file) for file in files.values())))
    json.dump(told, answer)
    answer.close()
    os._exit(0)


def _printed(file: int) -> str:
    with os.fdopen(file, "rb") as printed:
        printed.seek(0)
        return printed.read().decode("utf-8", "surrogateescape")


def _status_of(words: Sequence[str], closed: set[str]) -> int:
    """Run one command line, with its streams as Python opens them; its exit code."""
    for number, name, errors in ((0, "stdin", "strict"), (1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        setattr(sys, name, _stream(number, errors, name in closed))
    sys.argv = ["numabench", *words]
    return _ended_as_python_ends()


def _stream(number: int, errors: str, is_closed: bool) -> Any:
    """A standard stream as Python opens it; one that is closed is None, and its number is free."""
    if is_closed:
        os.close(number)
        return None
    mode, buffering = ("w" if number else "r", 1 if number == 2 else -1)
    return open(number, mode, encoding="utf-8", errors=errors, closefd=False, buffering=buffering)


def _drop_capabilities() -> None:
    """Have permissions count for root, too (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; capset(2), version 3)."""
    if os.geteuid():
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, sets)
    # What is effective, and what access(2) asks for: what is permitted.
    sets[0] &= ~0b110
    sets[1] &= ~0b110
    if libc.capset(header, sets):
        raise OSError("capset")


def _ended_as_python_ends() -> int:
    """Run the command, and do what the interpreter does at its end; the exit code."""
    from numabench.cli.app import main

    status: Any = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
        if not isinstance(status, int | None):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:  # noqa: BLE001  what nobody caught is what is looked for
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                print(f"Exception ignored while flushing {name}: {error}", file=sys.stderr, flush=True)
            status = 120
    return int(status or 0)


if __name__ == "__main__":
    _serve()
