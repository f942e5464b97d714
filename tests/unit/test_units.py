"""Sizes and durations as people write them, and as reports show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numabench.errors import UsageError
from numabench.units import GIB, KIB, MIB, TIB, format_bytes, format_count, format_seconds, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1", 1),
        ("4096", 4096),
        ("4k", 4 * KIB),
        ("512M", 512 * MIB),
        ("1.5GiB", 3 * GIB // 2),
        ("2 TB", 2 * TIB),
        (" 16m ", 16 * MIB),
        ("8191P", None),
        ("8388607T", 8388607 * TIB),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size_bytes: int | None) -> None:
    if size_bytes is None:
        with pytest.raises(UsageError, match="is not a size"):
            parse_size(text)
    else:
        assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1e3", "1.G", ".5G", "1,5G", "inf", "nan", "1 G B", "0x10", "5 pages"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size") as caught:
        parse_size(text)
    assert "512M" in caught.value.hint


@pytest.mark.parametrize("text", ["0", "0G", "0.1", "8388608T", str(2**63)])
def test_sizes_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is out of range"):
        parse_size(text)


@given(st.integers(1, 2**43), st.sampled_from(["", "K", "M"]))
def test_whole_numbers_of_a_unit_are_exact(number: int, unit: str) -> None:
    factor = {"": 1, "K": KIB, "M": MIB}[unit]
    if number * factor < 2**53:
        assert parse_size(f"{number}{unit}") == number * factor


@given(st.integers(1, 2**62))
def test_a_shown_size_reads_back_within_its_three_digits(size_bytes: int) -> None:
    shown = format_bytes(size_bytes)
    assert parse_size(shown) == pytest.approx(size_bytes, rel=0.006)


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (MIB - 1, "1024 KiB"),
        (512 * MIB, "512 MiB"),
        (1.5 * GIB, "1.5 GiB"),
        (-2 * GIB, "-2 GiB"),
        (3000 * TIB, "3000 TiB"),
    ],
)
def test_sizes_are_shown_in_the_largest_unit_that_leaves_a_whole(size_bytes: float, shown: str) -> None:
    assert format_bytes(size_bytes) == shown


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("1.5 min", 90),
        ("250ms", 0.25),
        ("100us", 0.0001),
        ("1h", 3600),
        ("2H", 7200),
        ("720h", 2592000),
    ],
)
def test_durations_are_seconds_unless_a_unit_is_given(text: str, duration_s: float) -> None:
    assert parse_duration(text) == pytest.approx(duration_s)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "1:30", "inf", "1e9", "1 h 5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0ms", "721h"])
def test_durations_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is out of range"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_s", "shown"),
    [
        (0.00085, "850 us"),
        (0.0009994, "999 us"),
        (0.0009996, "1 ms"),
        (0.9996, "1 s"),
        (0.0125, "12.5 ms"),
        (3.21, "3.21 s"),
        (119.4, "119 s"),
        (120, "2 min 00 s"),
        (245, "4 min 05 s"),
        (179.6, "3 min 00 s"),
    ],
)
def test_durations_are_shown_in_the_unit_that_reads_best(duration_s: float, shown: str) -> None:
    assert format_seconds(duration_s) == shown


def test_counts_have_thousands_separators() -> None:
    assert format_count(262144) == "262,144"
