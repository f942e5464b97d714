"""Placeholder until the command is written."""


def topology() -> None:
    """Not written yet."""
    raise NotImplementedError
