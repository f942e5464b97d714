"""The source distribution and the wheel made from it: they hold what a build and a run take, and nothing of the tests.

pip fetches what pyproject.toml says a build needs, as it does for a user.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from numabench import process

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")
FOLDERS = ("numabench", "workloads", "c_ext", "tests", "LICENSES")
# What guest kernels are built with.
KERNEL_FILES = ("guest.config", "*.patch")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
BUILD_S = 600.0
# What a report in HTML is made of.
PAGE = ("page.html", "page.css", "page.js", "base.css", "site.css", "site.js")


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would let this checkout be imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | more


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of a copy of this checkout, in which nothing has been built."""
    tree, needs = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("needs")
    for name in SOURCES:
        shutil.copy(ROOT / name, tree)
    for name in FOLDERS:
        built = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "_libnuma.c")
        shutil.copytree(ROOT / name, tree / name, ignore=built)
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    fetched = process.run([*PIP, "install", "--target", str(needs), *requires], env=environment(), timeout_s=BUILD_S)
    fetched.check("fetching what a build needs")
    code = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"
    env = environment(PYTHONPATH=str(needs))
    built_by = process.run([sys.executable, "-c", code, "dist"], cwd=tree, env=env, timeout_s=BUILD_S)
    return tree / "dist" / built_by.check("building the sdist").stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of the source distribution, in an environment of its own."""
    directory = tmp_path_factory.mktemp("wheel")
    argv = [*PIP, "wheel", "--no-deps", "--wheel-dir", str(directory), str(sdist)]
    process.run(argv, env=environment(), cwd=directory, timeout_s=BUILD_S).check("building the wheel")
    (path,) = directory.iterdir()
    return path


def below(folder: Path, *patterns: str) -> set[str]:
    """The files of the checkout that match, by their path in it."""
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in folder.rglob(pattern)}


def test_the_sdist_holds_what_the_wheel_is_built_from(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(SOURCES) - names == set()
    assert below(ROOT / "c_ext", "*.py", "*.c", "*.h", "*.cdef") - names == set()
    assert below(ROOT / "workloads", "*.py", "*.c", "*.h") - names == set()
    assert below(ROOT / "numabench", "*.py", "*.pyi", "py.typed", *PAGE, *KERNEL_FILES) - names == set()
    assert below(ROOT / "LICENSES", "*.txt") - names == set()
    assert [name for name in names if name.startswith("tests") or name.endswith((".so", ".pyc"))] == []


def test_the_wheel_holds_the_extension_and_the_workloads_sources(wheel: Path) -> None:
    # The stable ABI: one wheel for every Python from 3.11 on (PEP 425, PEP 384).
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "numabench/_libnuma.abi3.so" in names
    assert below(ROOT / "numabench", "*.py", "py.typed", *PAGE, *KERNEL_FILES) - names == set()
    assert "GPL-2.0-only.txt" in {Path(name).name for name in names}
    sources = below(ROOT / "workloads", "*.c", "*.h")
    assert {f"numabench/{source}" for source in sources} - names == set()
    assert [name for name in names if not name.startswith(("numabench/", "numabench-"))] == []


def test_installed_from_the_wheel_it_finds_and_builds_its_workloads(wheel: Path, tmp_path: Path) -> None:
    where = tmp_path / "venv"
    env = environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    process.run([sys.executable, "-m", "venv", "--without-pip", str(where)], env=env).check("venv")
    python, numabench = str(where / "bin" / "python"), str(where / "bin" / "numabench")
    installing = [*PIP, "--python", python, "install", "--no-deps", str(wheel)]
    process.run(installing, env=env, timeout_s=BUILD_S).check("installing the wheel")
    # What it depends on is where this Python has it; a .pth file is not followed from there, so this checkout is not.
    site = process.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], env=env)
    own = Path(site.check("purelib").stdout.strip())
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = "import numabench._libnuma as extension; print(extension.__file__)"
    imported = process.run([python, "-c", code], env=env, cwd=tmp_path).check("importing the extension").stdout
    assert Path(imported.strip()) == own / "numabench" / "_libnuma.abi3.so"
    listed = process.run([numabench, "workloads"], env=env, cwd=tmp_path).check("numabench workloads").stdout
    assert "numa02" in listed
    words = ["run", "numa02", "--native", "--nodes", "1", "--no-tune", "--size", "16M", "--duration", "1s"]
    ran = process.run([numabench, *words, "--repeats", "1", "--results", "results"], env=env, cwd=tmp_path)
    assert ran.check("numabench run").exit_status == 0
