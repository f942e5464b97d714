"""Placeholder until the command is written."""


def report() -> None:
    """Not written yet."""
    raise NotImplementedError
