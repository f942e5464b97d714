"""Run inside a guest with two nodes, as root: what the kernel answers to each NUMA call, as one JSON object."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numabench.host import knobs, libnuma, placement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
NOBODY = 65534
LIBC = ctypes.CDLL(None, use_errno=True)
ALL = libnuma.MPOL_MF_MOVE_ALL


@contextmanager
def memory(pages: int, node: int | None = 0, *, advice: int = mmap.MADV_NOHUGEPAGE) -> Iterator[int]:
    """Private pages, 2 MiB aligned, written on a node; with None left untouched."""
    with mmap.mmap(-1, pages * PAGE + HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapping:
        mapping.madvise(advice)
        view = ctypes.c_char.from_buffer(mapping)
        address = -(-ctypes.addressof(view) // HUGE) * HUGE
        if node is not None:
            libnuma.mbind(address, pages * PAGE, "bind", [node])
            ctypes.memset(address, 1, pages * PAGE)
            libnuma.mbind(address, pages * PAGE, "default")
        yield address
        del view


def each(address: int, pages: int) -> list[int]:
    return [address + page * PAGE for page in range(pages)]


def named(status: Sequence[int]) -> dict[str, int]:
    return dict(Counter(libnuma.status_name(one) for one in status))


def where(address: int, pages: int, pid: int = 0) -> dict[str, int]:
    return named(libnuma.move_pages(pid, each(address, pages)).status)


def told(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call answers: its result and statuses, or its error."""
    try:
        answer = call()
    except libnuma.CallFailed as error:
        number = errno.errorcode[error.errno or 0]
        failed = {"errno": number, "message": str(error), "class": type(error).__name__}
        return {**failed, **({"status": named(error.status)} if error.status else {})}
    if isinstance(answer, libnuma.MovePages):
        return {"result": answer.result, "status": named(answer.status)}
    return {"result": answer}


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a forked child finds."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(write_end, "w", encoding="utf-8") as pipe:
            json.dump(work(), pipe)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        found: dict[str, Any] = json.load(pipe)
    os.waitpid(child, 0)
    return found


@contextmanager
def sharer() -> Iterator[int]:
    """A forked child that maps all our pages until the block ends; its process id."""
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def moved() -> dict[str, Any]:
    with memory(16) as address:
        first = told(lambda: libnuma.move_pages(0, each(address, 16), [1] * 16))
        again = told(lambda: libnuma.move_pages(0, each(address, 16), [1] * 16))
        return {"first": first, "again": again, "after": where(address, 16), "node_at": libnuma.node_at(address)}


def queried() -> dict[str, Any]:
    with memory(4, None) as address:
        ctypes.memset(address, 1, PAGE)
        ctypes.string_at(address + PAGE, 1)
        status = libnuma.move_pages(0, [address, address + PAGE, address + 2 * PAGE, 0x1000]).status
        names = ("written", "read", "untouched", "unmapped")
        return dict(zip(names, map(libnuma.status_name, status), strict=True))


def refused_targets() -> dict[str, Any]:
    with memory(4) as address:
        return {
            "offline": told(lambda: libnuma.move_pages(0, each(address, 4), [9] * 4)),
            "negative": told(lambda: libnuma.move_pages(0, each(address, 4), [-1] * 4)),
            "strict": told(lambda: libnuma.move_pages(0, each(address, 4), [1] * 4, libnuma.MPOL_MF_STRICT)),
            "no_flags": told(lambda: libnuma.move_pages(0, each(address, 4), [1] * 4, 0)),
            "gone": told(lambda: libnuma.move_pages(4194304, each(address, 4), [1] * 4)),
        }


def shared_with_a_child() -> dict[str, Any]:
    with memory(8) as address, sharer() as child:
        pages = each(address, 8)
        return {
            "move": told(lambda: libnuma.move_pages(0, pages, [1] * 8)),
            "already_there": told(lambda: libnuma.move_pages(0, pages, [0] * 8)),
            "mbind_strict": told(lambda: libnuma.mbind(address, 8 * PAGE, "bind", [1], flags=3)),
            "after_mbind_strict": where(address, 8),
            "move_all": told(lambda: libnuma.move_pages(0, pages, [1] * 8, ALL)),
            "child_after": where(address, 8, child),
        }


