from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from kernel_tree import PATCH, RMAP

from numabench.errors import NumabenchError, UsageError
from numabench.lab import kernel_patch

if TYPE_CHECKING:
    from pathlib import Path

RENAMING = """diff --git a/mm/old.c b/mm/new.c
similarity index 100%
rename from mm/old.c
rename to mm/new.c
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "linux" / "mm").mkdir(parents=True)
    (tmp_path / "linux" / "mm" / "rmap.c").write_text(RMAP)
    return tmp_path / "linux"


def patch(path: Path, text: str) -> kernel_patch.Patch:
    (path / "x.patch").write_text(text)
    return kernel_patch.read(str(path / "x.patch"))


def test_a_patch_says_what_it_touches(tmp_path: Path) -> None:
    assert patch(tmp_path, PATCH).touched == {"mm/rmap.c"}
    assert patch(tmp_path, RENAMING).touched == {"mm/old.c", "mm/new.c"}
    # What diff(1) writes has a time behind the name, and a new file has no old one.
    new = "--- /dev/null\n+++ b/Documentation/mm/new.rst\t2026-11-25 08:00:00\n@@ -0,0 +1 @@\n+x\n"
    assert "Documentation/mm/new.rst" in patch(tmp_path, new).touched


def test_a_patch_applies_at_another_line_and_leaves_nothing_else(tmp_path: Path, source: Path) -> None:
    (source / "mm" / "rmap.c").write_text("# one more\n" + RMAP)
    kernel_patch.apply(patch(tmp_path, PATCH), source, "the source")
    assert (source / "mm" / "rmap.c").read_text() == "# one more\n" + RMAP.replace("# line 11\n", "echo patched\n")
    assert [path.name for path in (source / "mm").iterdir()] == ["rmap.c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # In a context that is not the one it was made in, a patch may mean something else.
        (RMAP.replace("line 13", "line thirteen"), "mm/rmap.c: Hunk #1 FAILED at 9"),
        (
            RMAP.replace("# line 11\n", "echo patched\n"),
            r"mm/rmap.c: Reversed \(or previously applied\) patch detected",
        ),
        (None, r"can't find file to patch at input line 5; --- a/mm/rmap.c; \+\+\+ b/mm/rmap.c"),
    ],
)
def test_what_does_not_apply_is_told_with_file_and_hunk(
    tmp_path: Path, source: Path, content: str | None, message: str
) -> None:
    if content is None:
        (source / "mm" / "rmap.c").unlink()
    else:
        (source / "mm" / "rmap.c").write_text(content)
    with pytest.raises(NumabenchError, match=rf"x.patch does not apply to the source: {message}"):
        kernel_patch.apply(patch(tmp_path, PATCH), source, "the source")


@pytest.mark.parametrize(("content", "message"), [("just words\n", "is no patch"), (None, "cannot read the patch")])
def test_what_is_no_patch_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.patch").write_text(content)
    with pytest.raises(UsageError, match=message):
        kernel_patch.read(str(tmp_path / "x.patch"))


def test_the_projects_own_patches_are_found_by_name_and_say_whose_licence_they_have() -> None:
    assert kernel_patch.own() == ("anon-vma-excl-6.1", "anon-vma-excl-6.12")
    for name in kernel_patch.own():
        own = kernel_patch.read(name)
        assert own.content.startswith(b"SPDX-License-Identifier: GPL-2.0-only\n")
        assert own.touched == {"include/linux/rmap.h", "mm/rmap.c"}


def test_the_projects_patches_leave_no_plain_reader_of_the_lock_that_they_change() -> None:
    for name in kernel_patch.own():
        text = kernel_patch.read(name).content.decode()
        removed = re.findall(r"^-.*?(down_read_trylock|down_read|up_read)\(&(\w+)", text, re.MULTILINE)
        added = re.findall(r"^\+.*?anon_vma_root_(trylock|lock|unlock)_read\((?!struct)", text, re.MULTILINE)
        assert len(removed) == len(added) == (5 if name.endswith("-6.1") else 6)
