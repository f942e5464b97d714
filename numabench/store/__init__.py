"""The result directory: written once, durably and whole trial by whole trial; read with suspicion.

The format, with its history, is docs/result-format.md.
"""

from numabench.record import Run
from numabench.store.files import KIND, RUN_FILE, SCHEMA_VERSION, SWEEP_FILE, UNITS
from numabench.store.listing import iterate
from numabench.store.living import alone, held
from numabench.store.reading import find, find_all, load, read_note
from numabench.store.sweeps import create_sweep, is_sweep, load_sweep, read_plan, set_aside, write_outcome
from numabench.store.writing import (
    RunWriter,
    check_writable,
    create,
    hide,
    is_run_id,
    new_run_id,
    refuse,
    write_note,
)

__all__ = [
    "KIND",
    "RUN_FILE",
    "SCHEMA_VERSION",
    "SWEEP_FILE",
    "UNITS",
    "Run",
    "RunWriter",
    "alone",
    "check_writable",
    "create",
    "create_sweep",
    "find",
    "find_all",
    "held",
    "hide",
    "is_run_id",
    "is_sweep",
    "iterate",
    "load",
    "load_sweep",
    "new_run_id",
    "read_note",
    "read_plan",
    "refuse",
    "set_aside",
    "write_note",
    "write_outcome",
]
