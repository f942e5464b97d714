"""Nights on a real Slurm: what fails there, made to fail. Its daemons are Debian's, its machines are played."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import slurm_stories as stories
from slurm_cluster import Cluster, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.skipif(bool(missing()), reason="; ".join(missing()))

# Slurm waits half a minute here and there, nobody computes: clusters beside each other take the time of the longest.
BESIDE_EACH_OTHER: tuple[tuple[Callable[[Cluster], Any], ...], ...] = (
    (stories.whole_command,),
    (stories.never_boots,),
    (stories.wrong_kernel,),
    (stories.node_killed, stories.controller_forgets, stories.controller_restarted, stories.night_killed),
    (stories.slurmd_killed, stories.requeued),
    (stories.drained, stories.cancelled, stories.deadline_passed),
    (stories.disk_full,),
)


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Future[Any]]]:
    """All stories, by name, being told on clusters of their own."""
    found: dict[str, Future[Any]] = {each.__name__: Future() for row in BESIDE_EACH_OTHER for each in row}
    with ThreadPoolExecutor(len(BESIDE_EACH_OTHER)) as pool:
        for row in BESIDE_EACH_OTHER:
            pool.submit(_tell, row, found)
        yield found


def _tell(row: tuple[Callable[[Cluster], Any], ...], found: dict[str, Future[Any]]) -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-") as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start()
            for each in row:
                found[each.__name__].set_result(each(cluster))
        except BaseException as error:  # noqa: BLE001  the test that waits for it tells
            for each in row:
                if not found[each.__name__].done():
                    found[each.__name__].set_exception(error)
        finally:
            cluster.stop()


def test_the_whole_command_outlives_a_node_that_dies(told: dict[str, Future[Any]]) -> None:
    assert told["whole_command"].result().splitlines()[-1] == "night 2026-11-25: done: 2 ok"


def test_a_job_whose_node_dies_begins_again_on_another_and_measures_what_was_left(
    told: dict[str, Future[Any]],
) -> None:
    end = told["node_killed"].result()
    assert end.states == {"held": "ok", "quick": "ok"}
    assert end.tries == 2
    assert end.tokens["held"].endswith(".1")


def test_an_attempt_that_lives_on_without_its_slurmd_publishes_nothing(told: dict[str, Future[Any]]) -> None:
    end = told["slurmd_killed"].result()
    assert end.states == {"held": "ok", "quick": "ok"}
    assert end.tokens["held"].endswith(".1")


def test_a_night_outlives_its_controller(told: dict[str, Future[Any]]) -> None:
    end = told["controller_restarted"].result()
    assert end.states == {"held": "ok", "quick": "ok"}
    assert end.tries == 1


def test_a_job_that_the_controller_forgot_is_submitted_anew_and_published_once(
    told: dict[str, Future[Any]],
) -> None:
    end = told["controller_forgets"].result()
    assert end.states == {"held": "ok", "quick": "ok"}


def test_a_job_that_is_requeued_is_another_attempt(told: dict[str, Future[Any]]) -> None:
    end = told["requeued"].result()
    assert end.states == {"held": "ok", "quick": "ok"}
    assert end.tries == 2
    assert end.tokens["held"].endswith(".1")


def test_a_night_that_was_killed_takes_its_job_over(told: dict[str, Future[Any]]) -> None:
    end = told["night_killed"].result()
    assert end.states == {"held": "ok", "quick": "ok"}
    assert end.tries == 1


def test_what_is_not_done_at_the_deadline_is_ended_and_blocked(told: dict[str, Future[Any]]) -> None:
    end = told["deadline_passed"].result()
    assert end.states["held"] == "blocked"
    assert "deadline" in end.reasons["held"]


def test_a_disk_that_fills_up_ends_the_night_which_goes_on_once_there_is_room(told: dict[str, Future[Any]]) -> None:
    end = told["disk_full"].result()
    assert end.states == {"held": "ok", "quick": "ok"}


def test_a_job_that_is_cancelled_is_not_submitted_again(told: dict[str, Future[Any]]) -> None:
    end = told["cancelled"].result()
    assert end.states == {"held": "blocked", "quick": "ok"}
    assert end.tries == 1
    assert "was cancelled in Slurm" in end.reasons["held"]


def test_a_machine_without_a_node_in_service_is_blocked_with_slurms_reason(told: dict[str, Future[Any]]) -> None:
    end = told["drained"].result()
    assert end.states == {"held": "blocked", "quick": "blocked"}
    assert "n1 is drained (a broken fan)" in end.reasons["held"]


def test_a_node_that_falls_back_to_another_kernel_publishes_nothing_and_the_kernel_is_quarantined(
    told: dict[str, Future[Any]],
) -> None:
    end = told["wrong_kernel"].result()
    assert end.states == {"held": "blocked", "quick": "blocked"}
    assert end.tries == 2
    assert "the kernel is 6.12.48-test and not 6.18.2-test" in end.reasons["held"]
    assert [(entry.machine, entry.kernel) for entry in end.quarantined] == [("m", "new")]


def test_a_kernel_that_never_boots_is_quarantined_after_two_boots(told: dict[str, Future[Any]]) -> None:
    end = told["never_boots"].result()
    assert end.states == {"held": "blocked", "quick": "blocked"}
    assert end.tries == 0
    assert len(end.failed_starts) == 2
    assert "reboot timed out" in end.reasons["held"]
    assert [(entry.machine, entry.kernel) for entry in end.quarantined] == [("m", "new")]