def as_nobody() -> dict[str, Any]:
    parent = os.getpid()

    def ask() -> dict[str, Any]:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with memory(2) as address:
            pages = each(address, 2)
            return {
                "move_all": told(lambda: libnuma.move_pages(0, pages, [1] * 2, ALL)),
                "move": told(lambda: libnuma.move_pages(0, pages, [1] * 2)),
                "of_root": told(lambda: libnuma.move_pages(parent, pages)),
                "migrate_root": told(lambda: libnuma.migrate_pages(parent, [0], [1])),
            }

    return in_child(ask)


def pinned() -> dict[str, Any]:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    read_end, write_end = os.pipe()
    with memory(16) as address:
        LIBC.vmsplice(write_end, ctypes.byref(Vector(address, 8 * PAGE)), 1, 0)
        answer = told(lambda: libnuma.move_pages(0, each(address, 16), [1] * 16))
        found = {"move": answer, "first_half": where(address, 8), "second_half": where(address + 8 * PAGE, 8)}
    os.close(read_end)
    os.close(write_end)
    return found


def free_bytes(node: int) -> int:
    text = Path(f"/sys/devices/system/node/node{node}/meminfo").read_text(encoding="ascii")
    return next(int(line.split()[3]) << 10 for line in text.splitlines() if "MemFree" in line)


