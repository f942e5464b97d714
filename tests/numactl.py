"""What `numactl -H` printed: an account of nodes, CPUs, sizes and distances that is not ours."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """CPUs and sizes by node id, and the distance of each pair of ids; numactl prints sizes in whole MiB."""

    cpus: dict[int, tuple[int, ...]]
    size_mib: dict[int, int]
    free_mib: dict[int, int]
    distances: dict[tuple[int, int], int]


def parse_hardware(text: str) -> Hardware:
    """The four tables of `numactl -H`."""
    by_field: dict[str, dict[int, str]] = {}
    for number, name, value in re.findall(r"^node (\d+) (cpus|size|free):(.*)$", text, re.MULTILINE):
        by_field.setdefault(name, {})[int(number)] = value
    _, _, matrix = text.partition("node distances:\n")
    header, *rows = matrix.splitlines()
    columns = [int(word) for word in header.split()[1:]]
    distances = {}
    for row in rows:
        source, _, values = row.partition(":")
        for target, value in zip(columns, values.split(), strict=True):
            distances[int(source), target] = int(value)
    return Hardware(
        cpus={number: tuple(int(cpu) for cpu in value.split()) for number, value in by_field["cpus"].items()},
        size_mib={number: int(value.split()[0]) for number, value in by_field["size"].items()},
        free_mib={number: int(value.split()[0]) for number, value in by_field["free"].items()},
        distances=distances,
    )
