"""Placeholder until the command is written."""


def list_runs() -> None:
    """Not written yet."""
    raise NotImplementedError
