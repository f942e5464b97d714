"""What a machine is told so that it boots another kernel once."""

from __future__ import annotations

import dataclasses

from numabench.fleet.night_file import NightKernel
from numabench.fleet.plan import INSTALLED
from numabench.fleet.reboot import loader_commands

KERNEL = NightKernel("new", INSTALLED, "", "6.12.0-1", parameters=("quiet", "numa_balancing=disable"), entry="id > 1")
RUNNING = "BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro anon_vma_excl\n"


def test_boot_loaders_are_told_the_entry_and_for_once() -> None:
    reboot = ["systemctl", "reboot"]
    assert loader_commands(KERNEL, ("grub",), RUNNING, ()) == [["grub-reboot", "id > 1"], reboot]
    assert loader_commands(KERNEL, ("systemd-boot",), RUNNING, ()) == [["bootctl", "set-oneshot", "id > 1"], reboot]


def test_kexec_hands_on_the_command_line_without_what_is_of_other_kernels() -> None:
    load, go = loader_commands(KERNEL, ("kexec",), RUNNING, ("anon_vma_excl", "quiet", "numa_balancing=disable"))
    assert load == [
        "kexec",
        "-l",
        "/boot/vmlinuz-6.12.0-1",
        "--initrd=/boot/initrd.img-6.12.0-1",
        "--command-line=root=UUID=1 ro quiet numa_balancing=disable",
    ]
    assert go == ["systemctl", "kexec"]
    again = loader_commands(KERNEL, ("kexec",), "root=UUID=1 ro quiet numa_balancing=disable", KERNEL.parameters)
    assert again[0][-1] == load[-1]


def test_a_command_of_the_users_has_release_and_entry_put_in() -> None:
    other = dataclasses.replace(KERNEL, release="6.1 $(x)")
    assert loader_commands(other, ("ipmi", "{release}", "--entry={entry}"), RUNNING, ()) == [
        ["ipmi", "6.1 $(x)", "--entry=id > 1"]
    ]
