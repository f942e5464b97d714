"""Starting a workload from a thread that has pinned itself: affinity and policy are inherited (clone(2))."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from numabench import process
from numabench.host import libnuma

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def launch_pinned(
    argv: Sequence[str],
    *,
    cpus: Sequence[int],
    mode: str = "default",
    nodes: Sequence[int] = (),
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> process.Process:
    """Start `argv` confined to `cpus`, under the memory policy `mode` over `nodes` (set_mempolicy(2)).

    The calling thread keeps its own affinity and policy. Raises what `libnuma.set_affinity`, `libnuma.set_mempolicy`
    and `process.start` raise.
    """
    outcome: list[process.Process | BaseException] = []

    def pinned() -> None:
        try:
            libnuma.set_affinity(cpus)
            libnuma.set_mempolicy(mode, nodes)
            outcome.append(process.start(argv, stdout=stdout, stderr=stderr, pass_fds=pass_fds, cwd=cwd))
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that asked
            outcome.append(error)

    launcher = threading.Thread(target=pinned, name="launcher")
    launcher.start()
    launcher.join()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result
