from __future__ import annotations

import pytest

from numabench.errors import UsageError
from numabench.lab import cmdline


def test_parameters_are_kept_as_they_are() -> None:
    words = ("anon_vma_excl", "numa_balancing=disable", "transparent_hugepage=never", "trace_event=migrate:*,tlb:*")
    assert cmdline.checked(words) == words


@pytest.mark.parametrize(
    "word",
    [
        *("init=/bin/sh", "root=/dev/sda", "rdinit=/init", "console=ttyS1", "panic=0", "ro"),
        *("numabench.lab=0", "virtme_root_mods=1", "virtme.exec=id", "virtme-hostname=x", "numabench"),
    ],
)
def test_what_the_guest_is_started_by_cannot_be_changed(word: str) -> None:
    with pytest.raises(UsageError, match="is the guest's own"):
        cmdline.checked(["quiet", word])


@pytest.mark.parametrize("word", ["--", "-x", 'a="b c"', "a=`id`", "a=$(id)", "a='b'", "=b", "a=\x1b", "ä=1", ""])
def test_what_is_no_parameter_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is no kernel parameter"):
        cmdline.checked([word])
