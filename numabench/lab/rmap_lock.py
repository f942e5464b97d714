"""The linux-mm thread of 2012 asked of a kernel of today: what runs, on which kernel, in which of its two modes.

The kernel has a switch at boot, `anon_vma_excl`, that makes walks of the reverse map take anon_vma's lock exclusively,
as they did before commit 4fc3f1d66b1e ("mm/rmap, migration: Make rmap_walk_anon() and try_to_unmap_anon() more
scalable", in v3.8). One image booted twice is the whole difference.
"""

from __future__ import annotations

from dataclasses import dataclass

PARAMETER = "anon_vma_excl"
SOURCES = ("debian:6.12", "debian:6.1")


@dataclass(frozen=True)
class Arm:
    """A workload that runs in both modes: its name, what it is in a sentence, and the words of `numabench run`."""

    name: str
    what: str
    words: tuple[str, ...]
    is_control: bool = False


_MOVERS = ("--driver", "move_pages", "--nodes", "2", "--repeats", "1")
_PINGPONG = ("pingpong", *_MOVERS, "--size", "64M", "--loops", "16")
_FAMILY = ("forktree", *_MOVERS, "--move-all", "--size", "16M", "--loops", "16", "--depth", "1", "--churn", "none")
_BATCH = ("--batch", "512")
_OBSERVED = ("--observe", "cpu,cost")
ARMS = (
    # One anon_vma, its pages faulted before the threads start: each 4 KiB page takes its one lock twice.
    Arm(
        "one-mapping",
        "two threads, each moving its half of one mapping",
        (*_PINGPONG, "--threads", "2", *_BATCH, *_OBSERVED),
    ),
    # The objection of the thread: pages that a family of processes inherited hang on the lock of its root.
    Arm(
        "forked-sharers",
        "the same with 8 children that map the pages, too",
        (*_FAMILY, "--fanout", "8", "--threads", "2", *_BATCH, *_OBSERVED),
    ),
    # The controls: where the lock is not shared, not wanted twice at once, or taken 512 times less.
    Arm(
        "mapping-per-thread",
        "two threads, each moving a mapping of its own",
        (*_PINGPONG, "--threads", "2", "--mapping", "per-thread", *_BATCH, *_OBSERVED),
        is_control=True,
    ),
    Arm(
        "one-thread",
        "one thread moving all of one mapping",
        (*_PINGPONG, "--threads", "1", *_BATCH, *_OBSERVED),
        is_control=True,
    ),
    Arm(
        "huge-pages",
        "two threads and one mapping of huge pages",
        (*_PINGPONG, "--threads", "2", "--pages", "thp", "--batch", "1", *_OBSERVED),
        is_control=True,
    ),
)


def patch_name(release: str) -> str:
    """The name of the project's patch for a kernel's source, by its version (`6.12`)."""
    return f"anon-vma-excl-{release}"
