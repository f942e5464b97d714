"""Kernels that are built, of a stand-in for a source (tests/kernel_tree.py); real ones take ten minutes each."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel_tree import PATCH, RMAP, provide_tools, refuse, write_source

from numabench import process
from numabench.errors import CannotRun, NumabenchError, UsageError
from numabench.lab import kernels
from numabench.lab.kernel_build import build

if TYPE_CHECKING:
    from collections.abc import Callable


WAIT_S = 60.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, with its cache."""
    provide_tools(tmp_path / "tools", monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return home


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "linux")


def made(home: Path) -> list[str]:
    """The releases of all images that were made."""
    file = home / "made"
    return file.read_text().split() if file.exists() else []


def builds(home: Path) -> list[str]:
    return sorted(path.name for path in (home / ".cache" / "numabench" / "builds").iterdir())


def contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_built_is_cached_under_its_release_and_name_and_the_source_stays_as_it_was(
    home: Path, source: Path, tmp_path: Path
) -> None:
    before = contents(source)
    patch = write(tmp_path / "says.patch", PATCH)
    kernel = build(str(source), patches=[str(patch)], name="mine")
    assert re.fullmatch(r"6\.12\.9-numabench-[0-9a-f]{8}", kernel.release)
    assert kernel.release.endswith(kernel.key[:8])
    assert (kernel.name, kernel.source, kernel.modules) == (kernel.release, "mine", None)
    assert kernel.made_of == f"{source} (6.12.9), says.patch"
    assert kernels.find("mine") == kernel
    assert kernels.find(kernel.name) == kernel
    directory = kernel.image.parents[1]
    assert "CONFIG_LOCK_EVENT_COUNTS=y\n" in (directory / "boot" / f"config-{kernel.release}").read_text()
    assert "\npatched\n" in (directory / "build.log").read_text()
    assert contents(source) == before
    assert builds(home) == [".lock"]


