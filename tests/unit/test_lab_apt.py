from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench.errors import CannotRun, UsageError
from numabench.lab import apt
from numabench.lab.apt import Archive

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = Archive("http://own.example/debian", "http://own.example/debian-security")
KNOWN = """
Suite: trixie
RepositoryType: deb
BaseURI: http://own.example/debian/

Suite: trixie-security
BaseURI: http://security.example/
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_a_mirror_is_read_from_one_line_sources(etc: Path) -> None:
    (etc / "sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian/ bookworm main contrib\n"
        "deb http://mirror.example/debian bookworm-updates main\n"
        "deb http://security.example/debian-security bookworm-security main\n"
    )
    assert apt.archive(etc) == Archive("http://mirror.example/debian", "http://security.example/debian-security")


def test_a_mirror_is_read_from_deb822_sources(etc: Path) -> None:
    (etc / "sources.list.d" / "a.sources").write_text(
        "Types: deb\nURIs: https://off.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\n"
        "Types: deb deb-src\n# a comment\nURIs:\n https://mirror.example/debian\n"
        "Suites: trixie trixie-updates\nComponents: main\n\n"
        "Types: deb\nURIs: https://mirror.example/debian-security\nSuites: trixie-security\nComponents: main\n"
    )
    assert apt.archive(etc) == Archive("https://mirror.example/debian", "https://mirror.example/debian-security")


def test_other_archives_are_not_taken_for_debian(etc: Path) -> None:
    (etc / "sources.list").write_text(
        "deb http://archive.ubuntu.example/ubuntu noble main\n"
        "deb http://security.ubuntu.example/ubuntu noble-security main\n"
        "deb https://packages.example/apt stable main\n"
    )
    known = etc / "Debian.info"
    known.write_text(KNOWN)
    assert apt.archive(etc, known) == DEBIAN


def test_without_any_sources_debians_own_archive_is_taken(tmp_path: Path) -> None:
    known = tmp_path / "Debian.info"
    known.write_text(KNOWN)
    assert apt.archive(tmp_path / "absent", known) == DEBIAN


def test_where_no_archive_is_known_the_package_that_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="apt-get install python-apt-common"):
        apt.archive(tmp_path / "absent", tmp_path / "absent")


def test_the_hosts_suite_counts_only_on_debian(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="trixie"\n')
    assert apt.host_suite(release) == "trixie"
    release.write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    assert apt.host_suite(release) == "bookworm"
    assert apt.host_suite(tmp_path / "absent") == "bookworm"


@pytest.mark.parametrize("suite", ["", "Sid", "../etc", "book worm", "sid main\ndeb x", "-o"])
def test_what_can_be_no_suite_never_reaches_apt(suite: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no Debian suite"):
        apt.fetch(suite, tmp_path / "packages", pytest.fail)


def test_released_suites_come_with_their_security_updates_and_others_without() -> None:
    lines = apt._source_lines("bookworm", DEBIAN, "/keys.gpg").splitlines()
    assert [line.split("] ")[1] for line in lines] == [
        "http://own.example/debian bookworm main",
        "http://own.example/debian-security bookworm-security main",
    ]
    assert all("signed-by=/keys.gpg" in line for line in lines)
    assert len(apt._source_lines("sid", DEBIAN, "/keys.gpg").splitlines()) == 1
    assert len(apt._source_lines("bookworm-backports", DEBIAN, "/keys.gpg").splitlines()) == 1
