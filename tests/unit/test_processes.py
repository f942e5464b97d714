"""What is seen of a process from outside, against what the process says of itself."""

from __future__ import annotations

import json
import os
import sys

from numabench import process
from numabench.host import processes
from numabench.host.root import LIVE

FAMILY = """
import ctypes, json, mmap, os, sys, threading, time
children = []
for _ in range(2):
    children.append(os.fork())
    if children[-1] == 0:
        sys.stdin.read()
        os._exit(0)
memory = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
thread = threading.Thread(target=sys.stdin.read)
thread.start()
print(json.dumps({"children": children, "address": address, "tids": [os.getpid(), thread.native_id]}), flush=True)
thread.join()
"""


def test_a_family_is_seen_with_its_threads_and_memory() -> None:
    held, hold = os.pipe()
    told, tell = os.pipe()
    parent = process.start([sys.executable, "-c", FAMILY], stdin=held, stdout=tell)
    os.close(held)
    os.close(tell)
    with os.fdopen(told) as words:
        said = json.loads(words.readline())
        assert processes.tree(LIVE, parent.pid) == tuple(sorted([parent.pid, *said["children"]]))
        assert processes.threads(LIVE, parent.pid) == tuple(sorted(said["tids"]))
        covering = [
            (address, size_bytes)
            for address, size_bytes in processes.private_mappings(LIVE, parent.pid)
            if address <= said["address"] and said["address"] + (40 << 20) <= address + size_bytes
        ]
        assert len(covering) == 1
        os.close(hold)
        assert parent.wait(20) == 0
    assert processes.tree(LIVE, parent.pid) == ()
    assert processes.threads(LIVE, parent.pid) == ()
    assert processes.private_mappings(LIVE, parent.pid) == ()
