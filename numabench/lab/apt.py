"""Debian's kernel packages, fetched by apt's own tools under a configuration of their own: nothing is installed.

The machine's mirror serves another suite; apt checks the archive's signature as always (apt-secure(8)), and the state
that apt keeps of this machine is neither read nor written.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numabench import process
from numabench.errors import CannotRun, NumabenchError, UsageError
from numabench.lab.cache import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DEFAULT_SUITE = "bookworm"
_META_PACKAGE = "linux-image-amd64"
_KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
# Where the distributions themselves say what archives there are (package python-apt-common).
_KNOWN_ARCHIVES = Path("/usr/share/python-apt/templates/Debian.info")
_SUITE = re.compile(r"[a-z][a-z0-9]*(-[a-z]+)*")
_PARTS = re.compile(r"linux-(image|binary|modules)-\S+")
_UPDATE_S = 600.0
_DOWNLOAD_S = 1800.0
# Rolling suites get their security fixes directly, and backports theirs from the next release's.
_WITHOUT_SECURITY = ("sid", "unstable", "experimental")


@dataclass(frozen=True)
class Archive:
    """Where a Debian mirror has the distribution and its security updates."""

    main: str
    security: str


def _sources(etc: Path) -> Iterable[tuple[str, str]]:
    """(URI, suite) pairs of the machine's own sources: one-line and deb822 format (sources.list(5))."""
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))):
        for line in _text(path).splitlines():
            words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
            if len(words) >= 3 and words[0] == "deb":
                yield words[1], words[2]
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        lines = (line for line in _text(path).splitlines() if not line.startswith("#"))
        for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
            fields = {
                name.lower(): value.split()
                for name, value in re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
            }
            if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
                for uri in fields.get("uris", []):
                    for suite in fields.get("suites", []):
                        yield uri, suite


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def archive(etc: Path = Path("/etc/apt"), known: Path = _KNOWN_ARCHIVES) -> Archive:
    """The Debian mirror that this machine itself uses, or Debian's own where it uses none (as on Ubuntu).

    Debian's own is the one that the package python-apt-common knows. Raises `CannotRun` where there is neither.
    """
    main, security = "", ""
    for uri, suite in _sources(etc):
        path = uri.rstrip("/")
        if path.endswith("/debian-security") or suite.endswith("-security"):
            security = security or (path if "debian" in path else "")
        elif path.endswith("/debian"):
            main = main or path
    if not main:
        uris = re.findall(r"^BaseURI:\s*(\S+)", _text(known), re.MULTILINE)
        main = next((uri.rstrip("/") for uri in uris if uri.rstrip("/").endswith("/debian")), "")
    if not main:
        raise CannotRun(
            "fetching a Debian kernel",
            ("apt has no Debian archive here, and the package that lists Debian's own is not installed",),
            "apt-get install python-apt-common",
        )
    return Archive(main, security or f"{main}-security")


def host_suite(os_release: Path = Path("/etc/os-release")) -> str:
    """The Debian suite that this host runs (os-release(5)), or bookworm on any other distribution."""
    try:
        lines = os_release.read_text(encoding="utf-8").splitlines()
    except OSError:
        return _DEFAULT_SUITE
    fields = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return fields.get("VERSION_CODENAME", _DEFAULT_SUITE) if fields.get("ID") == "debian" else _DEFAULT_SUITE


def _keyring() -> str:
    for path in _KEYRINGS:
        if Path(path).exists():
            return path
    raise CannotRun(
        "fetching a Debian kernel",
        ("the keys that Debian signs its archive with are not installed (package debian-archive-keyring)",),
        "apt-get install debian-archive-keyring",
    )


def _require_tools() -> None:
    lacking = tuple(
        f"{program} is not installed (package {package})"
        for program, package in (("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg-deb", "dpkg"))
        if not process.find_program(program)
    )
    if lacking:
        raise CannotRun(
            "fetching a Debian kernel", lacking, "without apt, add an image: numabench lab kernel add BZIMAGE"
        )


def _source_lines(suite: str, mirror: Archive, keyring: str) -> str:
    options = f"[arch=amd64 signed-by={keyring}]"
    lines = f"deb {options} {mirror.main} {suite} main\n"
    if suite not in _WITHOUT_SECURITY and "-" not in suite:
        lines += f"deb {options} {mirror.security} {suite}-security main\n"
    return lines


