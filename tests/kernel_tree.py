"""A stand-in for a kernel's source: the targets and variables of its Makefile that a build uses, nothing to compile.

What it makes has a kernel image's header, so that it can be cached. `$HOME/made` has a line for each image.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MAKEFILE = r"""# SPDX-License-Identifier: GPL-2.0
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 9
EXTRAVERSION =
NAME = Stand-in

config := $(O)/.config
local = $(shell sed -n 's/^CONFIG_LOCALVERSION="\(.*\)"/\1/p' $(config))
release = $(VERSION).$(PATCHLEVEL).$(SUBLEVEL)$(local)
zeros = head -c $(1) /dev/zero

tinyconfig:
	@if [ -e include/config ]; then echo 'The source tree is not clean'; exit 1; fi
	@echo '# CONFIG_KSM is not set' >$(config)

olddefconfig:
	@grep -v -w -f refused $(config) >$(config).new && mv $(config).new $(config)

bzImage:
	@echo '  CC      mm/rmap.o'
	@. ./mm/rmap.c
	@mkdir -p $(O)/arch/x86/boot $(O)/include/config
	@echo $(release) >$(O)/include/config/kernel.release
	@{ $(call zeros,514); printf HdrS; $(call zeros,8); printf '\000\004'; $(call zeros,1008); \
	printf '%s (numabench@numabench) #1 SMP\000' $(release); $(call zeros,512); } >$(O)/arch/x86/boot/bzImage
	@echo $(release) >>$(HOME)/made

modules:
	@mkdir -p $(O)/fs/ext4
	@echo 'int x;' | gcc -g -x c -c - -o $(O)/fs/ext4/ext4.ko
	@echo fs/ext4/ext4.o >$(O)/modules.order

mrproper:
	@test -e Documentation/Makefile
	@rm -rf include/config
"""
# Read by a shell where a compiler would stand; its lines are a patch's to change.
RMAP = "".join(f"# line {number}\n" for number in range(1, 30))
KCONFIG = "config KSM\n\tbool\n\tdepends on MMU\n\tdepends on SHMEM && !TINY\n\nconfig NUMA\n\tbool\n"
PATCH = """SPDX-License-Identifier: GPL-2.0-only
Says so while it is built.
--- a/mm/rmap.c
+++ b/mm/rmap.c
@@ -9,5 +9,5 @@
 # line 9
 # line 10
-# line 11
+echo patched
 # line 12
 # line 13
"""


def write_source(path: Path) -> Path:
    """The stand-in as a source tree."""
    (path / "mm").mkdir(parents=True)
    (path / "mm" / "rmap.c").write_text(RMAP)
    (path / "mm" / "Kconfig").write_text(KCONFIG)
    (path / "Kconfig").write_text('source "mm/Kconfig"\n')
    (path / "Makefile").write_text(MAKEFILE)
    refuse(path)
    return path


def refuse(source: Path, *options: str) -> None:
    """Have olddefconfig drop options, as it does with those whose dependencies are not met."""
    (source / "refused").write_text("".join(f"CONFIG_{name}\n" for name in ("NO_SUCH_OPTION_AT_ALL", *options)))


def provide_tools(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tools that only a real kernel takes found where they are not installed."""
    (path / "bin").mkdir(parents=True)
    (path / "include" / "openssl").mkdir(parents=True)
    for name in ("flex", "bison", "bc"):
        if not shutil.which(name):
            (path / "bin" / name).write_text("#!/bin/sh\n")
            (path / "bin" / name).chmod(0o755)
    for name in ("libelf.h", "openssl/opensslv.h"):
        (path / "include" / name).touch()
    monkeypatch.setenv("PATH", str(path / "bin"), prepend=":")
    monkeypatch.setenv("CPATH", str(path / "include"))