def test_the_same_is_not_built_again_and_can_be_given_another_name(home: Path, source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = build(str(source))
    elsewhere = shutil.copytree(source, tmp_path / "copy")
    again = build(str(elsewhere), name="mine", say=said.append)
    assert made(home) == [first.release]
    assert (again.name, again.key, again.source) == (first.name, first.key, "mine")
    assert said == [f"it is cached: {first.name}, of {elsewhere} (6.12.9)"]
    assert build(str(source)).source == "mine"


def test_a_name_goes_to_what_was_built_last_under_it(home: Path, source: Path) -> None:
    first = build(str(source), name="mine")
    (source / "mm" / "rmap.c").write_text("# changed\n")
    second = build(str(source), name="mine")
    assert kernels.find("mine") == second
    assert {kernel.name: kernel.source for kernel in kernels.cached()} == {
        first.name: first.made_of,
        second.name: "mine",
    }


def test_whatever_goes_into_a_kernel_makes_it_another_one(home: Path, source: Path, tmp_path: Path) -> None:
    patch = write(tmp_path / "says.patch", PATCH)
    fragment = write(tmp_path / "more.config", "CONFIG_LOCK_STAT=y\n")
    plain = build(str(source))
    patched = build(str(source), patches=[str(patch)])
    configured = build(str(source), fragments=[fragment])
    (source / "mm" / "new.c").touch()
    changed = build(str(source))
    (source / "mm" / "new.c").unlink()
    assert len({kernel.key for kernel in (plain, patched, configured, changed)}) == 4
    # And these do not.
    write(fragment, "# for the statistics of locks\n\nCONFIG_LOCK_STAT=n\nCONFIG_LOCK_STAT=y\n")
    (source / "mm" / "rmap.c").touch()
    assert build(str(source), fragments=[fragment]) == configured
    assert build(str(source)) == plain
    assert len(made(home)) == 4


def test_the_compiler_counts(home: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(str(source))
    gcc = write(
        tmp_path / "tools" / "bin" / "gcc",
        f'#!/bin/sh\n[ "$1" != --version ] || echo "gcc 99"\nexec {shutil.which("gcc")} "$@"\n',
    )
    gcc.chmod(0o755)
    assert build(str(source)).key != first.key


def test_a_kernel_with_modules_has_them(home: Path, source: Path, tmp_path: Path) -> None:
    fragment = write(tmp_path / "ext4.config", "CONFIG_EXT4_FS=m\n")
    kernel = build(str(source), fragments=[fragment])
    assert kernel.modules is not None
    assert b".debug_info" not in (kernel.modules / "kernel/fs/ext4/ext4.ko").read_bytes()
    assert (kernel.modules / "modules.dep").exists()


def test_what_did_not_take_is_named_with_what_it_wants(home: Path, source: Path, tmp_path: Path) -> None:
    refuse(source, "KSM", "NO_SUCH", "PER_VMA_LOCK_STATS")
    fragment = write(tmp_path / "more.config", "CONFIG_NUMA=y\nCONFIG_NO_SUCH=y\n")
    said: list[str] = []
    with pytest.raises(NumabenchError) as caught:
        build(str(source), fragments=[fragment], say=said.append)
    assert str(caught.value).splitlines()[0] == f"2 options did not take in {source} (6.12.9):"
    assert re.search(
        r"CONFIG_KSM=y \(guest.config:\d+\) became n: mm/Kconfig:1 wants MMU and SHMEM && !TINY\n", str(caught.value)
    )
    assert "CONFIG_NO_SUCH=y (more.config:2) became n: this kernel has no such option" in str(caught.value)
    # What the project's own fragment marks as optional is only noted.
    notes = [words for words in said if words.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: CONFIG_PER_VMA_LOCK_STATS=y")
    assert kernels.cached() == ()
    assert [name for name in builds(home) if not name.endswith(".log")] == [".lock"]


def test_a_patch_that_does_not_apply_names_file_and_hunk(home: Path, source: Path, tmp_path: Path) -> None:
    (source / "mm" / "rmap.c").write_text(RMAP.replace("line 12", "line twelve"))
    patch = write(tmp_path / "says.patch", PATCH)
    with pytest.raises(NumabenchError, match=r"says.patch does not apply to .*: mm/rmap.c: Hunk #1 FAILED at 9"):
        build(str(source), patches=[str(patch)])
    assert builds(home) == [".lock"]
    assert made(home) == []


def test_a_build_that_fails_shows_the_errors_and_where_its_log_is(home: Path, source: Path) -> None:
    noise = "".join(f"echo noise {number}\n" for number in range(40))
    (source / "mm" / "rmap.c").write_text(f"echo 'mm/rmap.c:7: error: no such lock'\n{noise}exit 3\n")
    with pytest.raises(NumabenchError) as caught:
        build(str(source))
    message = str(caught.value)
    assert message.startswith(
        "compiling the kernel failed: make bzImage exited with 2:\n  mm/rmap.c:7: error: no such lock\n"
    )
    assert "noise 39" in message
    assert "noise 20" not in message
    log = Path(message.rpartition("all of it is in ")[2].rstrip(")"))
    assert "noise 20" in log.read_text()
    assert sorted(builds(home)) == [".lock", log.name]
    assert kernels.cached() == ()


def test_missing_tools_are_named_with_the_command_that_installs_them(
    home: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("gcc", "ld", "make", "patch", "tar", "xz", "as"):
        found = shutil.which(name)
        assert found is not None
        (few / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(few))
    monkeypatch.setenv("CPATH", "")
    (tmp_path / "tools" / "include" / "libelf.h").unlink()
    with pytest.raises(CannotRun) as caught:
        build(str(source))
    assert {f"{name} is not installed" for name in ("bc", "bison", "flex")} <= set(caught.value.reasons)
    assert re.search(r"apt-get install bc bison flex\b", caught.value.hint)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("CONFIG_KSM\n", r"more.config:1 is no kernel option: CONFIG_KSM"),
        ("\n# x\nKSM=y\n", r"more.config:3 is no kernel option"),
        ('CONFIG_LOCALVERSION="-x"\n', r"more.config:1: numabench names the release"),
    ],
)
def test_a_fragment_that_cannot_be_meant_is_refused(
    home: Path, source: Path, tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(str(source), fragments=[write(tmp_path / "more.config", content)])


def test_a_fragment_counts_before_the_projects_own(home: Path, source: Path, tmp_path: Path) -> None:
    kernel = build(
        str(source), fragments=[write(tmp_path / "more.config", "# CONFIG_KSM is not set\nCONFIG_NR_CPUS=8\n")]
    )
    config = (kernel.image.parent / f"config-{kernel.release}").read_text().splitlines()
    assert "CONFIG_NR_CPUS=8" in config
    assert "CONFIG_NR_CPUS=64" not in config
    assert "CONFIG_KSM=y" not in config


def test_a_kernel_that_could_not_boot_a_guest_is_refused_before_it_is_compiled(
    home: Path, source: Path, tmp_path: Path
) -> None:
    fragment = write(tmp_path / "more.config", "# CONFIG_OVERLAY_FS is not set\n")
    with pytest.raises(UsageError, match="a kernel without CONFIG_OVERLAY_FS cannot boot a guest"):
        build(str(source), fragments=[fragment])
    assert made(home) == []


@pytest.mark.parametrize("what", ["", "nothing", "build"])
def test_what_is_no_source_is_refused(home: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "Makefile").write_text("include ../linux/Makefile\n")
    with pytest.raises(UsageError, match=r"is no kernel source|there is no directory"):
        build(str(tmp_path / what))


@pytest.mark.parametrize("name", ["", "with blank", "6.12", "debian:sid", "../up"])
def test_a_name_that_would_mislead_is_refused(home: Path, source: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a kernel's name"):
        build(str(source), name=name)


def test_the_name_of_another_kernel_is_refused(home: Path, source: Path) -> None:
    first = build(str(source))
    (source / "mm" / "rmap.c").touch()
    record = first.image.parents[1] / "kernel.json"
    record.write_text(record.read_text().replace(first.key, "").replace(first.made_of, "theirs"))
    with pytest.raises(UsageError, match="'theirs' is the name of another kernel"):
        build(str(source), name="theirs")


def test_of_a_git_work_tree_that_was_built_in_the_sources_count_alone(home: Path, source: Path, tmp_path: Path) -> None:
    clean = build(str(source))
    process.run(["git", "-C", str(source), "init", "--quiet"]).check("git init")
    write(source / ".gitignore", "*.o\n/include/config/\n/.gitignore\n/.config\n")
    (source / "include" / "config").mkdir(parents=True)
    for name in ("mm/rmap.o", "include/config/auto.conf", ".config"):
        (source / name).touch()
    assert build(str(source)) == clean
    # The stand-in's own rule would have gone over the ignored directory, had it been copied.
    (source / "mm" / "untracked.c").touch()
    assert build(str(source)).key != clean.key


def test_a_tree_that_was_built_in_is_cleaned_in_the_copy_alone(home: Path, source: Path) -> None:
    (source / "include" / "config").mkdir(parents=True)
    (source / "include" / "config" / "auto.conf").touch()
    assert build(str(source)).release in made(home)
    assert (source / "include" / "config" / "auto.conf").exists()


def start_build(source: Path, *more: str) -> process.Process:
    """`numabench lab kernel build` in a process of its own."""
    argv = [sys.executable, "-m", "numabench", "lab", "kernel", "build", "--source", str(source), *more]
    return process.start(argv)


def test_a_second_builder_waits_and_takes_what_the_first_built(home: Path, source: Path) -> None:
    (source / "mm" / "rmap.c").write_text("echo began >>$HOME/began\nwhile [ ! -e $HOME/go ]; do sleep 0.02; done\n")
    first = start_build(source)
    wait_for((home / "began").exists)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            (home / "go").touch()

    kernel = build(str(source), say=say)
    assert first.wait(WAIT_S) == 0
    assert said[0] == "another kernel is being built: waiting for its end"
    assert said[1].startswith("it is cached: ")
    assert made(home) == [kernel.release]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_behind(home: Path, source: Path, number: signal.Signals) -> None:
    (source / "mm" / "rmap.c").write_text("echo $$ >$HOME/began.new; mv $HOME/began.new $HOME/began; sleep 600\n")
    running = start_build(source)
    wait_for((home / "began").exists)
    shell = int((home / "began").read_text())
    process.run(["kill", "-s", str(int(number)), str(running.pid)]).check("kill")
    assert running.wait(WAIT_S) != 0
    wait_for(lambda: not Path(f"/proc/{shell}").exists())
    wait_for(lambda: not [name for name in builds(home) if name.startswith(".building")])
    assert kernels.cached() == ()
    (source / "mm" / "rmap.c").write_text("# quick\n")
    kernel = build(str(source))
    assert kernels.cached() == (kernel,)


def test_the_command_prints_the_name_alone_and_progress_on_stderr(home: Path, source: Path) -> None:
    argv = [sys.executable, "-m", "numabench", "lab", "kernel"]
    done = process.run([*argv, "build", "--source", str(source), "--name", "mine", "--jobs", "1"])
    (kernel,) = kernels.cached()
    assert (done.exit_status, done.stdout) == (0, f"{kernel.name}\n")
    assert "lab: compiling the kernel (log: " in done.stderr
    listed = process.run([*argv, "list"]).stdout
    assert listed.startswith(f"{kernel.name}  mine: {source} (6.12.9), image 2")


def test_a_built_kernel_is_no_ones_default_while_there_is_another(home: Path, source: Path, tmp_path: Path) -> None:
    kernel = build(str(source))
    assert kernels.default() == kernel
    image = tmp_path / "bzImage"
    image.write_bytes(kernel.image.read_bytes().replace(kernel.release.encode(), b"6.12.1\0"))
    distributed = kernels.add([str(image)])
    assert kernels.default() == distributed
    assert kernels.find("6.12") == distributed
    assert kernels.find("6.12.9") == kernel


def test_a_built_kernel_that_is_added_again_as_an_image_is_still_known_as_built(home: Path, source: Path) -> None:
    kernel = build(str(source))
    again = kernels.add([str(kernel.image)])
    assert (again.key, again.made_of) == (kernel.key, kernel.made_of)
