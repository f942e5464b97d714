"""`numabench doctor`: what stands between this machine and a valid run."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from numabench.errors import EXIT_UNFIT, UsageError

if TYPE_CHECKING:
    from numabench.doctor.context import Needs


def doctor(
    nodes: Annotated[str, typer.Option(metavar="N|LIST", help="How many nodes, or which: 2, or 0,2, or 0-1.")] = "2",
    target: Annotated[
        str | None,
        typer.Option("--for", metavar="WORKLOAD[/DRIVER]", help="What is to be run, e.g. numa02, or pingpong/mbind."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what stands between this machine and a valid run, what it does to which result, and what mends it.

    Takes a second, and changes nothing. Exits with 4 where something blocks every run.
    """
    from numabench.doctor import leftover
    from numabench.doctor.diagnosis import diagnose
    from numabench.host import topology
    from numabench.host.root import LIVE
    from numabench.lab.requirements import requirements
    from numabench.lab.shapes import MOST_NODES

    needs = _needs(nodes, target)
    found = diagnose(
        needs, topology.read(), guest_lacks=requirements(), most_guest_nodes=MOST_NODES, left=leftover.read(LIVE)
    )
    if as_json:
        from numabench.report import doctor_json

        print(json.dumps(doctor_json.report(found), indent=1, allow_nan=False))
    else:
        from numabench.cli.report import has_colour, print_text
        from numabench.report.doctor_text import render

        print_text(render(found, shutil.get_terminal_size((100, 24)).columns, has_colour()))
    if found.is_blocked:
        raise typer.Exit(EXIT_UNFIT)


def _needs(nodes: str, target: str | None) -> Needs:
    """What the options ask for. Raises `UsageError` for nodes, a workload or a driver that cannot be meant."""
    from numabench.doctor.context import Needs, needs_of
    from numabench.experiment import drive_request
    from numabench.experiment.plan import asked_nodes
    from numabench.workload import catalog

    asked = asked_nodes(nodes)
    count, ids = (asked, ()) if isinstance(asked, int) else (len(asked), asked)
    if target is None:
        return Needs(count, ids)
    workload, _, driver = target.partition("/")
    try:
        spec = catalog.find(workload)
    except UsageError as error:
        raise UsageError(f"--for {target}: {error.message}", error.hint) from None
    request = drive_request.DriveRequest(driver=driver or None)
    drive_request.check(request, spec, ("default",), threads=None)
    named = drive_request.driver_of(request, is_driven=spec.is_driven).name
    return needs_of(spec, named, node_count=count, node_ids=ids)
