"""Transparent huge pages, large folios and hugetlb pages: whether the kernel has them, and how it is set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from numabench.host.knobs import FOLIOS_KIB, THP, shown
from numabench.units import KIB

if TYPE_CHECKING:
    from numabench.host.root import Root


__all__ = ["FOLIOS_KIB", "has_large_folios", "hugetlb_bytes", "thp_enabled"]


def thp_enabled(root: Root) -> str | None:
    """`always`, `madvise` or `never`; None on a kernel without CONFIG_TRANSPARENT_HUGEPAGE."""
    text = root.read_or_none(f"{THP}/enabled")
    return None if text is None else shown(text)


def has_large_folios(root: Root, size_kib: int) -> bool:
    """Whether anonymous memory can have folios of that size.

    Since Linux kernel commit 19eaf44954df ("mm: thp: support allocation of anonymous multi-size THP") (in v6.8).
    """
    return root.exists(f"{THP}/hugepages-{size_kib}kB/enabled")


def hugetlb_bytes(root: Root) -> int | None:
    """The size that mmap(2) gives with MAP_HUGETLB alone; None on a kernel without CONFIG_HUGETLBFS."""
    found = re.search(r"^Hugepagesize: +(\d{1,10}) kB$", root.read_or_none("/proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * KIB if found else None
