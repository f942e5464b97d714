"""What a night is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from numabench.errors import UsageError
from numabench.fleet import night_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["2026-11-25", "2028-02-29", "2026-11-25.2", "2026-11-25.10"])
def test_a_date_is_a_nights_name_and_a_later_one_of_it_has_a_number(name: str, tmp_path: Path) -> None:
    assert night_file.path_of(tmp_path, name) == tmp_path / "nights" / name


@pytest.mark.parametrize(
    "name", ["2026-99-99", "2026-02-29", "0000-01-01", "2026-11-25.1", "2026-11-25.0", "2026-11-25.02", "2026-1-5", ""]
)
def test_what_is_no_date_is_no_nights_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a night's name"):
        night_file.path_of(tmp_path, name)
    (tmp_path / "nights" / (name or "x")).mkdir(parents=True)
    (tmp_path / "nights" / (name or "x") / night_file.NIGHT_FILE).write_text("{}")
    assert night_file.names(tmp_path) == ()


def have(lab: Path, name: str) -> None:
    (lab / "nights" / name).mkdir(parents=True)
    (lab / "nights" / name / night_file.NIGHT_FILE).write_text("{}")


def test_a_night_of_the_future_is_not_the_last(tmp_path: Path) -> None:
    assert night_file.last(tmp_path) == ""
    have(tmp_path, "9999-01-01")
    assert night_file.last(tmp_path) == "9999-01-01"
    for name in ("2020-01-01.10", "2020-01-01.9"):
        have(tmp_path, name)
    assert night_file.last(tmp_path) == "2020-01-01.10"
