"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data import cifar, corpora, digits, mnist
from data.files import FileSet
from data.images import ImageData, Images
from data.text import Corpus, TextData


class _Source(NamedTuple):
    """`read(root, download)` gives the data; `files` is what it reads (None: nothing, it is embedded)."""

    read: Callable[[Path, bool], Images | Corpus]
    files: FileSet | None


_SOURCES = {
    "digits": _Source(digits.read, None),
    "mnist": _Source(mnist.read, mnist.FILES),
    "cifar10": _Source(cifar.read_cifar10, cifar.CIFAR10),
    "cifar100": _Source(cifar.read_cifar100, cifar.CIFAR100),
    "ptb": _Source(corpora.read_ptb, corpora.PTB),
    "war_and_peace": _Source(corpora.read_war_and_peace, corpora.WAR_AND_PEACE),
    "pydoc": _Source(corpora.read_pydoc, None),
}


def names() -> list[str]:
    """The data sets there are."""
    return list(_SOURCES)


def load(
    name: str,
    root: str | Path,
    device: torch.device,
    *,
    batch_size: int,
    download: bool = True,
    **options: Any,
) -> ImageData | TextData:
    """The data set `name` on `device`, from the official files below `root`, which are fetched where they are missing.

    `options`: for images `augment` ("none", "crop_flip") and `validation` (a bool); for text `sequence_length` (required).
    Raises ValueError for a name, size or option that cannot be, DataError for missing or damaged data.
    """
    data = _source(name).read(Path(root).expanduser(), download)
    if isinstance(data, Images):
        return ImageData(data, device, batch_size=batch_size, **options)
    return TextData(data, device, batch_size=batch_size, **options)


def fetch(name: str, root: str | Path, download: bool = True) -> Path | None:
    """Bring the official files below `root`, check them, and return their folder (None where none are needed).

    Raises ValueError for an unknown name, DataError for missing or damaged data.
    """
    files, root = _source(name).files, Path(root).expanduser()
    if files is None:
        return None
    files.read(root, download)
    return root / files.folder


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise ValueError(f"data set {name!r}: expected one of {', '.join(_SOURCES)}")
    return _SOURCES[name]
