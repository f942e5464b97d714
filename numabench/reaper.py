"""A process of its own that clears up after numabench when it ends, however it ends (SIGKILL included)."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import ProgramError

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE_S = 60.0

# Reads session ids until end of file: that comes when the last holder of the pipe's other end, numabench, is gone.
_SCRIPT = """
sessions=
while read -r word; do
    case $word in
    forget) sessions= ;;
    *) sessions="$sessions $word" ;;
    esac
done
for session in $sessions; do kill -s KILL -- "-$session"; done
[ -z "$1" ] || rm -rf -- "$1"
# A probe can be removed once nobody counts it any more: whoever did was killed just now.
tries=0
while [ -n "$2" ] && [ $tries -lt 300 ] && grep -q ":$3/" "$2"; do
	for probe in $(grep -o ":$3/[^ ]*" "$2"); do echo "-$probe" >>"$2"; done 2>/dev/null
	grep -q ":$3/" "$2" && sleep 0.1
	tries=$((tries + 1))
done
"""


class Reaper:
    """Ends the sessions it was told of, and removes `directory`, once this process has ended or called `reap`.

    `kprobes` is tracefs's kprobe_events and a group of probes, which it takes out of the kernel, too.
    """

    def __init__(self, directory: Path | None = None, kprobes: tuple[Path, str] | None = None) -> None:
        reading, self._pipe = os.pipe()
        events, group = kprobes or ("", "")
        words = [str(directory or ""), str(events), group]
        try:
            self._process = process.start(["sh", "-c", _SCRIPT, "numabench-reaper", *words], stdin=reading)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading)

    def watch(self, session: int) -> None:
        """Have a session (all processes of its leader's group) ended, too."""
        self._tell(f"{session}\n")

    def forget(self) -> None:
        """End no session any more: they have ended, and their numbers may be used again."""
        self._tell("forget\n")

    def _tell(self, line: str) -> None:
        # Who ended the small process itself is not to be taken for the end of our own output.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, line.encode())

    def reap(self) -> None:
        """Clear up now, and return when that is done. Raises `ProgramError` where it takes more than a minute."""
        os.close(self._pipe)
        if self._process.wait(_PATIENCE_S) is None:
            raise ProgramError("what was left could not be cleared up within a minute")
