"""Sets of knobs: the built-in ones, the user's own, and what is said of a file that is not right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench.errors import UsageError
from numabench.host import profiles
from numabench.host.knob_table import KNOBS
from numabench.host.root import Root

if TYPE_CHECKING:
    from pathlib import Path


def test_each_built_in_profile_has_what_the_smaller_one_has() -> None:
    measure, quiet, none = profiles.built_in()
    assert (measure.name, quiet.name, none.name, dict(none.knobs)) == ("measure", "quiet", "none", {})
    assert measure.knobs.items() < quiet.knobs.items()


def test_every_knob_that_a_profile_sets_says_why_and_can_be_set() -> None:
    for knob in KNOBS:
        assert bool(knob.profile) == bool(knob.value) == bool(knob.why), knob.name
        assert knob.is_settable or not knob.profile


def test_a_file_inherits_changes_and_keeps(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'inherits = "quiet"\n[knobs]\n"kernel.numa_balancing" = 0\nvm.swappiness = "keep"\nksm_run = 2\n'
    )
    found = profiles.load(str(tmp_path / "mine.toml"))
    quiet = profiles.load("quiet")
    assert found.name == "mine"
    assert dict(found.knobs) == {
        **{name: value for name, value in quiet.knobs.items() if name != "vm.swappiness"},
        "kernel.numa_balancing": "0",
        "ksm.run": "2",
    }


def test_ones_own_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    directory = tmp_path / "numabench/profiles"
    directory.mkdir(parents=True)
    (directory / "lab.toml").write_text('inherits = "none"\n[knobs]\nksm.run = 0\n')
    assert dict(profiles.load("lab").knobs) == {"ksm.run": "0"}


def test_a_file_that_is_not_right_hides_no_other_and_one_of_a_built_in_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    directory = tmp_path / "numabench/profiles"
    directory.mkdir(parents=True)
    for name, text in {"bad": "knobs = 3", "lab": 'inherits = "none"', "measure": "[knobs]"}.items():
        (directory / f"{name}.toml").write_text(text)
    found, refused = profiles.all_here()
    assert [profile.name for profile in found] == ["measure", "quiet", "none", "lab"]
    assert ["bad.toml: knobs is 3" in refused[0], "measure.toml is not read by its name" in refused[1]] == [True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[knobs\n", "is not TOML"),
        ('inherit = "quiet"\n', "'inherit' means nothing"),
        ("inherits = 3\n", "inherits is 3"),
        ('inherits = "loud"\n', "there is no profile 'loud'"),
        ("knobs = 3\n", "knobs is 3"),
        ("[knobs]\nvm.swapiness = 1\n", "there is no knob 'vm.swapiness'.*did you mean vm.swappiness"),
        ("[knobs]\ncpu.smt = 'off'\n", "cpu.smt is shown and never set"),
        ("[knobs]\nksm.run = 1.5\n", "ksm.run is 1.5"),
        ("[knobs]\nksm.run = true\n", "ksm.run is True"),
        ('[knobs]\nksm.run = ""\n', "ksm.run is ''"),
        ('[knobs]\nksm.run = "0\\n1"\n', "ksm.run is '0"),
        ('inherits = "./circle.toml"\n', "inherits goes in a circle"),
    ],
)
def test_a_file_that_is_not_right_names_itself_the_key_and_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle.toml").write_text(text)
    with pytest.raises(UsageError, match=message) as told:
        profiles.load("./circle.toml")
    assert "circle.toml" in str(told.value) or "loud" in text


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"there is no profile 'fast'.*measure, quiet, none"):
        profiles.load("fast")
    with pytest.raises(UsageError, match="is no file that can be read"):
        profiles.load("/nonexistent/x.toml")


def test_only_what_is_here_is_asked_for_whatever_its_value(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for name, text in {"/sys/kernel/mm/ksm/run": "1\n", "/proc/sys/vm/numa_stat": "1\n"}.items():
        root.path(name).parent.mkdir(parents=True, exist_ok=True)
        root.path(name).write_text(text)
    assert profiles.here(profiles.load("measure"), root) == {"ksm.run": "0", "vm.numa_stat": "1"}


def test_ones_own_is_the_same_by_its_word_where_its_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('inherits = "quiet"\n[knobs]\nksm.run = 2\nvm.swappiness = "keep"\n')
    own = profiles.load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").unlink()
    again = profiles.load(own.word)
    assert (again.name, dict(again.knobs)) == (own.name, dict(own.knobs))
    assert [profile.word for profile in profiles.built_in()] == ["measure", "quiet", "none"]


@pytest.mark.parametrize("word", ["{", "{}x", '{"knobs": 3}', '{"knobs": {"vm.swapiness": 1}}', "{" * 5000])
def test_a_word_that_is_not_right_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        profiles.load(word)


def test_a_guest_gets_the_knobs_and_not_the_file(tmp_path: Path) -> None:
    from numabench.cli.run import _for_guest

    own = profiles.Profile("mine", "", {"ksm.run": "2"})
    for words in (["--profile", "mine.toml"], ["--profile=mine.toml"]):
        first, second, third = _for_guest(["run", *words, "--kernel", "6.1", "--lab", "numa02"], own)
        assert (first, third) == ("run", "numa02")
        assert dict(profiles.load(second.removeprefix("--profile=")).knobs) == {"ksm.run": "2"}
