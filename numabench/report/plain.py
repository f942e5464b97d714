"""Values of the analyses as plain data for `json.dumps(..., allow_nan=False)`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from numabench.analysis.latency import known_percentile
from numabench.analysis.missing import Missing
from numabench.record import Latency
from numabench.report.moves_text import PERCENTILES


def plain(value: object) -> Any:
    """Dataclasses as objects, tuples as lists, and what is missing with its reason."""
    if isinstance(value, Missing):
        return {"missing": value.reason}
    if isinstance(value, Latency):
        shares = {name: plain(known_percentile(value, share)) for name, share in PERCENTILES}
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)} | {"percentiles_ns": shares}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
