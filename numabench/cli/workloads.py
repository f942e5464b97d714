"""Placeholder until the command is written."""


def workloads() -> None:
    """Not written yet."""
    raise NotImplementedError
