"""What forktree tells of a wrong word where base pages are larger than those that it compares by."""

from __future__ import annotations

from pathlib import Path

import pytest

from numabench import process
from numabench.workload import build, catalog

HERE = Path(__file__).parent
PAGE = 64 << 10


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that damages the byte of its word and says where it was found."""
    program = tmp_path_factory.mktemp("wrong") / "page"
    directory = build.sources_dir()
    programs = {spec.source for spec in catalog.WORKLOADS}
    shared = sorted(str(path) for path in directory.glob("*.c") if path.name not in programs)
    flags = [*build.FLAGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I", str(directory)]
    argv = [*build.find_compiler(), *flags, "-o", str(program), str(HERE / "wrong_page.c"), *shared, *build.LIBRARIES]
    process.run(argv, timeout_s=300).check("compiling")
    return str(program)


@pytest.mark.parametrize("byte", [12345, 2 * PAGE + 12345, 4 * PAGE - 1])
def test_a_wrong_word_is_named_by_its_base_page(telling: str, byte: int) -> None:
    told = process.run([telling, str(byte)], timeout_s=60).check("damaging").stdout.split()
    assert told == [str(byte // PAGE), str(byte % PAGE & ~7), "1"]
