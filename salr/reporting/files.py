"""Files that are whole at every moment, whoever else is making the same table."""

import os
from pathlib import Path


def write(path: Path, data: bytes | str) -> None:
    """Writes beside and renames; folders are made where absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
