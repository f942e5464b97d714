"""How a guest's CPUs are run: by the processor (KVM) or by QEMU (TCG). KVM is believed once it has booted a kernel."""

from __future__ import annotations

import enum
import json
import os
import re
import select
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from numabench import process
from numabench.host.root import LIVE
from numabench.lab.cache import cache_directory

_FIRST_WORDS_S = 5.0
_END_S = 20.0
_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


class Accel(enum.Enum):
    """QEMU's name of an accelerator."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True)
class Acceleration:
    """The accelerator to use, why, and whether that was remembered rather than tried now."""

    accel: Accel
    reason: str
    remembered: bool


def _memory() -> Path:
    return cache_directory() / "accel.json"


def _key() -> str:
    """What the answer depends on: host kernel, QEMU, processor."""
    version = process.run(["qemu-system-x86_64", "--version"]).check("asking QEMU its version").stdout.splitlines()[0]
    model = _MODEL.search(LIVE.read_or_none("/proc/cpuinfo") or "")
    return f"{os.uname().release}; {version}; {model[1] if model else 'unknown CPU'}"


def _recall(key: str) -> Acceleration | None:
    try:
        entry = json.loads(_memory().read_text(encoding="utf-8"))[key]
        return Acceleration(Accel(entry["accel"]), str(entry["reason"]), remembered=True)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _remember(key: str, answer: Acceleration) -> None:
    try:
        entries = json.loads(_memory().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        entries = {}
    if not isinstance(entries, dict):
        entries = {}
    entries[key] = {"accel": answer.accel.value, "reason": answer.reason}
    _memory().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=_memory().parent, prefix=".accel-", delete=False) as file:
        json.dump(entries, file, indent=1)
    Path(file.name).replace(_memory())


def _boot(image: Path) -> str:
    """Boot a kernel without a root file system under KVM; it must greet, panic and end. Why it did not, or nothing."""
    reading, writing = os.pipe()
    argv = ["qemu-system-x86_64", "-accel", "kvm", "-machine", "q35", "-m", "256", "-smp", "2", "-kernel", str(image)]
    argv += ["-append", "console=ttyS0 earlyprintk=serial panic=-1", "-no-reboot", "-display", "none", "-nodefaults"]
    argv += ["-serial", "stdio"]
    try:
        qemu = process.start(argv, stdout=writing, stderr=writing)
    finally:
        os.close(writing)
    began = time.monotonic()
    said = b""
    try:
        while (deadline_s := _END_S if b"Linux version" in said else _FIRST_WORDS_S) > time.monotonic() - began:
            readable, _, _ = select.select([reading], [], [], deadline_s - (time.monotonic() - began))
            if not readable:
                break
            words = os.read(reading, 65536)
            if not words:
                break
            said += words
    finally:
        os.close(reading)
        qemu.kill(grace_s=1.0)
    if b"Linux version" not in said:
        last = said.decode(errors="replace").strip().splitlines()
        return f"a kernel booted under KVM printed no first line within {_FIRST_WORDS_S:.0f} s" + (
            f" (only: {last[-1][:120]})" if last else ""
        )
    if b"Kernel panic" not in said:
        return f"a kernel booted under KVM did not get through its start within {_END_S:.0f} s"
    return ""


def probe(image: Path) -> Acceleration:
    """The accelerator that works here, found by booting the kernel `image` under KVM, at most 20 seconds.

    The answer is remembered below the cache directory for this host kernel, QEMU and processor. Raises `CannotRun`
    without QEMU.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        absent = "does not exist" if not Path("/dev/kvm").exists() else "may not be opened by this user"
        return Acceleration(Accel.TCG, f"/dev/kvm {absent}", remembered=False)
    key = _key()
    recalled = _recall(key)
    if recalled:
        return recalled
    trouble = _boot(image)
    answer = (
        Acceleration(Accel.TCG, trouble, remembered=False)
        if trouble
        else Acceleration(Accel.KVM, "a kernel booted under KVM", remembered=False)
    )
    _remember(key, answer)
    return answer
