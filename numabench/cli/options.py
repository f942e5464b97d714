"""Options that several commands have."""

from __future__ import annotations

import typer

NAMES = typer.Option(metavar="FILE", help='A TOML file of functions\' other names: [rename], old = "new".')
# That of numabench.host.profiles, which `--help` does not load.
DEFAULT_PROFILE = "measure"
