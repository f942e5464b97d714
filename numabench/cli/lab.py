"""Placeholder until the command is written."""

import typer

app = typer.Typer()


@app.command()
def placeholder() -> None:
    """Not written yet."""
    raise NotImplementedError
