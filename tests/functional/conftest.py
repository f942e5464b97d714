"""Programs in C that call what the workloads share, a disk that is soon full, and a box for what cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bad_box import Box
from forked import Forked

from numabench import process
from numabench.workload import build, catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def program_in_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A function that compiles a source beside the tests with all that workloads share, under the sanitizers."""

    def compiled(name: str) -> str:
        program = tmp_path_factory.mktemp("in-c") / name
        directory = build.sources_dir()
        programs = {spec.source for spec in catalog.WORKLOADS}
        shared = sorted(str(path) for path in directory.glob("*.c") if path.name not in programs)
        argv = [*build.find_compiler(), *build.FLAGS, *SANITIZERS, "-I", str(directory), "-o", str(program)]
        argv += [str(Path(__file__).parent / f"{name}.c"), *shared, *build.LIBRARIES]
        process.run(argv, timeout_s=300).check("compiling")
        return str(program)

    return compiled


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = process.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)])
    if mounted.exit_status != 0:
        pytest.skip("a tmpfs cannot be mounted here: " + mounted.stderr.strip())
    yield small
    process.run(["umount", str(small)]).check("umount")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    return Box(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    started = Forked()
    yield started
    print(f"\nCPU of the commands: {started.cpu_s:.1f} s")
    started.close()
