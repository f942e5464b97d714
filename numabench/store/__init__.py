"""The result directory: written once, durably and whole trial by whole trial; read with suspicion.

The format, with its history, is docs/result-format.md.
"""

from numabench.record import Run
from numabench.store.files import KIND, SCHEMA_VERSION
from numabench.store.living import held
from numabench.store.reading import find, iterate, load
from numabench.store.writing import RunWriter, check_writable, create, new_run_id

__all__ = [
    "KIND",
    "SCHEMA_VERSION",
    "Run",
    "RunWriter",
    "check_writable",
    "create",
    "find",
    "held",
    "iterate",
    "load",
    "new_run_id",
]
