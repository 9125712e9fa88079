"""What can go wrong with a record, always said in one line."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RecordError(Exception):
    """A record cannot be written, read or claimed; the message is one line that says which and why."""


class RunBusy(RecordError):
    """Another live process holds the run."""


class Damaged(RecordError):
    """A file is there, but its content is not what was once written."""


def cannot(do: str, path: Path, error: OSError) -> RecordError:
    """The operating system's refusal as one line: `do` is "write", "read" or "claim"."""
    advice = "; free some space and start the same command again: what was recorded before is intact"
    return RecordError(
        f"cannot {do} {path}: {error.strerror or error}{advice if error.errno in _FULL else ''}"
    )
