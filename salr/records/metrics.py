"""`metrics.jsonl`: one sealed line an epoch, appended at a cost that does not depend on the file's length."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from salr.records import atomic
from salr.records.errors import Damaged, cannot
from salr.records.sealed import json_bytes, parse_json

log = logging.getLogger("salr.records")
_BLOCK = 1 << 16


def append(path: Path, row: Mapping[str, object]) -> None:
    """Append a row and see it onto the disk. A row that does not fit leaves the file as it was (RecordError)."""
    if not isinstance(row.get("epoch"), int):
        raise ValueError(f"a metrics row has epoch {row.get('epoch')!r}, expected an integer")
    line = memoryview(json_bytes(row, separator=", "))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        created = not path.exists()
        # Unbuffered: a buffer would write its rest after the cut below.
        with path.open("a+b", buffering=0) as stream:
            end = _cut_torn_tail(stream.fileno(), path)
            try:
                while line:
                    line = line[stream.write(line) :]
                os.fsync(stream.fileno())
            except BaseException:
                os.ftruncate(stream.fileno(), end)
                raise
        if created:
            atomic.sync_folder(path.parent)
    except OSError as error:
        raise cannot("write", path, error) from error


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows in the file's order; each damaged line is dropped with a log line that names it."""
    return [row for _, row in _rows(path)]


def keep(path: Path, epochs: int) -> None:
    """Drop the rows of later epochs and all damaged lines, in one atomic step."""
    lines = [line for line, row in _rows(path) if row["epoch"] <= epochs]
    if path.exists() and sum(map(len, lines)) != path.stat().st_size:
        atomic.replace(path, lambda stream: stream.writelines(lines))


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield line, parse_json(line)
                except Damaged as damage:
                    log.warning("%s line %d is damaged (%s); dropped", path, number, damage)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise cannot("read", path, error) from error


def _cut_torn_tail(descriptor: int, path: Path) -> int:
    """Cut what follows the last newline, the trace of a kill in mid-line; returns the file's length then."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    log.warning("%s ends in a torn line; cut %d bytes", path, size - end)
    os.ftruncate(descriptor, end)
    return end
