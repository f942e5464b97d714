"""Run inside a guest as root: set knobs, say so, and hold them until standard input ends or SIGKILL comes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from numabench.host import knobs

if __name__ == "__main__":
    action, state_dir, wanted = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if action == "recover":
        json.dump([entry.to_json() for entry in knobs.recover(state_dir=state_dir)], sys.stdout)
        sys.exit()
    with knobs.apply(wanted, state_dir=state_dir) as applied:
        inside = knobs.read_all()
        json.dump({"writes": [write.to_json() for write in applied.writes], "inside": inside}, sys.stdout)
        sys.stdout.flush()
        if action == "die":
            os.kill(os.getpid(), signal.SIGKILL)
