"""Reading perf.data, and the names of functions: `load(path)` gives a `Profile`; see docs/performance.md.

numpy is imported when a recording is read, not when this package is.
"""

from numabench.perf.attr import Event, Field, PerfDataError
from numabench.perf.kallsyms import Kallsyms, find_kallsyms
from numabench.perf.profile import Profile, Samples
from numabench.perf.reader import load
from numabench.perf.records import Chains, Stats
from numabench.perf.stacks import CallTree

__all__ = [
    "CallTree",
    "Chains",
    "Event",
    "Field",
    "Kallsyms",
    "PerfDataError",
    "Profile",
    "Samples",
    "Stats",
    "find_kallsyms",
    "load",
]
