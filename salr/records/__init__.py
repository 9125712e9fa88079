"""What a run leaves on disk: written atomically, sealed, claimed by one live process, and found again.

Needs a POSIX system (`fcntl`). Imports neither torch nor, before a table is asked for, pandas.
"""

from salr.records import atomic
from salr.records.collection import check_writable, find_runs, summaries
from salr.records.errors import Damaged, RecordError, RunBusy
from salr.records.run import Run, run_key
from salr.records.state import State

__all__ = [
    "Damaged",
    "RecordError",
    "Run",
    "RunBusy",
    "State",
    "atomic",
    "check_writable",
    "find_runs",
    "run_key",
    "summaries",
]
