"""What can go wrong with a record. Every message is one line."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RecordError(Exception):
    """A record cannot be written, read or claimed. The message says which one and why.

    Example:
        >>> from pathlib import Path
        >>> from salr.records import RecordError, check_writable
        >>> try:
        ...     check_writable(Path("/dev/null"))
        ... except RecordError as error:
        ...     print(error)
        cannot write to /dev/null: it is not a folder
    """


class RunBusy(RecordError):
    """Another live process holds the run.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from salr.records import Run, RunBusy
        >>> run = Run(Path(tempfile.mkdtemp()), "digits", "lenet", "sgd", "0123456789", seed=0)
        >>> with run.claim():
        ...     try:
        ...         with run.claim():
        ...             print("never")
        ...     except RunBusy:
        ...         print("busy")
        busy
    """


class Damaged(RecordError):
    """A file exists, but its content is not what was written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from salr.records import Damaged, Run
        >>> run = Run(Path(tempfile.mkdtemp()), "digits", "lenet", "sgd", "0123456789", seed=0)
        >>> run.folder.mkdir(parents=True)
        >>> (run.folder / "status.json").write_text("half a fi")
        9
        >>> try:
        ...     run.inspect()
        ... except Damaged:
        ...     print("damaged")
        damaged
    """


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
