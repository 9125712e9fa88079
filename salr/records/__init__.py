"""What a run leaves on disk: written atomically, sealed, claimed by one live process, found and loaded again.

Needs a POSIX system (``fcntl``). Does not import torch, and imports pandas only to load a table.
"""

from salr.records import atomic
from salr.records.collection import check_writable, find_runs
from salr.records.errors import Damaged, RecordError, RunBusy
from salr.records.frames import load_runs
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
    "load_runs",
    "run_key",
]
