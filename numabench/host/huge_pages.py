"""Transparent huge pages and large folios: whether the kernel has them, and how it is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numabench.host.knobs import FOLIOS_KIB, THP, shown

if TYPE_CHECKING:
    from numabench.host.root import Root


__all__ = ["FOLIOS_KIB", "has_large_folios", "thp_enabled"]


def thp_enabled(root: Root) -> str | None:
    """`always`, `madvise` or `never`; None on a kernel without CONFIG_TRANSPARENT_HUGEPAGE."""
    text = root.read_or_none(f"{THP}/enabled")
    return None if text is None else shown(text)


def has_large_folios(root: Root, size_kib: int) -> bool:
    """Whether anonymous memory can have folios of that size.

    Since Linux kernel commit 19eaf44954df ("mm: thp: support allocation of anonymous multi-size THP") (in v6.8).
    """
    return root.exists(f"{THP}/hugepages-{size_kib}kB/enabled")
