"""Run inside a guest as root: every knob that its kernel has is set and put back, however the process ends.

The one argument is a JSON object: `kills`, how many processes are killed at a random moment; `signals`, how many get
SIGTERM, and SIGINT; `faults`, how many end at a step that outlives the process (tests/steps.py), evenly over all steps
and endings of all paths; `seed`. The answer is JSON: per kind how many `cases` there were and which keys were left
`wrong`; `knobs`, what was set to what.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import steps

from numabench import process
from numabench.errors import NumabenchError
from numabench.host import knob_access, knobs
from numabench.host.knob_table import ACTION, KNOBS, SHOWN, find, keys
from numabench.host.root import LIVE

if TYPE_CHECKING:
    from collections.abc import Callable

# Two of these exclude each other, or end what the test stands on: each is set alone.
ALONE = {"vm.overcommit_kbytes", "kernel.soft_watchdog", "kernel.nmi_watchdog"}
# What the kernel makes something else of: octal.
ROUNDED = {"vm.overcommit_ratio": "060"}
POOL = "node0-hugepages-2048kB"
HOLD_S = 0.05


def texts() -> dict[str, str]:
    """Every key of every knob, as the kernel has it."""
    found = {}
    for knob in (*KNOBS, find(POOL)):
        if knob.kind in {ACTION, SHOWN}:
            continue
        for key in keys(knob):
            with contextlib.suppress(OSError):
                found[key.name] = knob_access.read(LIVE, key.path, knob.kind)
    return found


def candidates(path: str, value: str) -> list[str]:
    """Other values that a file may take."""
    if "[" in (text := LIVE.read(path)):
        return [word.strip("[]") for word in text.split() if word.strip("[]") != value]
    if not value.lstrip("-").isdecimal():
        return [{"false": "true", "true": "false"}.get(value, value)]
    number = int(value)
    return [str(each) for each in (number + 1, number - 1, 0, 1, 2) if each != number]


def discover() -> dict[str, str]:
    """For every settable knob here a value that is not its own and that the kernel takes."""
    before, wanted = texts(), {}
    for knob in (*KNOBS, find(POOL)):
        if not knob.is_settable or knob.kind in {ACTION, SHOWN}:
            continue
        for key in keys(knob)[:1]:
            value = before.get(key.name)
            for other in candidates(key.path, value) if value is not None else ():
                with contextlib.suppress(OSError):
                    knob_access.write(LIVE, key.path, other, knob.kind)
                    if knob_access.read(LIVE, key.path, knob.kind) == other:
                        wanted[knob.name] = other
                        break
    restore_texts(before)
    assert texts() == before, "the test itself cannot put back what it tried"
    return wanted


def restore_texts(before: dict[str, str]) -> None:
    paths = {key.name: key.path for knob in (*KNOBS, find(POOL)) for key in keys(knob)}
    for _ in range(3):
        now = texts()
        for name in (name for name, value in before.items() if now.get(name) != value):
            with contextlib.suppress(OSError):
                Path(paths[name]).write_text(f"{before[name]}\n")


def in_child(body: Callable[[], object], after: Callable[[int], None] = lambda _pid: None) -> int:
    """The wait status of a process that does `body`."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:  # noqa: BLE001  what ends it is the case
            code = 3
        finally:
            os._exit(code)
    after(pid)
    return os.waitpid(pid, 0)[1]


class Cases:
    """Cases under way: what the knobs were, and what each kind of end has left wrong."""

    def __init__(self) -> None:
        found = discover()
        self.alone = {name: found.pop(name) for name in ALONE if name in found}
        self.wanted = found | {name: value for name, value in ROUNDED.items() if name in found}
        self.before = texts()
        self.state = Path(tempfile.mkdtemp(prefix="numabench-state-", dir="/dev/shm"))
        self.kinds: dict[str, dict[str, Any]] = {}

    def hold(self) -> None:
        """Set all knobs, for a moment, and put them back."""
        with knobs.apply(self.wanted, LIVE, self.state):
            time.sleep(HOLD_S)

    def judge(self, kind: str, *, recover: bool = True) -> None:
        if recover:
            knobs.release(LIVE, self.state, force=True)
        now = texts()
        wrong = {name: [value, now.get(name)] for name, value in self.before.items() if now.get(name) != value}
        entry = self.kinds.setdefault(kind, {"cases": 0, "wrong": {}})
        entry["cases"] += 1
        entry["wrong"].update(wrong)
        if wrong:
            restore_texts(self.before)