def _configure(suite: str) -> Path:
    """Write apt's configuration for a suite; its path."""
    home = cache_directory() / "apt" / suite
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    (home / "sources.list").write_text(_source_lines(suite, archive(), _keyring()), encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": home / "parts",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": home / "parts",
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Architecture": "amd64",
        "APT::Update::Error-Mode": "any",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    if os.geteuid() == 0:
        settings["APT::Sandbox::User"] = "root"  # _apt may not write below root's cache directory
    # The machine's own hooks act on the machine's own apt: they are not for this one.
    hooks = "".join(f"#clear APT::Update::{when};\n" for when in ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"))
    # sources.list(5) and apt.conf(5) take a path with blanks only quoted.
    lines = "".join(f'{name} "{value}";\n' for name, value in settings.items())
    (home / "apt.conf").write_text(hooks + "#clear APT::Architectures;\n" + lines, encoding="utf-8")
    return home / "apt.conf"


def _update(configuration: Path, suite: str) -> None:
    updated = process.run(["apt-get", "-c", str(configuration), "-qq", "update"], timeout_s=_UPDATE_S)
    if updated.exit_status == 0:
        return
    words = "\n  ".join(updated.stderr.strip().splitlines()[-4:])
    if "does not have a Release file" in words:
        shutil.rmtree(configuration.parent)
        raise UsageError(f"the Debian mirror has no suite '{suite}': {words}", "for example bookworm, trixie or sid")
    raise NumabenchError(f"cannot fetch the package lists of Debian {suite}: {words}", "is there a network?")


def _closure(configuration: Path) -> tuple[str, ...]:
    """The packages that hold the newest generic kernel's image and modules, by following dependencies.

    Until 6.x that is one package, linux-image-VERSION-amd64; since 7.0 its contents are in linux-binary-VERSION-amd64
    and linux-modules-VERSION-amd64.
    """
    found: list[str] = []
    waiting = [_META_PACKAGE]
    while waiting:
        for name in depends(configuration, waiting.pop()):
            if _PARTS.fullmatch(name) and name not in found:
                found.append(name)
                waiting.append(name)
    return tuple(found)


def prepare(suite: str, say: Callable[[str], None]) -> Path:
    """The newest package lists of a suite, security updates of a release included; apt's configuration for them.

    Raises `CannotRun` where apt's tools or Debian's keys are missing, `UsageError` for a suite that the mirror has not,
    and `NumabenchError` where the network or a signature fails.
    """
    if not _SUITE.fullmatch(suite):
        raise UsageError(f"'{suite}' is no Debian suite", "for example debian:bookworm or debian:sid")
    _require_tools()
    home = cache_directory() / "apt"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        # apt itself gives up where another one is at the same lists.
        fcntl.flock(lock, fcntl.LOCK_EX)
        configuration = _configure(suite)
        say(f"fetching the package lists of Debian {suite}")
        _update(configuration, suite)
    return configuration


def download(configuration: Path, packages: Sequence[str], into: Path, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Download packages into an empty directory; their files. Raises `NumabenchError` where that fails."""
    say("downloading " + ", ".join(packages))
    process.run(
        ["apt-get", "-c", str(configuration), "-qq", "download", *packages], cwd=into, timeout_s=_DOWNLOAD_S
    ).check(f"downloading {', '.join(packages)}")
    return tuple(sorted(into.glob("*.deb")))


def depends(configuration: Path, package: str) -> tuple[str, ...]:
    """The packages that a package depends on."""
    words = process.run(["apt-cache", "-c", str(configuration), "depends", "--important", package], timeout_s=_UPDATE_S)
    text = words.check(f"asking what {package} depends on").stdout
    return tuple(re.findall(r"^\s*\|?(?:Pre)?Depends: (\S+)$", text, re.MULTILINE))


def describe(configuration: Path, package: str) -> dict[str, str]:
    """The fields of the version of a package that would be downloaded, by name in lower case; none: there is none."""
    shown = process.run(
        ["apt-cache", "-c", str(configuration), "show", "--no-all-versions", package], timeout_s=_UPDATE_S
    )
    return {name.lower(): value for name, value in re.findall(r"^([\w-]+): (.*)$", shown.stdout, re.MULTILINE)}


def fetch(suite: str, into: Path, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Download the packages of a Debian suite's newest generic kernel into a new directory; their files.

    Raises as `prepare` does, and `UsageError` for a suite without such a kernel.
    """
    configuration = prepare(suite, say)
    packages = _closure(configuration)
    if not packages:
        raise UsageError(f"Debian {suite} has no package {_META_PACKAGE}", "for example debian:bookworm or debian:sid")
    into.mkdir()
    return download(configuration, packages, into, say)
