"""Replace files atomically: after a crash, a file has either its old content or its new one."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from salr.records.errors import cannot

log = logging.getLogger("salr.records")


def replace(
    path: Path, write: Callable[[BinaryIO], object], previous: Path | None = None, several: bool = False
) -> None:
    """Replace a file: write beside it, sync, rename, sync the folder.

    Args:
        path: the file. Missing folders are made.
        write: fills the new version. The stream can also be read.
        previous: the old version is kept under this name. After a crash between the two renames, only this
            file exists.
        several: whether several processes may write the file at the same time, as two processes that make the
            same table do. The partial file then has the process's own name. A run's file has one writer, the
            holder of its claim. Its partial file has a fixed name, so that the next process overwrites what a
            killed one left.

    Raises:
        RecordError: the file cannot be written. The partial file is removed, and the old version is in place.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}" if several else f"{path.name}.partial")
    try:
        make_folder(path.parent)
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
        # torch.save turns an error of the stream into a RuntimeError.
        refusal = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(refusal, OSError):
            raise cannot("write", path, refusal) from error
        raise


def write(path: Path, data: bytes, several: bool = False) -> None:
    """Replace a file by these bytes (see :func:`replace`)."""
    replace(path, lambda stream: stream.write(data), several=several)


def write_csv(path: Path, head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Replace a CSV file by a head and rows. Several processes may do so at the same time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write(path, text.getvalue().encode(), several=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, so that they survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file to ``<name>.damaged-<n>``, with the first free n, and log it."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        log.warning("%s is damaged (%s) and could not be set aside: %s", path, reason, error.strerror)
    else:
        log.warning("%s is damaged (%s); set aside as %s", path, reason, aside.name)
