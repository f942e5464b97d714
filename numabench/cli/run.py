"""Placeholder until the command is written."""


def run() -> None:
    """Not written yet."""
    raise NotImplementedError
