"""A Slurm cluster of two nodes on this host, made of docs/cluster.md: real daemons, played machines.

All is below one directory: configuration, sockets, logs, and of each node the root that its booted kernel is read from.
What a machine does when it is told to reboot is `systemctl`, a program of ours that comes first in slurmd's PATH: it
ends the node's slurmd, switches the files that say which kernel runs, and starts slurmd again, or fails to as told.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOC = Path(__file__).parents[1] / "docs" / "cluster.md"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel")
NODES = ("n1", "n2")
KERNELS = {"k6_12": "6.12.48-test", "k6_18": "6.18.2-test", "k7_2": "7.2.13-test"}
# Timeouts are those of a lab cut short. What a job waits for after its node has died is cred_expire.
TIMEOUTS = {"SlurmdTimeout": "5", "ResumeTimeout": "8", "KillWait": "3", "SchedulerParameters": "sched_interval=1"}
_UP_S = 30.0


def missing() -> tuple[str, ...]:
    """What is not installed of what a cluster needs."""
    return tuple(f"{name} was not found" for name in PROGRAMS if process.find_program(name) is None)


def documented(name: str) -> str:
    """The file of that path that docs/cluster.md shows."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", DOC.read_text(), flags=re.DOTALL | re.MULTILINE):
        if re.match(rf"(#!.*\n)?# {re.escape(name)}\b", block):
            return str(block)
    raise AssertionError(f"{DOC} shows no {name}")


