"""Identity, compared with uname, getconf and systemd; and on trees of other machines."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from numabench import process
from numabench.host.identity import build_id, identity, virtualization
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from pathlib import Path

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Xeon
microcode\t: 0x1
flags\t\t: fpu {flag}

processor\t: 1
"""


def write(tree: Path, name: str, text: str) -> None:
    file = tree / name.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", errors="surrogateescape")


def note(name: bytes, kind: int, content: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack("=III", len(name), len(content), kind) + padded(name) + padded(content)


def test_this_machines_identity_is_what_uname_and_getconf_say() -> None:
    found = identity()
    uname = os.uname()
    assert found["kernel"]["release"] == uname.release
    assert found["kernel"]["version"] == uname.version
    assert found["hostname"] == uname.nodename
    assert found["page_bytes"] == int(process.run(["getconf", "PAGE_SIZE"]).stdout)
    assert found["cpu"]["count"] == int(process.run(["getconf", "_NPROCESSORS_ONLN"]).stdout)
    assert found["cpu"]["model"]
    assert json.loads(json.dumps(found)) == found


def test_the_machine_id_itself_is_not_in_it() -> None:
    machine_id = (LIVE.read_or_none("/etc/machine-id") or "").strip()
    if not machine_id:
        pytest.skip("there is no /etc/machine-id")
    found = identity()
    assert machine_id not in json.dumps(found)
    keyed = hmac.new(machine_id.encode(), b"numabench identity", hashlib.sha256).hexdigest()
    assert found["machine_id_hash"] == keyed[:32]


def test_virtualization_agrees_with_systemd() -> None:
    asked = process.find_program("systemd-detect-virt")
    if asked is None:
        pytest.skip("systemd-detect-virt is not installed")
    told = process.run([asked, "--vm"]).stdout.strip()
    if told == "none":
        assert virtualization() == ""
    else:
        assert virtualization() in {told, "vm-other"}


def test_a_guest_of_the_lab_says_so_with_its_accelerator(tmp_path: Path) -> None:
    write(tmp_path, "/proc/cmdline", "quiet numabench.lab=1 numabench.accel=tcg panic=-1\n")
    found = identity(Root(tmp_path))
    assert (found["where"], found["accelerator"]) == ("guest", "tcg")


def test_a_machine_is_metal_whatever_else_its_command_line_holds(tmp_path: Path) -> None:
    write(tmp_path, "/proc/cmdline", "quiet numabench.accel=tcg xnumabench.lab=1\n")
    found = identity(Root(tmp_path))
    assert (found["where"], found["accelerator"]) == ("metal", "")


def test_what_a_tree_does_not_hold_is_empty_or_zero(tmp_path: Path) -> None:
    found = identity(Root(tmp_path))
    assert found["cpu"] == {"model": "", "vendor": "", "microcode": "", "count": 0}
    assert found["kernel"] == {"release": "", "version": "", "build_id": "", "cmdline": ""}
    assert (found["huge_page_bytes"], found["swap_total_bytes"], found["thp_enabled"]) == (0, 0, "")
    assert (found["machine_id_hash"], found["boot_id"], found["virtualization"]) == ("", "", "")


def test_a_tree_of_another_machine_is_read_as_such(tmp_path: Path) -> None:
    write(tmp_path, "/proc/cpuinfo", X86.format(flag="sse2"))
    write(tmp_path, "/sys/devices/system/cpu/online", "0-3,8\n")
    write(tmp_path, "/proc/meminfo", "MemTotal: 1 kB\nSwapTotal:       2048 kB\nHugepagesize:       2048 kB\n")
    write(tmp_path, "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    notes = note(b"Linux\0", 256, b"\1\0\0\0") + note(b"GNU\0", 3, bytes.fromhex("ff80c3abcd"))
    write(tmp_path, "/sys/kernel/notes", notes.decode("utf-8", "surrogateescape"))
    found = identity(Root(tmp_path))
    assert found["cpu"] == {"model": "Xeon", "vendor": "GenuineIntel", "microcode": "0x1", "count": 5}
    assert (found["swap_total_bytes"], found["huge_page_bytes"], found["thp_enabled"]) == (2 << 20, 2 << 20, "madvise")
    assert found["kernel"]["build_id"] == "ff80c3abcd"


def test_the_build_id_is_the_one_that_file_finds_in_a_program() -> None:
    told = process.run(["readelf", "-n", os.path.realpath(sys.executable)])
    line = next((line for line in told.stdout.splitlines() if "Build ID:" in line), None)
    if line is None:
        pytest.skip("this Python has no build id")
    with open(os.path.realpath(sys.executable), "rb") as file:  # noqa: PTH123
        data = file.read()
    start = data.index(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0")
    assert build_id(data[start : start + 36]) == line.partition("Build ID:")[2].strip()


@pytest.mark.parametrize("cut", range(0, 36, 3))
def test_notes_that_are_cut_have_no_build_id(cut: int) -> None:
    whole = note(b"GNU\0", 3, bytes(range(20)))
    assert build_id(whole) == bytes(range(20)).hex()
    assert build_id(whole[:cut]) == ""


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"/sys/hypervisor/type": "xen\n"}, "xen"),
        ({"/proc/cpuinfo": X86.format(flag="sse2"), "/sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}, ""),
        ({"/proc/cpuinfo": X86.format(flag="hypervisor"), "/sys/class/dmi/id/sys_vendor": "QEMU\n"}, "qemu"),
        ({"/proc/cpuinfo": X86.format(flag="hypervisor"), "/sys/class/dmi/id/product_name": "VMware7,1\n"}, "vmware"),
        ({"/proc/cpuinfo": X86.format(flag="hypervisor")}, "vm-other"),
        (
            {
                "/proc/cpuinfo": X86.format(flag="hypervisor"),
                "/sys/class/dmi/id/sys_vendor": "QEMU\n",
                "/sys/devices/system/clocksource/clocksource0/available_clocksource": "kvm-clock tsc acpi_pm \n",
            },
            "kvm",
        ),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "kvm"),
        ({}, ""),
    ],
)
def test_what_emulates_a_machine_is_told_by_cpu_clock_and_firmware(
    files: dict[str, str], word: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        write(tmp_path, name, text)
    assert virtualization(Root(tmp_path)) == word
