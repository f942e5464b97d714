"""libnuma and the NUMA system calls: affinity, memory policy and page migration.

Nothing of cffi leaves this module: ids, addresses, tuples and arrays go in and come out. Affinity and memory policy
belong to the calling *thread* and are inherited by what it starts (set_mempolicy(2), sched_setaffinity(2)). A call
that fails raises `CallFailed`, an `OSError`, with the call's name and arguments, and says what forbade it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench.errors import EXIT_CANNOT_RUN, CannotRun, NumabenchError
from numabench.host.root import LIVE, Root
from numabench.host.seccomp import Limits, Refusal, read_limits, read_online_nodes
from numabench.idset import format_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_WHAT = "numabench's binding to libnuma"
try:
    from numabench._libnuma import ffi, lib
except ModuleNotFoundError:
    raise CannotRun(
        _WHAT,
        ("the extension numabench._libnuma is not built",),
        "build it with `pip install .`, or `make` in a checkout; it needs gcc and libnuma-dev",
    ) from None
except ImportError as missing:
    raise CannotRun(
        _WHAT, (f"the extension does not load: {missing}",), "install libnuma (Debian, Ubuntu: libnuma1)"
    ) from None

MPOL_MF_STRICT = 1
MPOL_MF_MOVE = 2
MPOL_MF_MOVE_ALL = 4

# By number; the names are those of set_mempolicy(2) without MPOL_.
MODES = ("default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave")
MODE_FLAGS = {"numa-balancing": 1 << 13, "relative-nodes": 1 << 14, "static-nodes": 1 << 15}
_MODE_FLAGS_MASK = sum(MODE_FLAGS.values())
_MPOL_F_NODE, _MPOL_F_ADDR, _MPOL_F_MEMS_ALLOWED = 1, 2, 4

# A status that the kernel has not written: what it would have been is not known.
UNTOUCHED: int = lib.PLACEMENT_UNTOUCHED
# Of our own: a page that is present but waits for its hint fault, on a kernel that hides its node from move_pages(2).
PROTNONE: int = lib.PLACEMENT_PROTNONE
_BITS_PER_LONG = 8 * ffi.sizeof("unsigned long")
_MASK_BITS: int = lib.PLACEMENT_NODES


class CallFailed(NumabenchError, OSError):
    """A system call failed. `errno` is kept; `status` holds what move_pages(2) wrote before it failed."""

    def __init__(self, number: int, call: str, why: str = "", hint: str = "", status: tuple[int, ...] = ()) -> None:
        super().__init__(f"{call}: {os.strerror(number)}" + (f": {why}" if why else ""), hint)
        self.errno = number
        self.status = status


class CallForbidden(CallFailed, PermissionError):
    """The kernel, a seccomp filter, or the cpuset forbids the call; the message says which."""

    exit_code = EXIT_CANNOT_RUN


class ProcessGone(CallFailed, ProcessLookupError):
    """The process ended."""


_FAILURES: dict[int, type[CallFailed]] = {
    errno.EPERM: CallForbidden,
    errno.EACCES: CallForbidden,
    errno.ENOSYS: CallForbidden,
    errno.ESRCH: ProcessGone,
}


@dataclass(frozen=True)
class MemoryPolicy:
    """A memory policy: a mode of `MODES`, its nodes, and its flags of `MODE_FLAGS` (set_mempolicy(2))."""

    mode: str
    nodes: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class MovePages:
    """What move_pages(2) said.

    `result` is 0, or the number of pages not moved, counting those never tried (since Linux kernel commit a49bd4d71637
    ("mm: unclutter THP migration"), in v4.17). `status` has one entry a page: a node, a negative errno, or `UNTOUCHED`;
    `status_name` puts one in words.
    """

    result: int
    status: tuple[int, ...]


def status_name(status: int) -> str:
    """A page's status in words: `node 1`, `EBUSY`, `untouched`, `protnone`."""
    if status >= 0:
        return f"node {status}"
    if status == UNTOUCHED:
        return "untouched"
    if status == PROTNONE:
        return "protnone"
    return errno.errorcode.get(-status, f"errno {-status}")


