"""Bytes that show whether they are still what was written.

JSON and YAML end with an entry ``checksum``: the first 16 hex digits of the SHA-256 of every byte before
those digits. Nothing is parsed before the checksum holds. A checkpoint ends with a line ``sha256 <64 hex
digits>`` over all bytes before it, which ``torch.load`` ignores. (The CRCs of a checkpoint's zip members are
not enough: they do not cover the archive's directory, in which one flipped bit can make torch read a tensor
from the wrong place, and torch checks none of them.)

Strict JSON has no NaN and no infinity. They are written as ``{"$float": "nan"}``, ``{"$float": "inf"}`` and
``{"$float": "-inf"}``, and read back as floats. YAML has its own ``.nan``, ``.inf`` and ``-.inf``. Tuples are
read back as lists.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from salr.records.errors import Damaged, cannot

# The C loader is ten times faster; PyYAML may have been built without it. Both build plain data only.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DIGITS = 16
_NONFINITE = "$float"
_TRAILER = len(b"sha256 ") + 64 + len(b"\n")


def plain(value: object, where: str = "record", tag_nonfinite: bool = True) -> Any:
    """Return a copy in dicts with text keys, lists, str, bool, int, float and None.

    Args:
        value: what to copy.
        where: the name of ``value`` in messages.
        tag_nonfinite: whether to write NaN and infinities as JSON needs them.

    Raises:
        ValueError: an entry is not plain data. The message names the first one.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) or not tag_nonfinite else {_NONFINITE: repr(float(value))}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]", tag_nonfinite) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _NONFINITE:
                raise ValueError(
                    f"{where}: key {key!r} cannot be recorded, expected a text other than {_NONFINITE!r}"
                )
        return {str.__str__(key): plain(item, f"{where}.{key}", tag_nonfinite) for key, item in value.items()}
    raise ValueError(f"{where}: a {type(value).__name__} cannot be recorded, expected plain data")


def json_bytes(value: Mapping[str, object], separator: str = ",\n") -> bytes:
    """Return sealed JSON with one line per key, or, with ``separator=", "``, one line in all."""
    entries = _entries(value, tag_nonfinite=True).items()
    body = "".join(
        f"{json.dumps(key)}: {json.dumps(item, allow_nan=False)}{separator}" for key, item in entries
    )
    return seal(f'{{{body}"checksum": "', '"}\n')


def parse_json(data: bytes) -> dict[str, Any]:
    """Return the mapping that :func:`json_bytes` sealed, without its checksum, or raise Damaged."""
    return _parse(data, '"}\n', lambda text: json.loads(text, object_hook=_untag))


def yaml_bytes(value: Mapping[str, object]) -> bytes:
    """Return sealed YAML, with the keys in the order given."""
    entries = _entries(value, tag_nonfinite=False)
    body = yaml.safe_dump(entries, sort_keys=False, default_flow_style=False) if entries else ""
    return seal(f"{body}checksum: '", "'\n")


def parse_yaml(data: bytes) -> dict[str, Any]:
    """Return the mapping that :func:`yaml_bytes` sealed, without its checksum, or raise Damaged."""
    return _parse(data, "'\n", lambda text: yaml.load(text, _YAML_LOADER))


def seal(covered: str, close: str) -> bytes:
    """Return ``covered``, its checksum, and ``close``."""
    data = covered.encode()
    return data + _digest(data) + close.encode()


def load(path: Path, parse: Callable[[bytes], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the sealed mapping in a file, or None if the file is missing.

    Raises:
        Damaged: the content is not what was written.
        RecordError: the file cannot be read.
    """
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise cannot("read", path, error) from error


def seal_stream(stream: BinaryIO) -> None:
    """Append the trailer to the content of a stream that is open for reading and writing."""
    stream.write(_trailer(stream, stream.seek(0, os.SEEK_END)))


def check_stream(stream: BinaryIO) -> None:
    """Raise Damaged unless the stream ends with the trailer of all bytes before it."""
    covered = stream.seek(0, os.SEEK_END) - _TRAILER
    if covered < 0 or _trailer(stream, covered) != stream.read():
        raise Damaged("its checksum does not match")


def _entries(value: Mapping[str, object], tag_nonfinite: bool) -> dict[str, Any]:
    entries: dict[str, Any] = plain(value, tag_nonfinite=tag_nonfinite)
    if "checksum" in entries:
        raise ValueError("record: key 'checksum' is the record's own, expected another name")
    return entries


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest()[:_DIGITS].encode()


def _trailer(stream: BinaryIO, length: int) -> bytes:
    """Return the trailer of the first ``length`` bytes of the stream, and leave the stream behind them."""
    stream.seek(0)
    digest = hashlib.sha256()
    while length and (block := stream.read(min(length, 1 << 20))):
        digest.update(block)
        length -= len(block)
    return f"sha256 {digest.hexdigest()}\n".encode()


def _parse(data: bytes, close: str, parse: Callable[[bytes], object]) -> dict[str, Any]:
    covered = data[: -_DIGITS - len(close)]
    if data != covered + _digest(covered) + close.encode():
        raise Damaged("its checksum does not match")
    try:
        value = parse(data)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise Damaged("it cannot be parsed") from error
    if not isinstance(value, dict) or value.pop("checksum", None) is None:
        raise Damaged("it is not a sealed mapping")
    return value


def _untag(entries: dict[str, Any]) -> Any:
    return float(entries[_NONFINITE]) if entries.keys() == {_NONFINITE} else entries
