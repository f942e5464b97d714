"""A night that has no room is refused before it begins, by what nights before took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_nights import CELL, publish, write_night

from numabench import process
from numabench.errors import Unfit
from numabench.fleet import cells, room
from numabench.fleet.prepare import Chosen

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

OTHER = "memset.v6.box.5e6f7a8b"
BLOCK = cells.Block("b01.box.v6", "box", "v6", 1, (CELL, OTHER))
AGAIN = cells.Block("b02.box.v6", "box", "v6", 2, (CELL,))
TONIGHT = Chosen((), (BLOCK, AGAIN), {}, 1)


def written(lab: Path, night: str, boots: tuple[int, ...]) -> list[int]:
    """A night whose boots have so many more bytes each; what find says that each takes."""
    path = write_night(lab, night)
    sizes = []
    for boot, more in enumerate(boots, 1):
        made = publish(path, 10.0, boot)
        (made / "runs" / "more").write_bytes(b"x" * more)
        told = process.run(["find", str(made), "-type", "f", "-printf", "%b\n"]).check("find").stdout
        sizes.append(512 * sum(int(line) for line in told.split()))
    return sizes


def test_what_is_needed_is_what_the_last_nights_took(tmp_path: Path) -> None:
    assert room.needed_bytes(tmp_path, TONIGHT) is None
    written(tmp_path, "2026-10-01", (50_000_000,))
    last = [size for day in range(2, 7) for size in written(tmp_path, f"2026-10-{day:02}", (day * 100_000, 4096))]
    # Twice the one cell, and the other, which no night has shown, as what is usual.
    assert room.needed_bytes(tmp_path, TONIGHT) == round(3 * sum(last) / len(last))


def test_a_boot_whose_runs_were_removed_says_nothing(tmp_path: Path) -> None:
    (size,) = written(tmp_path, "2026-10-01", (1_000_000,))
    written(tmp_path, "2026-10-02", (0,))
    (tmp_path / "nights/2026-10-02/cells" / CELL / "boot-01/values.json").write_text("{}")
    assert room.needed_bytes(tmp_path, TONIGHT) == 3 * size


def test_too_little_is_refused_and_little_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab"
    assert room.check(lab, TONIGHT) == ""
    (size,) = written(lab, "2026-10-01", (1 << 20,))
    assert room.check(lab, TONIGHT) == ""
    told = {}
    for free in (3 * size - 1, 3 * size, round(4.5 * size)):
        monkeypatch.setattr(room, "free_bytes", lambda _, free=free: free)
        try:
            told[free] = room.check(lab, TONIGHT)
        except Unfit as error:
            told[free] = f"refused: {error}"
    assert told[3 * size - 1].startswith("refused: the night's results should take 3")
    assert "numabench nightly prune LAB.toml --dry-run" in told[3 * size - 1]
    assert told[3 * size].startswith("the night's results should take 3")
    assert told[round(4.5 * size)] == ""
