"""Building: tried with the compilers of this machine."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from numabench import process
from numabench.errors import CannotRun, UsageError, WorkloadError
from numabench.workload import build

COMPILERS = ("gcc", "clang")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "numabench" / "workloads"


def require(compiler: str) -> None:
    if process.find_program(compiler) is None:
        pytest.skip(f"{compiler} is not installed")


def test_the_version_is_the_one_that_gcc_itself_tells() -> None:
    require("gcc")
    told = process.run(["gcc", "-dumpfullversion"]).check("gcc").stdout.strip()
    assert build.compiler_version("gcc") == f"gcc {told}"


def test_the_version_is_the_one_that_clang_itself_tells() -> None:
    require("clang")
    told = process.run(["clang", "-dumpversion"]).check("clang").stdout.strip()
    assert build.compiler_version("clang") == f"clang {told}"


def test_a_program_is_kept_and_not_built_again(cache: Path) -> None:
    program = build.build("numa02-smt")
    assert program.parent == cache
    assert program.name.startswith("numa02-smt-")
    before = (cache.stat().st_mtime_ns, program.stat().st_mtime_ns)
    assert build.build("numa02-smt") == program
    assert (cache.stat().st_mtime_ns, program.stat().st_mtime_ns) == before
    assert list(cache.iterdir()) == [program]


def test_other_flags_make_another_program(cache: Path) -> None:
    names = {build.build("memset").name, build.build("memset", extra_flags=("-DNUMABENCH_TEST",)).name}
    assert len(names) == 2


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["numa01", "numa01-thread-alloc", "numa02", "numa02-smt", "memset", "forktree"])
def test_every_workload_builds_without_warnings(cache: Path, compiler: str, name: str) -> None:
    require(compiler)
    assert "-Werror" in build.FLAGS
    assert os.access(build.build(name, compiler=compiler), os.X_OK)


def test_cc_names_the_compiler_with_words_behind_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("gcc")
    monkeypatch.setenv("CC", "gcc -m64")
    assert build.find_compiler() == ("gcc", "-m64")
    assert build.find_compiler("clang" if process.find_program("clang") else "cc") != ("gcc", "-m64")


def test_two_that_build_at_once_both_get_the_program(cache: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(build.build("numa02"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert made[0] == made[1]
    assert list(cache.iterdir()) == [made[0]]


def test_without_a_compiler_the_packages_are_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match=r"there is no C compiler.*apt install gcc .*libnuma-dev"):
        build.build("numa02")
    assert build.requirements() == ("there is no C compiler",)


def test_a_named_compiler_that_is_absent_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-cc -m64")
    with pytest.raises(CannotRun, match="the C compiler no-such-cc was not found"):
        build.build("numa02")


def headers_without_libnuma(directory: Path) -> tuple[str, ...]:
    """Flags for gcc under which it finds all headers of this machine but libnuma's."""
    for entry in Path("/usr/include").iterdir():
        if not entry.name.startswith("numa"):
            (directory / entry.name).symlink_to(entry)
    own = process.run(["gcc", "-print-file-name=include"]).check("gcc").stdout.strip()
    multiarch = process.run(["gcc", "-print-multiarch"]).check("gcc").stdout.strip()
    return ("-nostdinc", "-isystem", own, "-isystem", str(directory), "-isystem", str(directory / multiarch))


def test_a_missing_header_of_libnuma_is_named(cache: Path, tmp_path: Path) -> None:
    require("gcc")
    (tmp_path / "include").mkdir()
    flags = headers_without_libnuma(tmp_path / "include")
    with pytest.raises(CannotRun, match=r"libnuma's header numa\.h is not installed .*libnuma-dev"):
        build.build("numa02", compiler="gcc", extra_flags=flags)
    assert list(cache.iterdir()) == []
    assert build.requirements(f"gcc {' '.join(flags)}") == ("libnuma's header numa.h is not installed",)


def test_a_compile_error_ends_with_the_compilers_words(cache: Path) -> None:
    with pytest.raises(WorkloadError, match=r"exited with 1:\n(.|\n)*no-such-header\.h"):
        build.build("numa02", extra_flags=("-include", "no-such-header.h"))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(WorkloadError, match=r"Not a directory \(set XDG_CACHE_HOME"):
        build.build("numa02")


def test_an_unknown_name_is_a_usage_error(cache: Path) -> None:
    with pytest.raises(UsageError, match="no workload 'stream'"):
        build.build("stream")


def test_nothing_is_missing_where_a_program_can_be_built(cache: Path) -> None:
    build.build("numa02")
    assert build.requirements() == ()
