"""What a result was measured on: kernel, CPU, memory, versions, and whether that was a guest.

Everything is read below a root; the machine-id leaves only as a hash keyed for this application (machine-id(5)).
"""

from __future__ import annotations

import mmap
import os
import re
import sys
from typing import Any

from numabench import __version__
from numabench.host.build_id import build_id
from numabench.host.knobs import shown
from numabench.host.root import LIVE, Root
from numabench.idset import parse_ids
from numabench.units import KIB

_APPLICATION = b"numabench identity"
_GUEST_OPTION = "numabench.lab"
_ACCELERATOR_OPTION = "numabench.accel"
# What the firmware says of itself (/sys/class/dmi/id), by how it begins, in systemd-detect-virt(1)'s words.
_DMI_FILES = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
_DMI_VENDORS = {
    "Amazon EC2": "amazon",
    "Apple Virtualization": "apple",
    "Bochs": "bochs",
    "Google Compute Engine": "google",
    "Hyper-V": "microsoft",
    "KVM": "kvm",
    "Microsoft Corporation": "microsoft",
    "OpenStack": "kvm",
    "Parallels": "parallels",
    "QEMU": "qemu",
    "VMware": "vmware",
    "VMW": "vmware",
    "Xen": "xen",
    "innotek GmbH": "oracle",
}
_KVM_CLOCK = "kvm-clock"
_UNNAMED = "vm-other"


def identity(root: Root = LIVE) -> dict[str, Any]:
    """The identity of run.json (docs/result-format.md) without compiler, topology and knobs.

    What cannot be found out is an empty string or 0. Raises `CannotRun` where the libnuma binding is not built.
    """
    from numabench.host import libnuma

    options = _kernel_options(root)
    return {
        "numabench": __version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "libnuma": libnuma.version(),
        "where": "guest" if _GUEST_OPTION in options else "metal",
        "accelerator": options.get(_ACCELERATOR_OPTION, "") if _GUEST_OPTION in options else "",
        "virtualization": virtualization(root),
        "hostname": _line(root, "/proc/sys/kernel/hostname"),
        "machine_id_hash": _hash_machine_id(_line(root, "/etc/machine-id")),
        "boot_id": _line(root, "/proc/sys/kernel/random/boot_id"),
        "kernel": {
            "release": _line(root, "/proc/sys/kernel/osrelease"),
            "version": _line(root, "/proc/sys/kernel/version"),
            "build_id": build_id(_bytes(root, "/sys/kernel/notes")),
            "cmdline": _line(root, "/proc/cmdline"),
        },
        "cpu": _cpu(root),
        "page_bytes": mmap.PAGESIZE,
        "huge_page_bytes": _huge_page_bytes(root),
        "thp_enabled": shown(_line(root, "/sys/kernel/mm/transparent_hugepage/enabled")),
        "swap_total_bytes": _meminfo_bytes(root, "SwapTotal"),
    }


def _line(root: Root, name: str) -> str:
    return (root.read_or_none(name) or "").strip().strip("\0")


def _bytes(root: Root, name: str) -> bytes:
    return (root.read_or_none(name) or "").encode("utf-8", "surrogateescape")


def _kernel_options(root: Root) -> dict[str, str]:
    """The kernel's command line by option; one without a value has an empty one."""
    words = (word.partition("=") for word in _line(root, "/proc/cmdline").split())
    return {name: value for name, _, value in words}


def _hash_machine_id(machine_id: str) -> str:
    """HMAC-SHA256 keyed by the machine-id, as sd_id128_get_machine_app_specific(3) does, as 32 hex digits."""
    if not machine_id:
        return ""
    import hmac

    return hmac.new(machine_id.encode(), _APPLICATION, "sha256").hexdigest()[:32]


def _cpuinfo(root: Root) -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    first = (root.read_or_none("/proc/cpuinfo") or "").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cpu(root: Root) -> dict[str, Any]:
    first = _cpuinfo(root)
    model, vendor = first.get("model name", ""), first.get("vendor_id", "")
    if not model and root.is_live:
        # Other architectures name the model by numbers, or nowhere. It takes a second, and starts programs.
        import cpuinfo

        told = cpuinfo.get_cpu_info()
        model, vendor = told.get("brand_raw", ""), vendor or told.get("vendor_id_raw", "")
    return {
        "model": model,
        "vendor": vendor,
        "microcode": first.get("microcode", ""),
        "count": len(parse_ids(_line(root, "/sys/devices/system/cpu/online"))) or (os.cpu_count() or 0) * root.is_live,
    }


def _meminfo_bytes(root: Root, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", root.read_or_none("/proc/meminfo") or "", re.MULTILINE)
    return int(match[1]) * KIB if match else 0


def _huge_page_bytes(root: Root) -> int:
    """The size that a page-table entry one level up maps: what THP and, most often, hugetlbfs use."""
    told = _line(root, "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    return int(told) if told else _meminfo_bytes(root, "Hugepagesize")


def virtualization(root: Root = LIVE) -> str:
    """What this machine is emulated by, in systemd-detect-virt(1)'s words; empty on hardware.

    `kvm` where the guest uses KVM's clock; `qemu` where QEMU's firmware is there without it, as under TCG; `vm-other`
    where the CPU tells of a hypervisor that nothing else names.
    """
    hypervisor = _line(root, "/sys/hypervisor/type")
    if hypervisor:
        return hypervisor
    flags = _cpuinfo(root).get("flags", "").split()
    if flags and "hypervisor" not in flags:
        # An x86 CPU of its own, though the firmware may say a cloud's name: they rent out hardware, too.
        return ""
    clocks = _line(root, "/sys/devices/system/clocksource/clocksource0/available_clocksource").split()
    if _KVM_CLOCK in clocks:
        return "kvm"
    return _firmware(root) or (_UNNAMED if flags else "")


def _firmware(root: Root) -> str:
    """The hypervisor that DMI or the device tree names."""
    for name in _DMI_FILES:
        said = _line(root, f"/sys/class/dmi/id/{name}")
        for beginning, word in _DMI_VENDORS.items():
            if said.startswith(beginning):
                return word
    return "kvm" if "kvm" in _line(root, "/proc/device-tree/hypervisor/compatible") else ""
