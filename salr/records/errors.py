"""What can go wrong with a record. Every message is one line."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RecordError(Exception):
    """A record cannot be written, read or claimed. The message says which one and why."""


class RunBusy(RecordError):
    """Another live process holds the run."""


class Damaged(RecordError):
    """A file exists, but its content is not what was written."""


def cannot(do: str, path: Path, error: OSError) -> RecordError:
    """Return the operating system's refusal as an error of one line.

    Args:
        do: the verb of the message, such as "write", "read" or "claim".
        path: the file or folder.
        error: what the operating system raised. If the disk is full, the message says what to do.
    """
    advice = "; free some space and start the same command again: what was recorded before is intact"
    return RecordError(
        f"cannot {do} {path}: {error.strerror or error}{advice if error.errno in _FULL else ''}"
    )
