"""What runs in the guest: a POSIX shell script that is told its work over a virtio port and reports over the same.

Two ports, found by name below /sys/class/virtio-ports (no udev is needed): on `numabench.work` the host writes the
number of a run and the agent answers with its number and exit status; a line on `numabench.stop` sends SIGTERM to the
run. Reads block, so nothing is polled. When the host's end closes, whatever the reason, the guest powers off at once.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

EXCHANGE = "/run/numabench"
EXCHANGE_TAG = "numabench.exchange"
WORK_PORT = "numabench.work"
STOP_PORT = "numabench.stop"
READY = "ready"

AGENT = r"""#!/bin/sh
# The numabench guest agent. $1: the directory shared with the host.
exec </dev/null >/dev/console 2>&1
exchange=$1
running=/run/numabench.pid

port() {
	for name in /sys/class/virtio-ports/*/name; do
		read -r text <"$name" || continue
		if [ "$text" = "$1" ]; then
			name=${name%/name}
			echo "/dev/${name##*/}"
			return
		fi
	done
	echo "numabench: this guest has no virtio port $1" >&2
	exit 1
}

work=$(port numabench.work) || exit 1
stop=$(port numabench.stop) || exit 1
exec 3<>"$work" 4<>"$stop"
. "$exchange/mounts"

(
	while read -r _ <&4; do
		read -r pid <"$running" && kill -s TERM -- "-$pid"
	done
	echo o >/proc/sysrq-trigger
) 3>&- &

echo ready >&3
while read -r run <&3; do
	(
		cd "$exchange/$run" || exit 126
		exec setsid sh ./command >>stdout 2>>stderr 3>&- 4>&-
	)
	echo "$run $?" >&3
done
"""


def _mount(tag: str, directory: str) -> str:
    options = "version=9p2000.L,trans=virtio,access=any,msize=524288"
    return f"mkdir -p {shlex.quote(directory)} && mount -t 9p -o {options} {tag} {shlex.quote(directory)}"


def first_command() -> str:
    """What init runs: mount the exchange directory and become the agent."""
    return f"{_mount(EXCHANGE_TAG, EXCHANGE)} && exec sh {EXCHANGE}/agent {EXCHANGE}"


def mounts_script(writable: Mapping[str, Path]) -> str:
    """The script that mounts the host's writable directories (by 9p tag) where they are on the host."""
    return "".join(
        f"if ! {{ {_mount(tag, str(path))}; }}; then echo 'numabench: cannot mount {tag}'; exit 1; fi\n"
        for tag, path in writable.items()
    )


def command_script(argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str]) -> str:
    """The script of one run: it notes its process group, goes to `cwd` where the guest has it, and becomes `argv`."""
    words = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in env.items()), *argv])
    where = f"cd {shlex.quote(str(cwd))} 2>/dev/null || cd /" if cwd is not None else "cd /"
    return f"echo $$ >/run/numabench.pid\n{where}\nexec {words}\n"
