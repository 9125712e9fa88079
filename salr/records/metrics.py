"""``metrics.jsonl``: one sealed line per epoch. An append costs the same however long the file is."""

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
    """Append a row and sync the file.

    Raises:
        ValueError: the row has no integer ``epoch``.
        RecordError: the disk refuses. The file is as it was.
    """
    if not _is_row(row):
        raise ValueError(f"a metrics row has epoch {row.get('epoch')!r}, expected an integer")
    line = memoryview(json_bytes(row, separator=", "))
    try:
        atomic.make_folder(path.parent)
        # A buffered stream would write the rest of its buffer after the file is cut below.
        with path.open("a+b", buffering=0) as stream:
            end = _cut_torn_tail(stream.fileno(), path)
            try:
                while line:
                    line = line[stream.write(line) :]
                os.fsync(stream.fileno())
            except BaseException:
                os.ftruncate(stream.fileno(), end)
                raise
        # Always: a process that was killed may have made the file and not synced its name.
        atomic.sync_folder(path.parent)
    except OSError as error:
        raise cannot("write", path, error) from error


def read(path: Path) -> list[dict[str, Any]]:
    """Return all whole rows in the file's order. A damaged line is dropped and logged with its number."""
    return [row for _, row in _rows(path)]


def keep(path: Path, epochs: int) -> None:
    """Drop the rows of later epochs and all damaged lines, in one atomic step."""
    lines = [line for line, row in _rows(path) if row["epoch"] <= epochs]
    if path.exists() and sum(map(len, lines)) != path.stat().st_size:
        atomic.replace(path, lambda stream: stream.writelines(lines))


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield each whole line with its row."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    row = parse_json(line)
                    if not _is_row(row):
                        raise Damaged("it has no integer epoch")
                except Damaged as damage:
                    log.warning("%s line %d is damaged (%s); dropped", path, number, damage)
                else:
                    yield line, row
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise cannot("read", path, error) from error


def _is_row(row: Mapping[str, object]) -> bool:
    return isinstance(row.get("epoch"), int)


def _cut_torn_tail(descriptor: int, path: Path) -> int:
    """Cut what follows the last newline, which a kill within a line leaves. Return the file's new length."""
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