def _mask(nodes: Sequence[int], among: Sequence[int] = ()) -> tuple[Any, int]:
    """A mask of nodes, wide enough for those it is `among`, and its maxnode; NULL and 0 for no nodes at all."""
    known = (*nodes, *among)
    if not known:
        return ffi.NULL, 0
    if min(known) < 0:
        raise ValueError(f"{min(known)} is not a node id")
    words = ffi.new("unsigned long[]", max(known) // _BITS_PER_LONG + 1)
    for node in nodes:
        words[node // _BITS_PER_LONG] |= 1 << node % _BITS_PER_LONG
    # The kernel takes a bit fewer than it is told: node n needs maxnode n + 2 (get_nodes() in mm/mempolicy.c).
    return words, max(known) + 2


def _ids(words: Any) -> tuple[int, ...]:
    return tuple(
        index * _BITS_PER_LONG + bit
        for index, word in enumerate(words)
        if word
        for bit in range(_BITS_PER_LONG)
        if word >> bit & 1
    )


def _harmless(call: str) -> int:
    """The errno of the call with arguments that change nothing and that the kernel grants to everybody; 0 if granted.

    move_pages, mbind and the home node are asked for no pages at all; set_mempolicy for a mode that no kernel has
    (EINVAL), migrate_pages for no nodes.
    """
    null = ffi.NULL
    calls: dict[str, Callable[[], int]] = {
        "get_mempolicy": lambda: int(lib.get_mempolicy(null, null, 0, null, 0)),
        "set_mempolicy": lambda: int(lib.set_mempolicy(-1, null, 0)),
        "mbind": lambda: int(lib.mbind(null, 0, 0, null, 0, 0)),
        "migrate_pages": lambda: int(lib.migrate_pages(0, 0, null, null)),
        "move_pages": lambda: int(lib.move_pages(0, 0, null, null, null, MPOL_MF_MOVE)),
        "set_mempolicy_home_node": lambda: int(lib.numabench_home_node(0, 0, 0, 0)),
    }
    return int(ffi.errno) if call in calls and calls[call]() < 0 else 0


def denied_calls() -> dict[str, int]:
    """The errno of each NUMA system call that is refused whatever its arguments; none where all may be made.

    The kernel grants them all without any privilege, with the arguments tried here: what refuses is a seccomp filter or
    a security module, or it is a kernel without CONFIG_NUMA (ENOSYS).
    """
    calls = ("get_mempolicy", "set_mempolicy", "mbind", "migrate_pages", "move_pages")
    tried = {call: _harmless(call) for call in calls}
    return {call: number for call, number in tried.items() if number in (errno.EPERM, errno.EACCES, errno.ENOSYS)}


def _failed(
    call: str,
    arguments: str,
    *,
    number: int | None = None,
    pid: int = 0,
    nodes: Sequence[int] = (),
    wants_all_pages: bool = False,
    status: tuple[int, ...] = (),
) -> CallFailed:
    """The exception for a call that has just failed; `number` is its errno where errno has been overwritten."""
    number = int(ffi.errno) if number is None else number
    other = 0 if pid == os.getpid() else pid
    refusal = Refusal(
        call=call,
        number=number,
        harmless_errno=_harmless(call),
        caller=read_limits() or Limits(0, 0, ()),
        target=read_limits(pid=other) if other else None,
        online_nodes=read_online_nodes(),
        pid=other,
        nodes=nodes,
        wants_all_pages=wants_all_pages,
    )
    why, hint = refusal.explain()
    return _FAILURES.get(number, CallFailed)(number, f"{call}({arguments})", why, hint, status)


def _cpumask() -> Any:
    return ffi.gc(lib.numa_allocate_cpumask(), lib.numa_bitmask_free)


def get_affinity() -> tuple[int, ...]:
    """The CPUs that the calling thread may run on, however many the kernel was built for."""
    mask = _cpumask()
    if lib.numa_sched_getaffinity(0, mask) < 0:
        raise _failed("sched_getaffinity", "0")
    return _ids(mask.maskp[0 : mask.size // _BITS_PER_LONG])


def set_affinity(cpus: Sequence[int]) -> None:
    """Confine the calling thread to some CPUs (sched_setaffinity(2)).

    The kernel leaves out those that are offline or outside the cpuset, without a word; none left is EINVAL.
    """
    mask = _cpumask()
    arguments = f"0, cpus={format_ids(cpus)}"
    for cpu in cpus:
        if not 0 <= cpu < mask.size:
            raise CallFailed(errno.EINVAL, f"sched_setaffinity({arguments})", f"there is no CPU {cpu}")
        lib.numa_bitmask_setbit(mask, cpu)
    if lib.numa_sched_setaffinity(0, mask) < 0:
        raise _failed("sched_setaffinity", arguments)


def run_on_nodes(nodes: Sequence[int]) -> None:
    """Confine the calling thread to the CPUs of some nodes (numa_node_to_cpus(3)); nodes without any add none."""
    arguments = f"nodes={format_ids(nodes)}"
    cpus: list[int] = []
    for node in nodes:
        mask = _cpumask()
        if not lib.numa_bitmask_isbitset(lib.numa_nodes_ptr, node):
            raise CallFailed(errno.EINVAL, f"run_on_nodes({arguments})", f"there is no node {node}")
        if lib.numa_node_to_cpus(node, mask) < 0:
            raise _failed("numa_node_to_cpus", str(node))
        cpus += _ids(mask.maskp[0 : mask.size // _BITS_PER_LONG])
    if not cpus:
        raise CallFailed(errno.EINVAL, f"run_on_nodes({arguments})", f"node {format_ids(nodes)} has no CPUs")
    set_affinity(cpus)


def _get_mempolicy(address: int, flags: int) -> tuple[int, tuple[int, ...]]:
    mode = ffi.new("int *")
    words = ffi.new("unsigned long[]", _MASK_BITS // _BITS_PER_LONG)
    # The kernel answers F_NODE without a mask, and F_MEMS_ALLOWED without a mode.
    mask, maxnode = (ffi.NULL, 0) if flags & _MPOL_F_NODE else (words, _MASK_BITS + 1)
    mode_pointer = ffi.NULL if flags & _MPOL_F_MEMS_ALLOWED else mode
    if lib.get_mempolicy(mode_pointer, mask, maxnode, ffi.cast("void *", address), flags) < 0:
        raise _failed("get_mempolicy", f"address={address:#x}, flags={flags}")
    return int(mode[0]), _ids(words)


def _policy(number: int, nodes: tuple[int, ...]) -> MemoryPolicy:
    mode = number & ~_MODE_FLAGS_MASK
    return MemoryPolicy(
        mode=MODES[mode] if mode < len(MODES) else f"mode-{mode}",
        nodes=nodes,
        flags=tuple(name for name, bit in MODE_FLAGS.items() if number & bit),
    )


def get_mempolicy() -> MemoryPolicy:
    """The memory policy of the calling thread."""
    return _policy(*_get_mempolicy(0, 0))


def policy_at(address: int) -> MemoryPolicy:
    """The memory policy of the mapping at an address of this process. EFAULT where nothing is mapped."""
    return _policy(*_get_mempolicy(address, _MPOL_F_ADDR))


def node_at(address: int) -> int:
    """The node of the page at an address of this process. Reads the page, so that one never touched is faulted in."""
    return _get_mempolicy(address, _MPOL_F_ADDR | _MPOL_F_NODE)[0]


def nodes_allowed() -> tuple[int, ...]:
    """The nodes on which the calling thread's cpuset lets it have memory."""
    return _get_mempolicy(0, _MPOL_F_MEMS_ALLOWED)[1]


def _mode_number(mode: str, flags: Sequence[str]) -> int:
    if mode not in MODES:
        raise ValueError(f"there is no memory policy '{mode}'; there are {', '.join(MODES)}")
    return MODES.index(mode) | sum(MODE_FLAGS[flag] for flag in flags)


def set_mempolicy(mode: str, nodes: Sequence[int] = (), flags: Sequence[str] = ()) -> None:
    """Set the memory policy of the calling thread, for pages that it faults in from now on (set_mempolicy(2))."""
    words, maxnode = _mask(nodes)
    if lib.set_mempolicy(_mode_number(mode, flags), words, maxnode) < 0:
        raise _failed("set_mempolicy", _policy_text(mode, nodes, flags), nodes=nodes)


@contextlib.contextmanager
def kept_from_balancing() -> Iterator[None]:
    """Have automatic balancing leave the calling thread's memory alone, so that what it migrates is not ours.

    It neither scans nor moves memory under a strict policy without MPOL_F_NUMA_BALANCING (set_mempolicy(2);
    vma_policy_mof() in mm/mempolicy.c): the thread is bound to all the nodes it may use. Threads and programs started
    meanwhile inherit that.
    """
    before = get_mempolicy()
    set_mempolicy("bind", nodes_allowed())
    try:
        yield
    finally:
        set_mempolicy(before.mode, before.nodes, before.flags)


def _policy_text(mode: str, nodes: Sequence[int], flags: Sequence[str]) -> str:
    return "|".join((mode, *flags)) + (f", nodes={format_ids(nodes)}" if nodes else "")


def mbind(
    address: int,
    size_bytes: int,
    mode: str,
    nodes: Sequence[int] = (),
    *,
    policy_flags: Sequence[str] = (),
    flags: int = 0,
) -> None:
    """Set the memory policy of a range of this process, and with MPOL_MF_MOVE move its pages there (mbind(2)).

    A return says little about pages: without MPOL_MF_STRICT those that could not be moved are not told, and pages
    shared after fork(2) are passed over even with it. EIO with MPOL_MF_STRICT and misplaced pages.
    """
    words, maxnode = _mask(nodes)
    number = _mode_number(mode, policy_flags)
    if lib.mbind(ffi.cast("void *", address), size_bytes, number, words, maxnode, flags) < 0:
        raise _failed(
            "mbind",
            f"address={address:#x}, bytes={size_bytes}, {_policy_text(mode, nodes, policy_flags)}, flags={flags}",
            nodes=nodes,
            wants_all_pages=bool(flags & MPOL_MF_MOVE_ALL),
        )


def set_mempolicy_home_node(address: int, size_bytes: int, node: int) -> None:
    """Set the node that allocation in a range starts from (set_mempolicy_home_node(2), Linux 5.17).

    The range needs a policy `bind` or `preferred-many`: ENOENT where it has none, EOPNOTSUPP where it has another.
    """
    if lib.numabench_home_node(address, size_bytes, node, 0) < 0:
        raise _failed(
            "set_mempolicy_home_node", f"address={address:#x}, bytes={size_bytes}, node={node}", nodes=(node,)
        )


def migrate_pages(pid: int, old: Sequence[int], new: Sequence[int]) -> int:
    """Move all pages of a process from some nodes to others; the number of pages not moved (migrate_pages(2)).

    Pages that other processes map are moved only with CAP_SYS_NICE. ENOMEM when the target fills up. The kernel leaves
    out of `new` what the caller's own cpuset lacks.
    """
    old_words, maxnode = _mask(old, among=new)
    new_words, _ = _mask(new, among=old)
    result = int(lib.migrate_pages(pid, maxnode, old_words, new_words))
    if result < 0:
        raise _failed("migrate_pages", f"{pid}, from={format_ids(old)}, to={format_ids(new)}", pid=pid, nodes=new)
    return result


def move_pages(
    pid: int, addresses: Sequence[int], nodes: Sequence[int] | None = None, flags: int = MPOL_MF_MOVE
) -> MovePages:
    """Move each page to its node, or with no nodes ask where each is (move_pages(2)).

    `pid` 0 is this process. Raises `CallFailed` with what was written so far as its `status`: the call can fail after
    it has moved pages, so that statuses left `UNTOUCHED` say nothing of where a page is.
    """
    count = len(addresses)
    if nodes is not None and len(nodes) != count:
        raise ValueError(f"{len(nodes)} nodes for {count} pages")
    pages = ffi.new("void *[]", [ffi.cast("void *", address) for address in addresses])
    targets = ffi.NULL if nodes is None else ffi.new("int[]", list(nodes))
    status = ffi.new("int[]", [UNTOUCHED] * count)
    result = int(lib.move_pages(pid, count, pages, targets, status, flags))
    number, written = int(ffi.errno), tuple(status)
    if result < 0:
        wanted = sorted(set(nodes or ()))
        where = "" if nodes is None else f", nodes={','.join(map(str, wanted))}"
        raise _failed(
            "move_pages",
            f"{pid}, {count} pages{where}, flags={flags}",
            number=number,
            pid=pid,
            nodes=[node for node in wanted if node >= 0],
            wants_all_pages=bool(flags & MPOL_MF_MOVE_ALL),
            status=written,
        )
    return MovePages(result, written)


class Pagemap:
    """What finds a page's node by its frame, where move_pages(2) says that the page is absent: see c_ext/placement.h.

    Frames are shown to CAP_SYS_ADMIN alone (Documentation/admin-guide/mm/pagemap.rst). Without it a page that waits for
    its hint fault is told from one never touched, as `PROTNONE`, but not its node.
    """

    def __init__(self, root: Root = LIVE) -> None:
        spans = node_spans(root.read_or_none("/proc/zoneinfo") or "")
        self._root, self._count = root, len(spans)
        self._spans = ffi.new("struct placement_span[]", spans)

    @contextlib.contextmanager
    def of(self, pid: int) -> Iterator[Any]:
        """The pagemap of a process, for C; without a file where it may not be opened."""
        try:
            fd = os.open(self._root.path(f"/proc/{pid}/pagemap"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            fd = -1
        try:
            yield ffi.new("struct placement_pagemap *", (fd, self._spans, self._count))
        finally:
            if fd >= 0:
                os.close(fd)


def node_spans(zoneinfo: str) -> list[tuple[int, int, int]]:
    """The page frames of each node's zones, (first, end, node), from the text of /proc/zoneinfo (proc_zoneinfo(5))."""
    spans: list[tuple[int, int, int]] = []
    node = spanned = 0
    for line in zoneinfo.splitlines():
        words = line.replace(",", "").split()
        if words[:1] == ["Node"]:
            node = int(words[1])
        elif words[:1] == ["spanned"]:
            spanned = int(words[1])
        elif words[:1] == ["start_pfn:"]:
            spans.append((int(words[1]), int(words[1]) + spanned, node))
    return spans


class PageRanges:
    """Ranges of pages, (address, pages, draws) each, kept as the C code wants them: see c_ext/placement.h."""

    def __init__(self, ranges: Sequence[tuple[int, int, int]], page_bytes: int) -> None:
        self._ranges = ffi.new("struct placement_range[]", list(ranges))
        self._count = len(ranges)
        self._page_bytes = page_bytes
        self.pages = sum(pages for _, pages, _ in ranges)
        self.draws = sum(draws for _, _, draws in ranges)

    def query(self, pid: int, pagemap: Pagemap) -> array[int]:
        """The status of every page, range after range. Raises `CallFailed`."""
        status = array("i", bytes(self.pages * 4))
        with pagemap.of(pid) as seen:
            error = lib.placement_query(
                pid, self._ranges, self._count, self._page_bytes, seen, ffi.from_buffer("int[]", status)
            )
        self._check(error, pid, self.pages)
        return status

    def sample(self, pid: int, pagemap: Pagemap, random_state: array[int]) -> tuple[array[int], array[int]]:
        """Pages drawn at random, one from each of a range's `draws` equal strata: their addresses and statuses.

        `random_state` is one number above zero, which moves on. Raises `CallFailed`.
        """
        addresses, status = array("Q", bytes(self.draws * 8)), array("i", bytes(self.draws * 4))
        with pagemap.of(pid) as seen:
            error = lib.placement_sample(
                pid,
                self._ranges,
                self._count,
                self._page_bytes,
                seen,
                ffi.from_buffer("uint64_t[]", random_state),
                ffi.from_buffer("uint64_t[]", addresses),
                ffi.from_buffer("int[]", status),
            )
        self._check(error, pid, self.draws)
        return addresses, status

    def tally(self, status: array[int], nodes: Sequence[int]) -> tuple[tuple[tuple[int, ...], ...], dict[int, int]]:
        """A sample's pages of each range by node, last those on other nodes; and how many had which errno, negative."""
        width = len(nodes) + 1
        counts = ffi.new("uint64_t[]", self._count * width)
        errors = ffi.new("uint64_t[]", lib.PLACEMENT_ERRNOS)
        lib.placement_tally(
            self._ranges,
            self._count,
            ffi.from_buffer("int[]", status),
            ffi.new("int[]", list(nodes)),
            len(nodes),
            counts,
            errors,
        )
        rows = list(counts)
        return tuple(tuple(rows[at : at + width]) for at in range(0, len(rows), width)), _by_status(errors)

    @staticmethod
    def _check(error: int, pid: int, pages: int) -> None:
        if error:
            raise _failed("move_pages", f"{pid}, {pages} pages, flags=0", number=-error, pid=pid)


def _by_status(errors: Any) -> dict[int, int]:
    special = {0: UNTOUCHED, errno.EPERM: PROTNONE}
    return {special.get(number, -number): int(count) for number, count in enumerate(errors) if count}


def census(status: array[int]) -> tuple[dict[int, int], dict[int, int]]:
    """How many pages are on each node, and how many have which other status (a negative errno, or `UNTOUCHED`)."""
    nodes, errors = ffi.new("uint64_t[]", lib.PLACEMENT_NODES), ffi.new("uint64_t[]", lib.PLACEMENT_ERRNOS)
    lib.placement_census(ffi.from_buffer("int[]", status), len(status), nodes, errors)
    return {node: int(count) for node, count in enumerate(nodes) if count}, _by_status(errors)


def pairs(before: array[int], after: array[int], node_limit: int) -> tuple[dict[tuple[int, int], int], int]:
    """How many pages were on one node and are on another or the same, and how many were or are on no node.

    Nodes at `node_limit` and above count as none.
    """
    counts = ffi.new("uint64_t[]", node_limit * node_limit)
    unknown = lib.placement_pairs(
        ffi.from_buffer("int[]", before), ffi.from_buffer("int[]", after), len(before), node_limit, counts
    )
    return {divmod(index, node_limit): int(count) for index, count in enumerate(counts) if count}, int(unknown)


def version(root: Root = LIVE) -> str:
    """The libnuma in use: its release where the development files beside it tell, else the file's name."""
    for line in root.read("/proc/self/maps").splitlines():
        directory, slash, name = line.rpartition("/")
        if slash and name.startswith("libnuma.so"):
            described = root.read_or_none(f"/{directory.partition('/')[2]}/pkgconfig/numa.pc") or ""
            told = (row.partition(":")[2].strip() for row in described.splitlines() if row.startswith("Version:"))
            return next(told, name)
    return ""


@dataclass(frozen=True)
class Features:
    """What works here: None, or the reason why not."""

    get_mempolicy: str | None
    set_mempolicy: str | None
    mbind: str | None
    move_pages: str | None
    migrate_pages: str | None
    preferred_many: str | None
    weighted_interleave: str | None
    numa_balancing_flag: str | None
    home_node: str | None


def probe() -> Features:
    """Find out what works by trying it, never by a version number.

    It is tried in a thread of its own on memory of its own, since a policy belongs to a thread: the caller's stay as
    they are.
    """
    found: list[Features] = []
    prober = threading.Thread(target=lambda: found.append(_probe()), name="probe")
    prober.start()
    prober.join()
    (features,) = found
    return features


def _probe() -> Features:
    allowed = read_limits() or Limits(0, 0, (0,))
    nodes = allowed.allowed_nodes
    page_bytes = mmap.PAGESIZE
    with mmap.mmap(-1, page_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        view = ffi.from_buffer(memory)
        address = int(ffi.cast("uintptr_t", view))

        def bind_home() -> None:
            mbind(address, page_bytes, "bind", nodes)
            set_mempolicy_home_node(address, page_bytes, nodes[0])

        features = Features(
            get_mempolicy=_reason(get_mempolicy),
            set_mempolicy=_reason(lambda: set_mempolicy("bind", nodes)),
            mbind=_reason(lambda: mbind(address, page_bytes, "bind", nodes)),
            move_pages=_reason(lambda: move_pages(0, ())),
            migrate_pages=_reason(lambda: migrate_pages(0, nodes[:1], nodes[:1])),
            # Since Linux kernel commit b27abaccf8e8 ("mm/mempolicy: add MPOL_PREFERRED_MANY for multiple preferred
            # nodes") (in v5.15).
            preferred_many=_reason(lambda: set_mempolicy("preferred-many", nodes)),
            # Since Linux kernel commit fa3bea4e1f82 ("mm/mempolicy: introduce MPOL_WEIGHTED_INTERLEAVE for weighted
            # interleaving") (in v6.9).
            weighted_interleave=_reason(lambda: set_mempolicy("weighted-interleave", nodes)),
            # Since Linux kernel commit bda420b98505 ("numa balancing: migrate on fault among multiple bound nodes")
            # (in v5.12).
            numa_balancing_flag=_reason(lambda: set_mempolicy("bind", nodes, ("numa-balancing",))),
            # Since Linux kernel commit c6018b4b2549 ("mm/mempolicy: add set_mempolicy_home_node syscall") (in v5.17).
            home_node=_reason(bind_home),
        )
        ffi.release(view)
    return features


def _reason(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except CallFailed as error:
        return str(error)
    return None
