"""What a command sees and leaves in a guest, and what the host learns of it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from numabench.lab.guest import Guest

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("status", [0, 1, 77, 126, 255])
def test_the_exit_status_of_a_command_comes_back(guest_2n: Guest, status: int) -> None:
    assert guest_2n.run(["sh", "-c", f"exit {status}"]).exit_status == status


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_death_by_a_signal_is_128_plus_its_number(guest_2n: Guest, number: signal.Signals) -> None:
    assert guest_2n.run(["sh", "-c", f"kill -{number.value} $$; sleep 5"]).exit_status == 128 + number


def test_a_program_that_is_not_there_ends_with_127_and_its_name(guest_2n: Guest) -> None:
    done = guest_2n.run(["no-such-program"])
    assert done.exit_status == 127
    assert "no-such-program" in done.stderr


def test_every_byte_of_both_streams_arrives_apart_and_in_order(guest_2n: Guest, guest_dir: Path) -> None:
    every = bytes(range(256))
    sent = {"stdout": every * 12_000 + b"out", "stderr": every * 300 + b"err"}
    for stream, data in sent.items():
        (guest_dir / stream).write_bytes(data)
    heard = {"stdout": b"", "stderr": b""}

    def listen(stream: str, data: bytes) -> None:
        heard[stream] += data

    guest_2n.run(["sh", "-c", "cat stderr >&2; cat stdout"], cwd=guest_dir, on_output=listen).check("cat")
    assert heard == sent


def test_output_is_heard_while_the_command_still_runs(guest_2n: Guest, guest_dir: Path) -> None:
    answer = guest_dir / "answer"

    def listen(stream: str, data: bytes) -> None:
        if data == b"question\n":
            answer.touch()

    words = f"echo question; until [ -e {answer} ]; do sleep 0.1; done; echo answered"
    assert guest_2n.run(["sh", "-c", words], on_output=listen, timeout_s=60).stdout == "question\nanswered\n"


def test_arguments_arrive_as_they_were_given(guest_2n: Guest) -> None:
    words = ["a b", "$HOME", "`id`", "it's", '"', "*", "", "-n", "ä\n"]
    assert guest_2n.run(["printf", "<%s>", *words]).stdout == "".join(f"<{word}>" for word in words)


def test_standard_input_is_empty(guest_2n: Guest) -> None:
    assert guest_2n.run(["cat"], timeout_s=30).exit_status == 0


def test_only_the_variables_given_are_in_the_environment(guest_2n: Guest) -> None:
    assert guest_2n.run(["/usr/bin/env"], env={"A": "1 2", "B": "x=y"}).stdout == "A=1 2\nB=x=y\n"


def test_secrets_in_the_environment_stay_on_the_host(guest_2n: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMABENCH_TEST_SECRET", "hunter2")
    seen = guest_2n.run(["/usr/bin/env"]).stdout
    assert "PATH=" in seen
    assert "hunter2" not in seen


def test_the_working_directory_is_kept_where_the_guest_has_it(guest_2n: Guest) -> None:
    assert guest_2n.run(["pwd"], cwd=Path("/usr/share")).stdout == "/usr/share\n"
    assert guest_2n.run(["pwd"], cwd=Path("/run/of-the-host-alone")).stdout == "/\n"


def test_signals_have_their_usual_actions(guest_2n: Guest) -> None:
    ignored = guest_2n.run(["sh", "-c", "grep SigIgn /proc/self/status"]).stdout.split()[1]
    assert int(ignored, 16) == 0


def test_the_guest_says_what_it_is_on_its_kernel_command_line(guest_2n: Guest) -> None:
    words = guest_2n.run(["cat", "/proc/cmdline"]).stdout.split()
    assert "numabench.lab=1" in words
    assert f"numabench.accel={guest_2n.accel.value}" in words


def test_the_guest_has_the_kernel_and_the_nodes_it_was_given(guest_2n: Guest) -> None:
    assert guest_2n.run(["uname", "-r"]).stdout.strip() == guest_2n.kernel.release
    nodes = "/sys/devices/system/node"
    seen = guest_2n.run(["cat", f"{nodes}/has_memory", f"{nodes}/has_cpu", f"{nodes}/node1/distance"]).stdout
    assert seen.split() == ["0-1", "0-1", "20", "10"]


def test_emulated_processors_do_not_offer_slow_string_copies(guest_2n: Guest) -> None:
    if guest_2n.accel.value != "tcg":
        pytest.skip("KVM passes the host's processor on, whose string instructions are fast")
    flags = guest_2n.run(["sh", "-c", "grep -m1 ^flags /proc/cpuinfo"]).stdout.split()
    assert "sse2" in flags
    assert not {"erms", "fsrm"} & set(flags)


def test_modules_of_the_kernel_can_be_loaded(guest_2n: Guest) -> None:
    guest_2n.run(["/usr/sbin/modprobe", "loop"]).check("modprobe")
    assert guest_2n.run(["test", "-d", "/sys/module/loop"]).exit_status == 0


@pytest.mark.parametrize("directory", ["/etc", "/usr", "/var", "/tmp", "/root"])
def test_what_a_guest_writes_elsewhere_does_not_reach_the_host(guest_2n: Guest, directory: str) -> None:
    written = f"{directory}/of-the-guest-alone"
    guest_2n.run(["sh", "-c", f"echo x >{written} && grep -q x {written}"]).check("writing")
    assert not Path(written).exists()


def test_the_root_directory_is_read_only(guest_2n: Guest) -> None:
    done = guest_2n.run(["touch", "/of-the-guest-alone"])
    assert done.exit_status != 0
    assert "Read-only file system" in done.stderr


def test_what_a_guest_writes_to_the_shared_directory_is_on_the_host(guest_2n: Guest, guest_dir: Path) -> None:
    guest_2n.run(["sh", "-c", "mkdir -p d; echo text >d/.tmp; sync; mv d/.tmp d/file"], cwd=guest_dir).check("writing")
    assert (guest_dir / "d" / "file").read_text() == "text\n"
    assert not (guest_dir / "d" / ".tmp").exists()


def test_a_full_disk_is_said_and_leaves_no_kernel(guest_2n: Guest, guest_dir: Path) -> None:
    import sys

    image = guest_2n.kernel.image
    package = Path(__file__).parents[2]
    words = (
        "mkdir -p /run/small && mount -t tmpfs -o size=2m none /run/small && cd /run/small && "
        f"XDG_CACHE_HOME=/run/small PYTHONPATH={package} {sys.executable} -m numabench lab kernel add {image}; "
        "echo $?; find /run/small -name 'vmlinuz*' -o -name '.adding*'"
    )
    done = guest_2n.run(["sh", "-c", words], timeout_s=120)
    assert done.stdout == "1\n"
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