def target_full() -> dict[str, Any]:
    pages = 32768
    with memory(pages) as address:
        fill = (free_bytes(1) - (pages // 2) * PAGE) // PAGE
        with memory(fill, 1, advice=mmap.MADV_HUGEPAGE):
            answer = told(lambda: libnuma.move_pages(0, each(address, pages), [1] * pages))
            return {"move": answer, "after": where(address, pages)}


def transparent_huge_page() -> dict[str, Any]:
    pages = HUGE // PAGE
    with memory(pages, 0, advice=mmap.MADV_HUGEPAGE) as address:
        answer = libnuma.move_pages(0, each(address, pages), [1] * pages)
        busy = [index for index, status in enumerate(answer.status) if status == -errno.EBUSY]
        return {"move": told(lambda: answer), "busy": busy, "after": where(address, pages)}


def mbind_flags() -> dict[str, Any]:
    with memory(4) as address:
        size = 4 * PAGE
        return {
            "strict": told(lambda: libnuma.mbind(address, size, "bind", [1], flags=libnuma.MPOL_MF_STRICT)),
            "move": told(lambda: libnuma.mbind(address, size, "bind", [1], flags=libnuma.MPOL_MF_MOVE)),
            "after": where(address, 4),
            "policy": libnuma.policy_at(address).mode,
            "hole": told(lambda: libnuma.mbind(0x1000, PAGE, "bind", [1])),
            "unaligned": told(lambda: libnuma.mbind(address + 1, size, "bind", [1])),
            "no_such_node": told(lambda: libnuma.mbind(address, size, "bind", [9])),
        }


def home_node() -> dict[str, Any]:
    with memory(4, None) as address:
        size = 4 * PAGE
        found = {"no_policy": told(lambda: libnuma.set_mempolicy_home_node(address, size, 1))}
        libnuma.mbind(address, size, "interleave", [0, 1])
        found["interleave"] = told(lambda: libnuma.set_mempolicy_home_node(address, size, 1))
        libnuma.mbind(address, size, "bind", [0, 1])
        found["bind"] = told(lambda: libnuma.set_mempolicy_home_node(address, size, 1))
        ctypes.memset(address, 1, PAGE)
        return {**found, "first_page_on": libnuma.node_at(address)}


def migrated() -> dict[str, Any]:
    with memory(64) as address, sharer() as child:
        # Shared with us, they move because root has CAP_SYS_NICE.
        left = told(lambda: libnuma.migrate_pages(child, [0], [1]))
        return {"migrate": left, "after": where(address, 64, child)}


def policies() -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        libnuma.set_mempolicy("bind", [1])
        bound = libnuma.get_mempolicy()
        libnuma.run_on_nodes([1])
        with memory(4, None) as address:
            ctypes.memset(address, 1, 4 * PAGE)
            return {
                "mode": bound.mode,
                "nodes": bound.nodes,
                "affinity": libnuma.get_affinity(),
                "kernel_affinity": sorted(os.sched_getaffinity(0)),
                "touched_on": where(address, 4),
                "allowed": libnuma.nodes_allowed(),
            }

    return in_child(ask)


def confined_to_a_cpuset() -> dict[str, Any]:
    top = Path("/sys/fs/cgroup")
    (top / "cgroup.subtree_control").write_text("+cpuset", encoding="ascii")
    group = top / "numabench-test"
    group.mkdir()
    (group / "cpuset.mems").write_text("0", encoding="ascii")

    def ask() -> dict[str, Any]:
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        with memory(2) as address:
            return {
                "allowed": libnuma.nodes_allowed(),
                "move": told(lambda: libnuma.move_pages(0, each(address, 2), [1] * 2)),
                "mbind": told(lambda: libnuma.mbind(address, PAGE, "bind", [1])),
                "set_mempolicy": told(lambda: libnuma.set_mempolicy("bind", [1])),
            }

    found = in_child(ask)
    group.rmdir()
    return found


def forbidden_by_seccomp() -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        with memory(2) as address:
            deny_move_pages()
            return {
                "move": told(lambda: libnuma.move_pages(0, each(address, 2), [1] * 2)),
                "sample": told(lambda: placement.query_nodes(os.getpid(), [(address, PAGE)])),
                "mbind": told(lambda: libnuma.mbind(address, PAGE, "bind", [1])),
                "features": vars(libnuma.probe()),
            }

    return in_child(ask)


def deny_move_pages() -> None:
    """Have a seccomp filter answer EPERM to move_pages, as container runtimes do (seccomp(2))."""
    set_no_new_privs, set_seccomp, mode_filter, move_pages_x86_64 = 38, 22, 2, 279
    allow, deny = 0x7FFF0000, 0x00050000 | errno.EPERM
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in ((0x20, 0, 0, 0), (0x15, 0, 1, move_pages_x86_64), (0x06, 0, 0, deny), (0x06, 0, 0, allow))
    )
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    if LIBC.prctl(set_no_new_privs, 1, 0, 0, 0) or LIBC.prctl(set_seccomp, mode_filter, header):
        raise OSError(ctypes.get_errno(), "prctl")


def page_maps() -> dict[str, Any]:
    pages = 3000
    with memory(pages) as address:
        slices = [(address, pages * PAGE)]
        before = placement.query_nodes(os.getpid(), slices)
        libnuma.move_pages(0, each(address, 1000), [1] * 1000)
        after = placement.query_nodes(os.getpid(), slices)
        counts, unknown = before.moved_to(after)
        sample = placement.PageSampler(os.getpid(), slices, 300, [0, 1]).sample()
        return {
            "before": before.nodes(),
            "after": after.nodes(),
            "moved": {f"{source}>{target}": count for (source, target), count in counts.items()},
            "unknown": unknown,
            "sample": sample.pages,
        }


def waiting_for_hint_faults() -> dict[str, Any]:
    """Pages that balancing has made inaccessible and nobody has touched since.

    It passes over the pages of a single thread that are on its own node (change_pte_range()): so run on the other.
    """
    return in_child(_wait_for_scan)


def _wait_for_scan() -> dict[str, Any]:
    pages, set_dumpable, deadline_s = 2048, 4, 60
    libnuma.run_on_nodes([1])
    soon = {"numa_balancing": "1", "scan_delay_ms": "10", "scan_period_min_ms": "10", "scan_size_mb": "256"}
    with memory(pages) as address, knobs.apply(soon, state_dir=Path("/run/numabench-test-scan")):
        began = time.monotonic()
        while where(address, pages).get("ENOENT") != pages and time.monotonic() - began < deadline_s:
            pass

        def without_frames() -> dict[str, Any]:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            LIBC.prctl(set_dumpable, 1, 0, 0, 0)
            page_map = placement.query_nodes(os.getpid(), [(address, pages * PAGE)])
            return {"nodes": page_map.nodes(), "status": page_map.status()}

        page_map = placement.query_nodes(os.getpid(), [(address, pages * PAGE)])
        sample = placement.PageSampler(os.getpid(), [(address, pages * PAGE)], 100, [0, 1]).sample()
        return {
            "move_pages": where(address, pages),
            "map": {"nodes": page_map.nodes(), "status": page_map.status()},
            "sample": {"pages": sample.pages, "status": sample.status},
            "nobody": in_child(without_frames),
        }


def features() -> dict[str, Any]:
    return vars(libnuma.probe())


CASES = (
    moved,
    queried,
    refused_targets,
    shared_with_a_child,
    as_nobody,
    pinned,
    target_full,
    transparent_huge_page,
    mbind_flags,
    home_node,
    migrated,
    policies,
    confined_to_a_cpuset,
    forbidden_by_seccomp,
    page_maps,
    waiting_for_hint_faults,
    features,
)

if __name__ == "__main__":
    # Balancing would move pages between a call and the look at what it did.
    with knobs.apply({"numa_balancing": "0"}):
        json.dump({case.__name__: case() for case in CASES}, sys.stdout)
