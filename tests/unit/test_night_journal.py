"""A night's journal, and the book that is kept in it: what was whole is read, and nothing else."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
from fleet_nights import cell, night

from numabench.errors import ResultError
from numabench.fleet import journal, night_file, publish, quarantine
from numabench.fleet.journal import Journal
from numabench.fleet.ledger import NO_BOOT, VANISHED, Ledger, cell_states, is_disk_full
from numabench.fleet.outcome import BLOCKED, DONE, FAILED, INTERRUPTED, LOST, OK, WRONG_KERNEL, Outcome

if TYPE_CHECKING:
    from pathlib import Path


def numbers(path: Path) -> list[int]:
    return [event.count("n") for event in journal.read(path)]


def test_a_journal_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(path)
    for n in range(3):
        book.append("event", n=n, text="ä\n\x1e ")
    whole = path.read_bytes()
    ends = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends) - 1
        assert numbers(path) == list(range(kept))
        Journal(path).append("event", n=9)
        assert numbers(path) == [*range(kept), 9]


def test_what_was_changed_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(path)
    for n in range(3):
        book.append("event", n=n)
    text = path.read_bytes()
    for at in range(len(text)):
        if text[at] != ord("\n"):
            path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
            assert len(numbers(path)) < 3


def test_a_bad_line_between_whole_ones_costs_that_line_and_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(path)
    for n in range(3):
        book.append("event", n=n)
    whole = path.read_bytes()
    at = whole.index(b"\n") + 20
    damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    path.write_bytes(damaged)
    assert numbers(path) == [0, 2]
    Journal(path).append("event", n=9)
    assert numbers(path) == [0, 2, 9]
    assert path.with_name("journal.jsonl.damaged").read_bytes() == damaged
    Journal(path)
    assert numbers(path) == [0, 2, 9]


def test_a_cell_that_is_published_ended_well_whatever_the_journal_says(tmp_path: Path) -> None:
    made = night(tmp_path, cell("a"), cell("b"))
    (block,) = made.blocks
    first, second = block.cells
    publish.published(made.path, first, block.boot).mkdir(parents=True)
    assert cell_states(made, tmp_path)[first] == (OK, "")
    book = Ledger(made, tmp_path)
    book.end_rest(block, BLOCKED, "the night's budget came")
    assert (book.outcome(block, first), book.outcome(block, second)) == (
        Outcome(OK),
        Outcome(BLOCKED, "the night's budget came"),
    )


def test_a_kernel_that_a_machine_merely_runs_is_not_quarantined(tmp_path: Path) -> None:
    for reboot, is_quarantined in (((), False), (("grub",), True)):
        lab = tmp_path / ("boots" if reboot else "runs")
        made = night(lab, cell("a"), attempts=3, reboot=reboot)
        book = Ledger(made, lab)
        for _ in range(3):
            book.end(made.blocks[0], book.begin(made.blocks[0]), WRONG_KERNEL, ("it is another",))
        assert bool(quarantine.read(lab)) == is_quarantined
        # Released by hand, it does not come back by a try that went well.
        if reboot:
            quarantine.release(lab, "box", "now")
            book.end(made.blocks[0], book.begin(made.blocks[0]), DONE)
            assert not quarantine.read(lab)


def test_an_event_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(path)
    book.append("event", n=0)
    before = path.read_bytes()
    genuine = os.write

    def torn(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return genuine(descriptor, data[:10])

    monkeypatch.setattr(os, "write", torn)
    with pytest.raises(ResultError, match="No space left") as refused:
        book.append("event", n=1)
    assert is_disk_full(refused.value)
    assert path.read_bytes() == before


def attempt_that(made: Any, block: Any, token: str, *ended: tuple[str, str, bool]) -> None:
    """Leave an attempt whose cells ended so: (cell, state, whether for good)."""
    attempt = publish.take(made.path, block.id, token)
    events = Journal(attempt.path / publish.EVENTS_FILE)
    for name, state, is_final in ended:
        if state == OK:
            (attempt.cells / name / publish.RUNS).mkdir(parents=True)
            publish.write_cell(attempt, name, {})
            publish.publish(attempt, name, block.boot)
        events.append("cell-ended", cell=name, state=state, reason=f"{state} it was", is_final=is_final)
    events.append("attempt-ended", how=DONE, reasons=[])


def test_the_book_takes_over_what_is_for_good_and_forgets_nothing(tmp_path: Path) -> None:
    made = night(tmp_path, *(cell(name, [name]) for name in "abcd"))
    (block,) = made.blocks
    book = Ledger(made, tmp_path)
    token = book.begin(block)
    ends = (("a.now.box", OK, True), ("b.now.box", FAILED, False), ("c.now.box", BLOCKED, True))
    attempt_that(made, block, token, *ends)
    book.end(block, token, DONE)
    again = Ledger(made, tmp_path)
    for one in (book, again):
        assert set(one.open_cells(block)) == {"b.now.box", "d.now.box"}
        assert one.outcome(block, "a.now.box") == Outcome(OK)
        assert one.outcome(block, "c.now.box") == Outcome(BLOCKED, "blocked it was")
        assert one.tries(block) == 1
        assert one.unended(block) is None
    again.give_up(block)
    assert cell_states(made, tmp_path) == {
        "a.now.box": (OK, ""),
        "b.now.box": (FAILED, "failed it was"),
        "c.now.box": (BLOCKED, "blocked it was"),
        "d.now.box": (LOST, "its 1 tries did not get to it"),
    }


def test_a_try_that_did_not_end_is_known_and_an_interrupted_one_does_not_count(tmp_path: Path) -> None:
    made = night(tmp_path, cell("a"))
    (block,) = made.blocks
    book = Ledger(made, tmp_path)
    book.end(block, book.begin(block), INTERRUPTED, ("by hand",))
    assert book.tries(block) == 0
    token = book.begin(block)
    left = Ledger(made, tmp_path).unended(block)
    assert left is not None
    assert left.token == token
    book.end(block, token, VANISHED, ("gone",))
    assert Ledger(made, tmp_path).tries(block) == 1


@pytest.mark.parametrize("how", [WRONG_KERNEL, NO_BOOT])
def test_a_kernel_that_did_not_come_up_twice_is_quarantined_on_its_machine(how: str, tmp_path: Path) -> None:
    made = night(tmp_path, cell("a", boots=3), cell("b", kernel="other", boots=3), reboot=("kexec",))
    blocks = [block for block in made.blocks if block.kernel == "now"]
    book = Ledger(made, tmp_path)
    book.end(blocks[0], book.begin(blocks[0]), how, ("first",))
    assert not quarantine.read(tmp_path)
    book.end(blocks[1], book.begin(blocks[1]), how, ("second",))
    (entry,) = quarantine.read(tmp_path)
    assert (entry.machine, entry.kernel, entry.night) == ("box", "now", "2026-11-25")
    assert entry.why == f"2 boots failed: {how}: second"
    assert book.obstacle(blocks[2]) == f"now is in quarantine on box: {entry.why}"
    assert not book.obstacle(next(block for block in made.blocks if block.kernel == "other"))
    assert quarantine.release(tmp_path, "box", "now")
    assert not book.obstacle(blocks[2])


def test_a_cell_is_as_its_worst_boot(tmp_path: Path) -> None:
    made = night(tmp_path, cell("a", boots=3), reboot=("kexec",))
    book = Ledger(made, tmp_path)
    for block, outcome in zip(made.blocks, (Outcome(OK), Outcome(LOST, "gone"), Outcome(BLOCKED, "no")), strict=True):
        book.end_cell(block, "a.now.box", outcome)
    assert cell_states(made, tmp_path) == {"a.now.box": (LOST, "gone (in 1 of 3 boots)")}


def test_a_night_that_goes_on_has_its_reserve_again(tmp_path: Path) -> None:
    made = night(tmp_path, cell("a"))
    reserve = made.path / ".reserve"
    size = reserve.stat().st_size
    Ledger(made, tmp_path).free_reserve()
    assert not reserve.exists()
    night_file.reserve_again(made.path)
    assert reserve.stat().st_size == size > 0
