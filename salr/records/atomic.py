"""Files that are either the old or the new one, whatever happens in between: write beside, fsync, rename, fsync."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from salr.records.errors import cannot

log = logging.getLogger("salr.records")


def replace(
    path: Path, write: Callable[[BinaryIO], object], previous: Path | None = None, several: bool = False
) -> None:
    """Let `write` fill a new version of `path`; where `previous` is given, the old version is kept there.

    A run's file has one writer at a time, the holder of its claim, so the partial file has a fixed name: what a killed
    process leaves is overwritten by the next. Where `several` may write, as a table may be made twice at once, the name is
    the process's own. Killed between the two renames, only the old version is there, as
    `previous`. Raises RecordError when the disk refuses; then the partial file is gone and the old version is in place.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}" if several else f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w+b") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(partial, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        # torch.save turns the stream's error into a RuntimeError of its own.
        refusal = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(refusal, OSError):
            raise cannot("write", path, refusal) from error
        raise


def write(path: Path, data: bytes, several: bool = False) -> None:
    """`replace` by these bytes."""
    replace(path, lambda stream: stream.write(data), several=several)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file to `<name>.damaged-<n>`, n the first free number, and log a line saying so."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        log.warning("%s is damaged (%s) and could not be set aside: %s", path, reason, error.strerror)
    else:
        log.warning("%s is damaged (%s); set aside as %s", path, reason, aside.name)