class Cluster:
    """The daemons. `nights` is where a lab belongs that runs on it, `roots` has each node's root."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.etc, self.roots, self.machines = base / "etc", base / "roots", base / "machines"
        self.ports = _free_ports(1 + len(NODES))
        self.config = self.etc / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.config)}
        for name in ("etc", "munge", "state", "spool", "log", "bin"):
            (base / name).mkdir()
        (base / "munge").chmod(0o700)
        self._write_config()
        self._write_programs()
        for node in NODES:
            (self.machines / node).mkdir(parents=True)
            self.write_kernel(node, "k6_12")

    def _write_config(self) -> None:
        user = getpass.getuser()
        munge = f"socket={self.base}/munge/socket,cred_expire=5"
        changes = {
            "SlurmctldHost": "localhost(127.0.0.1)",
            "SlurmUser": user,
            "StateSaveLocation": f"{self.base}/state",
            "SlurmdSpoolDir": f"{self.base}/spool/%n",
            "SlurmctldPidFile": f"{self.base}/spool/slurmctld.pid",
            "SlurmdPidFile": f"{self.base}/spool/%n.pid",
            "SlurmctldLogFile": f"{self.base}/log/slurmctld",
            "SlurmdLogFile": f"{self.base}/log/%n",
            "AuthInfo": munge,
            "RebootProgram": f"{self.etc}/boot-kernel",
            **TIMEOUTS,
        }
        # Several nodes of one host, none of whom may be asked how big it is; nothing listens but on the loopback.
        added = {
            "SlurmdUser": user,
            "SlurmctldPort": str(self.ports[0]),
            "SlurmdParameters": "config_overrides",
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
            "SlurmctldDebug": "debug",
            "MessageTimeout": "5",
        }
        lines = []
        for line in documented("/etc/slurm/slurm.conf").splitlines():
            key = line.partition("=")[0]
            if key == "NodeName":
                lines += [
                    f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=100"
                    for node, port in zip(NODES, self.ports[1:], strict=True)
                ]
            else:
                lines.append(f"{key}={changes.pop(key)}" if key in changes else line)
        assert not changes, f"docs/cluster.md does not set {changes}"
        lines += [f"{key}={value}" for key, value in added.items()]
        self.config.write_text("\n".join([*lines, ""]))
        helpers = documented("/etc/slurm/helpers.conf").replace("/etc/slurm", str(self.etc))
        helpers = re.sub(r"BootTime=\d+", "BootTime=8", helpers)
        # The page has two kernels; each line of its is one of every kernel here.
        for name in KERNELS:
            if name not in helpers:
                helpers = helpers.replace(",k6_18", f",k6_18,{name}")
                helpers += f"Feature={name} Helper={self.etc}/kernel-feature\n"
        (self.etc / "helpers.conf").write_text(helpers)
        (self.etc / "kernels").write_text("".join(f"{name} {KERNELS[name]} entry-{name}\n" for name in KERNELS))

    def _write_programs(self) -> None:
        """The documented programs as they are, but for paths; and what they call of a machine, played."""
        for name in ("kernel-feature", "boot-kernel"):
            text = documented(f"/etc/slurm/{name}").replace("/etc/slurm", str(self.etc))
            _program(self.etc / name, text.replace("/run/numabench-entry", f"{self.machines}/$NODE/entry"))
        _program(self.base / "bin" / "uname", f'#!/bin/sh\ncat "{self.roots}/$NODE/proc/sys/kernel/osrelease"\n')
        _program(self.base / "bin" / "grub-reboot", f'#!/bin/sh\necho "$1" >"{self.machines}/$NODE/once"\n')
        _program(self.base / "bin" / "systemctl", _SYSTEMCTL.replace("@BASE@", str(self.base)))
        for feature, release in KERNELS.items():
            root = self.base / "boot" / f"entry-{feature}"
            (root / "proc/sys/kernel/random").mkdir(parents=True)
            (root / "sys/kernel").mkdir(parents=True)
            (root / "proc/sys/kernel/osrelease").write_text(f"{release}\n")
            (root / "proc/cmdline").write_text(f"BOOT_IMAGE=/vmlinuz-{release} ro quiet\n")
            (root / "sys/kernel/notes").write_bytes(_note(bytes([len(feature)]) * 4 + feature.encode().ljust(16)))

    def write_kernel(self, node: str, feature: str) -> None:
        """Have a node run a kernel, in a boot that is new."""
        shutil.copytree(self.base / "boot" / f"entry-{feature}", self.roots / node, dirs_exist_ok=True)
        (self.roots / node / "proc/sys/kernel/random/boot_id").write_text(f"{uuid.uuid4()}\n")

    def start(self) -> None:
        """Start all, and wait until both nodes can be used."""
        key = self.base / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        munge = self.base / "munge"
        # --force: who else cannot reach its socket is nobody who should.
        self._run("munged", "--force", f"--socket={munge}/socket", f"--key-file={key}", f"--log-file={munge}/log",
                  f"--pid-file={munge}/pid", f"--seed-file={munge}/seed")  # fmt: skip
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_for_nodes(NODES)

    def start_controller(self) -> None:
        """Start slurmctld, which goes on with the state that it saved."""
        self._run("slurmctld", "-f", str(self.config))

    def kill_controller(self) -> None:
        """End slurmctld as a crash does."""
        self._kill(self.base / "spool" / "slurmctld.pid", signal.SIGKILL)

    def start_node(self, node: str, *, booted: bool = False) -> None:
        """Start a node's slurmd; `booted`: it says that the node has booted just now."""
        self._run("slurmd", *(["-b"] if booted else []), "-N", node, "-f", str(self.config), node=node)

    def mend_node(self, node: str) -> None:
        """Have a node come up again, with a new boot of the kernel that it ran, as by its power button."""
        feature = next(name for name in KERNELS if KERNELS[name] == self.release(node))
        self.write_kernel(node, feature)
        self.start_node(node, booted=True)

    def release(self, node: str) -> str:
        """The release that a node runs."""
        return (self.roots / node / "proc/sys/kernel/osrelease").read_text().strip()

    def kill_slurmd(self, node: str) -> None:
        """End a node's slurmd, and nothing that it has started."""
        self._kill(self.base / "spool" / f"{node}.pid", signal.SIGKILL)

    def kill_node(self, node: str) -> None:
        """End all that a node runs, at once, as its power failing does."""
        self.kill_slurmd(node)
        for pid, environment in self._processes():
            if f"SLURMD_NODENAME={node}" in environment or f"NODE={node}" in environment:
                _kill_pid(pid)

    def fail_boots(self, node: str, how: str) -> None:
        """Have a node's next boots come up with the kernel before (`fall-back`), or never (`dead`); empty: well."""
        (self.machines / node / "fault").write_text(how)

    def boots(self, node: str) -> int:
        """How often a node was told to boot."""
        with contextlib.suppress(FileNotFoundError):
            return len((self.machines / node / "boots").read_text().splitlines())
        return 0

    def heal(self) -> None:
        """Have both nodes taken again that Slurm has drained, as it does with one that does not take a job."""
        deadline = time.monotonic() + _UP_S
        while set((states := self._states()).values()) != {"idle"} and time.monotonic() < deadline:
            for node in NODES:
                # It refuses while what drained the node goes on.
                if "drain" in states.get(node, ""):
                    words = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
                    process.run(words, env=self.environment, timeout_s=20)
            time.sleep(0.5)
        self.wait_for_nodes(NODES)

    def _states(self) -> dict[str, str]:
        argv = ["sinfo", "--noheader", "--Node", "--format=%N %T"]
        told = process.run(argv, env=self.environment, timeout_s=20).stdout
        return dict(line.split() for line in told.splitlines())

    def wait_for_nodes(self, nodes: Iterable[str], state: str = "idle") -> None:
        """Wait until nodes are in a state."""
        deadline = time.monotonic() + _UP_S
        wanted = set(nodes)
        states: dict[str, str] = {}
        while time.monotonic() < deadline:
            states = self._states()
            if all(states.get(node) == state for node in wanted):
                return
            time.sleep(0.2)
        raise AssertionError(f"nodes {sorted(wanted)} are not {state}: {states}\n{self.log()}")

    def log(self) -> str:
        """The end of slurmctld's log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join((self.base / "log" / "slurmctld").read_text(errors="replace").splitlines()[-40:])
        return ""

    def stop(self) -> None:
        """End everything that was started here, and all that it started."""
        for _ in range(50):
            living = [pid for pid, _ in self._processes()]
            if not living:
                return
            for pid in living:
                _kill_pid(pid)
            time.sleep(0.1)
        raise AssertionError(f"processes {living} of the cluster cannot be ended")

    def _processes(self) -> Iterator[tuple[int, list[str]]]:
        """All processes that were started with this cluster's configuration, this one excepted."""
        mine = f"SLURM_CONF={self.config}"
        for path in Path("/proc").iterdir():
            if not path.name.isdecimal() or int(path.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                environment = (path / "environ").read_bytes().decode(errors="replace").split("\0")
                if mine in environment and not _is_zombie(path):
                    yield int(path.name), environment

    def _run(self, program: str, *words: str, node: str = "") -> None:
        """Start a daemon, which goes into the background once it can be asked."""
        environment = dict(self.environment)
        if node:
            environment |= {"NODE": node, "PATH": f"{self.base}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"}
        done = process.run([program, *words], env=environment, cwd=self.base, timeout_s=30)
        assert done.exit_status == 0, f"{program}: {done.stdout}{done.stderr}\n{self.log()}"

    @staticmethod
    def _kill(pid_file: Path, number: signal.Signals) -> None:
        pid = int(pid_file.read_text())
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


# What it must not do is wait for slurmd, which waits for it.
_SYSTEMCTL = """#!/bin/sh
set -eu
[ "$1" = reboot ]
echo "$(date +%s)" >>"@BASE@/machines/$NODE/boots"
setsid sh -c '
	cd "@BASE@/machines/$NODE"
	read -r pid <"@BASE@/spool/$NODE.pid"
	kill -9 "$pid"
	fault=$(cat fault 2>/dev/null || true)
	[ "$fault" != dead ] || exit 0
	if [ -s once ] && [ "$fault" != fall-back ]; then
		cp -r "@BASE@/boot/$(cat once)/." "@BASE@/roots/$NODE/"
	fi
	rm -f once
	cat /proc/sys/kernel/random/uuid >"@BASE@/roots/$NODE/proc/sys/kernel/random/boot_id"
	exec slurmd -b -N "$NODE" -f "@BASE@/etc/slurm.conf"
' </dev/null >/dev/null 2>&1 &
"""


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _note(build_id: bytes) -> bytes:
    """An ELF note of type NT_GNU_BUILD_ID, as /sys/kernel/notes has it."""
    return b"".join(number.to_bytes(4, "little") for number in (4, len(build_id), 3)) + b"GNU\0" + build_id


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _kill_pid(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_zombie(path: Path) -> bool:
    return ") Z " in (path / "stat").read_text(errors="replace")
