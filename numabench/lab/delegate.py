"""Running numabench's own command line in a guest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from numabench.errors import CannotRun, NumabenchError
from numabench.lab import apt, kernels
from numabench.lab.accel import Accel, probe
from numabench.lab.guest import Guest, guest_environment
from numabench.lab.requirements import INSTALL_HINT, requirements
from numabench.lab.shapes import shape_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numabench.lab.guest import Listener
    from numabench.lab.kernels import Kernel


def say(text: str) -> None:
    """Tell the user on stderr what is going on."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def relay(stream: str, data: bytes) -> None:
    """Pass a guest's output on, byte by byte, to the same stream of this process."""
    out = sys.stdout if stream == "stdout" else sys.stderr
    out.buffer.write(data)
    out.buffer.flush()


def relay_stderr(stream: str, data: bytes) -> None:
    """Pass on what a guest says on stderr, and nothing else."""
    if stream == "stderr":
        relay(stream, data)


def choose_kernel(name: str | None) -> Kernel:
    """The kernel named, or the default; one is fetched where none is cached and apt can. Raises as `kernels.add`."""
    if name is not None:
        return kernels.find(name)
    kernel = kernels.default()
    if kernel is not None:
        return kernel
    spec = f"debian:{apt.host_suite()}"
    say(f"no guest kernel is cached: adding {spec} (unpacked below {kernels.kernels_directory()}, never installed)")
    try:
        return kernels.add([spec], say)
    except NumabenchError as error:
        raise CannotRun("a guest", (f"no kernel is cached and {spec} could not be added: {error}",)) from None


def choose_accel(kernel: Kernel) -> Accel:
    """The accelerator that works here, saying why on stderr when that was found out just now."""
    answer = probe(kernel.image)
    if not answer.remembered:
        say(f"accelerator {answer.accel.value}: {answer.reason}")
    return answer.accel


def run_in_guest(
    argv: Sequence[str],
    *,
    shown: Sequence[str],
    results_dir: Path,
    nodes: int,
    kernel: str | None = None,
    timeout_s: float,
    silence_s: float,
    memory_per_node_bytes: int | None = None,
    cpus_per_node: int = 1,
    on_output: Listener = relay_stderr,
) -> int:
    """Run `numabench` with these arguments in a guest with at least so many nodes; its exit status.

    The guest may write to `results_dir`, which must exist, and nowhere else. What it says on stderr is passed on; its
    stdout is dropped unless `on_output` takes it, for the answer is in the results. `kernel` is what `kernels.find`
    takes, `shown` the command line to name when it is lost. Raises `CannotRun` where no guest can run here, and
    `LostGuest` where it dies, is not done after `timeout_s` seconds, or says nothing for `silence_s` seconds.
    """
    lacking = requirements()
    if lacking:
        raise CannotRun("a guest", lacking, INSTALL_HINT)
    chosen = choose_kernel(kernel)
    shape = shape_for(nodes, memory_per_node_bytes=memory_per_node_bytes, cpus_per_node=cpus_per_node)
    accel = choose_accel(chosen)
    compile_bytecode()
    say(f"starting a guest: kernel {chosen.wish}, topology {shape.name}, {accel.value}")
    with Guest.boot(chosen, shape, accel, writable=(results_dir,)) as guest:
        return guest.run(
            [sys.executable, "-m", "numabench", *argv],
            cwd=Path.cwd(),
            timeout_s=timeout_s,
            silence_s=silence_s,
            shown=shown,
            env=guest_environment() | python_environment(),
            on_output=on_output,
        ).exit_status


def compile_bytecode() -> None:
    """Have our modules compiled here: a guest is 20 times slower at it, and cannot keep the result."""
    import compileall

    compileall.compile_dir(Path(__file__).resolve().parents[1], quiet=2)


def python_environment() -> dict[str, str]:
    """The same modules in the guest as here, also in a checkout that is not installed."""
    package = str(Path(__file__).resolve().parents[2])
    return {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": package}
