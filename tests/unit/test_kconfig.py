from __future__ import annotations

from pathlib import Path

import pytest

from numabench.errors import UsageError
from numabench.lab import kconfig, kernel_build
from numabench.lab.kconfig import Option

GUEST = Path(kernel_build.__file__).with_name("guest.config")


def fragment(path: Path, text: str) -> tuple[Option, ...]:
    (path / "x.config").write_text(text)
    return kconfig.read_fragment(path / "x.config")


def test_a_fragment_has_every_kind_of_value(tmp_path: Path) -> None:
    text = (
        "# words\nCONFIG_A=y\n  CONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=n\nCONFIG_E=64\nCONFIG_F=-1\n"
        'CONFIG_G=0xff\nCONFIG_H="a \\"b\\" # c"\n# optional\nCONFIG_I=y\n# needed\nCONFIG_J=y\n'
    )
    assert fragment(tmp_path, text) == (
        Option("CONFIG_A", "y", "x.config:2", needed=True),
        Option("CONFIG_B", "m", "x.config:3", needed=True),
        Option("CONFIG_C", "n", "x.config:4", needed=True),
        Option("CONFIG_D", "n", "x.config:5", needed=True),
        Option("CONFIG_E", "64", "x.config:6", needed=True),
        Option("CONFIG_F", "-1", "x.config:7", needed=True),
        Option("CONFIG_G", "0xff", "x.config:8", needed=True),
        Option("CONFIG_H", '"a \\"b\\" # c"', "x.config:9", needed=True),
        Option("CONFIG_I", "y", "x.config:11", needed=False),
        Option("CONFIG_J", "y", "x.config:13", needed=True),
    )


@pytest.mark.parametrize("line", ["CONFIG_A", "CONFIG_A=yes", "CONFIG_A = y", "A=y", "CONFIG_A=y # why", 'CONFIG_A="x'])
def test_a_line_that_kconfig_would_not_take_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"x.config:2 is no kernel option"):
        fragment(tmp_path, f"\n{line}\n")


def test_a_fragment_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent: No such file"):
        kconfig.read_fragment(tmp_path / "absent")
    (tmp_path / "x.config").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is not UTF-8 text"):
        kconfig.read_fragment(tmp_path / "x.config")


def test_what_took_and_what_did_not(tmp_path: Path) -> None:
    options = fragment(
        tmp_path,
        "CONFIG_ON=y\nCONFIG_LOST=y\nCONFIG_HALF=y\nCONFIG_MOD=m\nCONFIG_N=8\n# CONFIG_OFF is not set\n"
        "CONFIG_GONE=n\nCONFIG_BACK=n\n",
    )
    config = kconfig.values(
        "CONFIG_ON=y\n# CONFIG_LOST is not set\nCONFIG_HALF=m\nCONFIG_MOD=y\nCONFIG_N=64\n# CONFIG_OFF is not set\n"
        "CONFIG_BACK=y\n"
    )
    assert [option.name for option in kconfig.untaken(options, config)] == [
        "CONFIG_LOST",
        "CONFIG_HALF",
        "CONFIG_MOD",
        "CONFIG_N",
        "CONFIG_BACK",
    ]


def test_why_an_option_did_not_take_is_read_from_kconfig(tmp_path: Path) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm" / "Kconfig.debug").write_text(
        "menu x\n\nmenuconfig A\n\tbool\n\tdepends on X\n\nconfig AB\n\tbool\n\tdepends on Y || Z\n\tdepends on W\n"
    )
    options = tuple(Option(f"CONFIG_{name}", "y", "x.config:1", needed=True) for name in ("A", "AB", "B"))
    assert kconfig.explain(options, {"CONFIG_AB": "m"}, tmp_path) == (
        "CONFIG_A=y (x.config:1) became n: mm/Kconfig.debug:3 wants X",
        "CONFIG_AB=y (x.config:1) became m: mm/Kconfig.debug:7 wants Y || Z and W",
        "CONFIG_B=y (x.config:1) became n: this kernel has no such option",
    )


def test_the_projects_fragment_asks_for_what_the_project_reads() -> None:
    options = {option.name: option for option in kconfig.read_fragment(GUEST)}
    assert {option.name for option in options.values() if not option.needed} == {
        "CONFIG_PER_VMA_LOCK_STATS",
        "CONFIG_PROC_PID_CPUSET",
        "CONFIG_SCHED_DEBUG",
    }
    for name in (
        "NET_9P_VIRTIO",
        "OVERLAY_FS",
        "NUMA_BALANCING",
        "LOCK_EVENT_COUNTS",
        "KPROBE_EVENTS",
        "DEBUG_TLBFLUSH",
    ):
        assert options[f"CONFIG_{name}"].value == "y"