def ended_by_signals(cases: Cases, number: int, count: int, kind: str, *, seed: int) -> None:
    """A signal at a random moment of setting, holding and putting back."""
    began = time.monotonic()
    in_child(cases.hold)
    whole_s = time.monotonic() - began
    cases.judge("put back at the end", recover=False)
    moments = random.Random(seed)  # noqa: S311

    def terminated(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    def body() -> None:
        signal.signal(signal.SIGTERM, terminated)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cases.hold()

    for _ in range(count):

        def send(pid: int) -> None:
            time.sleep(moments.random() * whole_s)
            os.kill(pid, number)

        in_child(body, send)
        # What may run on puts all back by itself.
        cases.judge(kind, recover=number == signal.SIGKILL)


def set_alone(cases: Cases) -> None:
    """Each knob that cannot be set with the others."""
    for name, value in cases.alone.items():

        def body(name: str = name, value: str = value) -> None:
            with knobs.apply({name: value}, LIVE, cases.state):
                os.kill(os.getpid(), signal.SIGKILL)

        in_child(body)
        cases.judge("SIGKILL, alone")


def paths(cases: Cases) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """By name, what goes before (in a process of its own), and what is ended at each of its steps."""

    def run() -> None:
        with knobs.apply(cases.wanted, LIVE, cases.state):
            pass

    def keep() -> object:
        return knobs.keep(cases.wanted, LIVE, cases.state)

    def killed() -> None:
        with knobs.apply(cases.wanted, LIVE, cases.state):
            os.kill(os.getpid(), signal.SIGKILL)

    return {
        "a run": (lambda: None, run),
        "keep": (lambda: None, keep),
        "release": (keep, lambda: knobs.release(LIVE, cases.state)),
        "recovery": (killed, lambda: knobs.recover(LIVE, cases.state)),
        "a run after a killed one": (killed, run),
    }


def ended_at_steps(cases: Cases, count: int) -> dict[str, int]:
    """Steps of each path; of all these and of their endings so many, evenly spread, are taken."""
    all_cases, numbers = [], {}
    for name, (before, body) in paths(cases).items():
        in_child(before)
        with steps.acting_at(-1, "") as done:
            body()
        knobs.release(LIVE, cases.state, force=True)
        numbers[name] = len(done)
        all_cases += [(name, number, ending) for number, step in enumerate(done) for ending in steps.endings(step)]
    for index in range(count):
        name, number, ending = all_cases[index * len(all_cases) // count]
        before, body = paths(cases)[name]

        def ended(number: int = number, ending: str = ending, body: Callable[[], object] = body) -> None:
            with steps.acting_at(number, ending):
                body()

        in_child(before)
        in_child(ended)
        cases.judge(f"{name}: {'killed' if 'killed' in ending else 'failing'} at a step")
    return numbers


def somebody_else(cases: Cases) -> dict[str, Any]:
    """Another writer's value stays and is told; `state restore --force` would write the old one."""
    path = "/proc/sys/vm/swappiness"
    before = LIVE.read(path).strip()
    with knobs.apply({"vm.swappiness": "7"}, LIVE, cases.state) as applied:
        Path(path).write_text("13\n")
    found = {"value": LIVE.read(path).strip(), "outcome": [entry.outcome for entry in applied.restored]}
    Path(path).write_text(f"{before}\n")
    cases.judge("somebody else's change")
    return found


def without_root(cases: Cases) -> dict[str, Any]:
    """Nobody's run: nothing is set, each knob is told as denied, and the machine is as it was."""
    reader, writer = os.pipe()

    def body() -> None:
        os.setgid(65534)
        os.setuid(65534)
        with knobs.apply({"vm.swappiness": "7", "ksm.run": "1"}, LIVE, Path(tempfile.mkdtemp())) as applied:
            os.write(writer, json.dumps([[write.outcome, write.message] for write in applied.writes]).encode())

    in_child(body)
    cases.judge("no root", recover=False)
    return {"writes": json.loads(os.read(reader, 4096))}


def read_only_proc(cases: Cases) -> dict[str, Any]:
    """A container's /proc."""
    program = (
        "import json; from pathlib import Path\n"
        "from numabench.host import knobs; from numabench.host.root import LIVE\n"
        f"with knobs.apply({{'vm.swappiness': '7'}}, LIVE, Path({str(cases.state)!r})) as applied: pass\n"
        "print(json.dumps([[write.outcome, write.message] for write in applied.writes]))\n"
    )
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", program]
    ended = process.run(argv, timeout_s=120).check("the namespace")
    cases.judge("/proc/sys read-only", recover=False)
    return {"writes": json.loads(ended.stdout)}


def full_disk(cases: Cases) -> dict[str, Any]:
    """No journal, no write."""
    with tempfile.TemporaryDirectory() as name:
        process.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", name]).check("mount")
        try:
            with contextlib.suppress(OSError):
                (Path(name) / "fill").write_bytes(b"x" * 8192)
            message = ""
            try:
                with knobs.apply(cases.wanted, LIVE, Path(name)):
                    pass
            except NumabenchError as error:
                message = str(error)
        finally:
            process.run(["umount", name]).check("umount")
    cases.judge("full disk", recover=False)
    return {"message": message}


def main() -> None:
    asked = json.loads(sys.argv[1])
    cases = Cases()
    ended_by_signals(cases, signal.SIGTERM, asked["signals"], "SIGTERM", seed=asked["seed"])
    ended_by_signals(cases, signal.SIGINT, asked["signals"], "SIGINT", seed=asked["seed"] + 1)
    ended_by_signals(cases, signal.SIGKILL, asked["kills"], "SIGKILL", seed=asked["seed"] + 2)
    set_alone(cases)
    numbers = ended_at_steps(cases, asked["faults"])
    answer = {
        "foreign": somebody_else(cases),
        "no_root": without_root(cases),
        "read_only": read_only_proc(cases),
        "full_disk": full_disk(cases),
        "knobs": cases.wanted | cases.alone,
        "steps": numbers,
        "here": sorted({name.partition("[")[0] for name in cases.before}),
        "keys": len(cases.before),
        "kinds": cases.kinds,
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
