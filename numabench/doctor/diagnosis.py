"""All checks, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from numabench.doctor import (
    balancing,
    confinement,
    leftover,
    load,
    machine,
    memory,
    nodes,
    observing,
    processor,
    rights,
)
from numabench.doctor.context import Left, look
from numabench.doctor.finding import BIASES, BLOCKS, INFORMS, WEIGHTS, Finding, Fine
from numabench.doctor.sample import SAMPLE_S, take
from numabench.host.root import LIVE, Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numabench.doctor.context import Context, Needs
    from numabench.doctor.finding import Seen
    from numabench.host.topology import Topology

# In the order in which they are shown: what a run cannot do without first.
CHECKS: tuple[Callable[[Context], Iterator[Seen]], ...] = (
    nodes.check_nodes,
    nodes.check_memory,
    rights.check_calls,
    rights.check_rights,
    confinement.check_container,
    confinement.check_cpuset,
    confinement.check_limits,
    leftover.check_leftover,
    balancing.check_balancing,
    balancing.check_migration,
    memory.check_swap,
    memory.check_management,
    load.check_load,
    load.check_pressure,
    load.check_services,
    machine.check_hardware,
    processor.check_frequency,
    processor.check_idle,
    processor.check_heat,
    processor.check_microcode,
    machine.check_clock,
    machine.check_firmware,
    observing.check_perf,
    observing.check_tracepoints,
    observing.check_symbols,
)


_FELT_IN_A_GUEST = {load.LOAD, load.PRESSURE, processor.FREQUENCY, processor.HEAT, confinement.LIMITS}


@dataclass(frozen=True)
class Diagnosis:
    """What was found, the heaviest first, and what was looked at and is as it should be.

    `takes_guest`: the machine lacks nodes, and a run goes to a guest that has them.
    """

    findings: tuple[Finding, ...]
    fine: tuple[Fine, ...]
    takes_guest: bool = False

    def weighing(self, weight: str) -> tuple[Finding, ...]:
        """The findings of one weight."""
        return tuple(finding for finding in self.findings if finding.weight == weight)

    @property
    def against(self) -> tuple[Finding, ...]:
        """What stands against a valid run: what blocks it, then what biases it."""
        return (*self.weighing(BLOCKS), *self.weighing(BIASES))

    @property
    def is_blocked(self) -> bool:
        """Whether no run can take place."""
        return bool(self.weighing(BLOCKS))


def examine(context: Context) -> Diagnosis:
    """Look at everything. Reads, and writes nothing."""
    seen = [each for check in CHECKS for each in check(context)]
    findings = [each for each in seen if isinstance(each, Finding)]
    takes_guest = nodes.guest_serves(context)
    if takes_guest:
        findings = [_of_this_machine_only(finding) for finding in findings]
    return Diagnosis(
        tuple(sorted(findings, key=lambda finding: WEIGHTS.index(finding.weight))),
        tuple(each for each in seen if isinstance(each, Fine)),
        takes_guest,
    )


def _of_this_machine_only(finding: Finding) -> Finding:
    """What is of this machine's kernel neither blocks nor biases a guest, which has one of its own.

    Load, heat, frequency and limits of CPU time and memory are felt there, too; so is what was asked for amiss.
    """
    if (
        finding.weight == INFORMS
        or finding.subject in _FELT_IN_A_GUEST
        or finding.code in {"too-few-nodes", "one-node"}
    ):
        return finding
    return replace(finding, weight=INFORMS, effect=f"on this machine itself, not in the guest: {finding.effect}")


def diagnose(
    needs: Needs,
    topology: Topology,
    *,
    root: Root = LIVE,
    sample_s: float = SAMPLE_S,
    guest_lacks: tuple[str, ...] | None = None,
    most_guest_nodes: int | None = None,
    left: Left = Left(),  # noqa: B008  frozen
) -> Diagnosis:
    """Sample the machine for `sample_s` seconds and look at everything.

    `guest_lacks` says why no guest can serve where nodes are too few, None where that is not to be asked, and
    `most_guest_nodes` how many the largest has; `left` what
    other runs have set.
    """
    sample = take(root, sample_s)
    return examine(
        look(
            needs,
            topology,
            sample,
            root=root,
            guest_lacks=guest_lacks,
            most_guest_nodes=most_guest_nodes,
            left=left,
        )
    )
