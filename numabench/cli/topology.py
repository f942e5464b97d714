"""`numabench topology`: nodes, CPUs, memory and distances, of this machine or of a captured one."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path  # noqa: TC003  typer reads it
from typing import Annotated

import typer


def topology(
    as_json: Annotated[bool, typer.Option("--json", help="Print the topology as JSON.")] = False,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE.tar", help="Show a tree captured from another machine, also hwloc-gather-topology's."
        ),
    ] = None,
    capture: Annotated[
        Path | None, typer.Option(metavar="FILE.tar[.gz|.xz]", help="Write the tree that was shown to a file.")
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw nodes, CPUs and distances.")] = None,
) -> None:
    """Show nodes, CPUs, memory, distances, and what of them the caller may use."""
    from numabench.host import capture as trees
    from numabench.host import topology as machine
    from numabench.host.root import LIVE

    with trees.open_tree(root) if root else nullcontext(LIVE) as tree:
        shown = trees.write(capture, tree) if capture else machine.read(tree)
    if capture:
        print(f"numabench: captured to {capture}", file=sys.stderr)
    if png:
        from numabench.report import topology_png

        topology_png.write(shown, png)
        print(f"numabench: drawn to {png}", file=sys.stderr)
    if as_json:
        print(json.dumps(shown.to_json(), indent=1))
    else:
        from numabench.report import topology_text

        print(topology_text.render(shown), end="")
