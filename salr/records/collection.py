"""Find all runs of a results folder."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from salr.records import atomic
from salr.records.errors import RecordError, cannot
from salr.records.run import NAME, Run

_SEED = re.compile(r"seed-(0|[1-9][0-9]*)")


def find_runs(results: Path) -> Iterator[Run]:
    """Yield every run of a results folder, by name and seed. Skip what is not named like a run.

    Args:
        results: the folder that holds ``runs/``. It may be missing.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from salr.records import Run, find_runs
        >>> results = Path(tempfile.mkdtemp())
        >>> for seed in (0, 1):
        ...     Run(results, "digits", "lenet", "sgd", "0123456789", seed).folder.mkdir(parents=True)
        >>> [run.seed for run in find_runs(results)]
        [0, 1]
    """
    root = results / "runs"
    for dataset in _named(root):
        for model in _named(root / dataset):
            for cell in _folders(root / dataset / model):
                optimizer, _, key = cell.partition("-")
                if NAME.fullmatch(optimizer) and NAME.fullmatch(key):
                    matches = map(_SEED.fullmatch, _folders(root / dataset / model / cell))
                    for seed in sorted(int(match[1]) for match in matches if match):
                        yield Run(results, dataset, model, optimizer, key, seed)


def check_writable(results: Path) -> None:
    """Make the results folder if it is missing, and check that files can be made in it.

    Raises:
        RecordError: no file can be made in it, or it is not a folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from salr.records import check_writable
        >>> results = Path(tempfile.mkdtemp()) / "results"
        >>> check_writable(results)
        >>> results.is_dir()
        True
    """
    try:
        atomic.make_folder(results)
        with tempfile.TemporaryFile(dir=results):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise RecordError(f"cannot write to {results}: it is not a folder") from error
    except OSError as error:
        raise cannot("write to", results, error) from error


def _named(folder: Path) -> list[str]:
    return [name for name in _folders(folder) if NAME.fullmatch(name)]


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot("read", folder, error) from error
