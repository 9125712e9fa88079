"""The format of a record, kept in ``status.json`` and ``config.yaml``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salr.records.errors import RecordError

FORMAT = 2
"""The format that is written. Files without a format have format 1, which is read as well.

A later format must keep the seals and the key ``format`` of the two files. Then this version can refuse it.
"""


def with_format(entries: Mapping[str, object]) -> dict[str, object]:
    """Return the entries of a file with its format first."""
    if "format" in entries:
        raise ValueError("record: key 'format' is the record's own, expected another name")
    return {"format": FORMAT, **entries}


def without_format(entries: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the entries of a file without its format. Raise RecordError if the format is not known."""
    found = entries.pop("format", 1)
    if found not in range(1, FORMAT + 1):
        raise RecordError(
            f"{path} has format {found!r}, written by a later version; expected an update of salr"
        )
    return entries
