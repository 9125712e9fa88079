"""The data sets by name."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data import cifar, corpora, digits, mnist
from data.files import FileSet
from data.images import ImageData, Images
from data.text import Corpus, TextData


class _Source(NamedTuple):
    """How a data set is read.

    Attributes:
        read: Takes the root folder and whether to download; returns the data.
        files: The files that it reads; ``None`` if it needs none.
    """

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
    """Return the names of the data sets."""
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
    """Return a data set on the device.

    Args:
        name: One of :func:`names`.
        root: The folder of the official files.
        device: Where the data are kept.
        batch_size: Images or token streams per batch.
        download: Whether to fetch missing files.
        options: For images ``augment`` (``"none"`` or ``"crop_flip"``) and ``validation`` (a bool); for text
            ``sequence_length`` (required).

    Raises:
        ValueError: An unknown name or option, a missing option, or an impossible size or value.
        DataError: The data are missing or damaged.

    Example:
        >>> images = load("digits", "downloads", torch.device("cpu"), batch_size=32)
        >>> images.iterations
        44
    """
    data = _source(name).read(Path(root).expanduser(), download)
    _check_options(name, ImageData if isinstance(data, Images) else TextData, options)
    if isinstance(data, Images):
        return ImageData(data, device, batch_size=batch_size, **options)
    return TextData(data, device, batch_size=batch_size, **options)


def fetch(name: str, root: str | Path, download: bool = True) -> Path | None:
    """Fetch the official files of a data set if they are missing, and check them.

    Args:
        name: One of :func:`names`.
        root: The folder below which the files are kept.
        download: Whether to fetch missing files.

    Returns:
        The folder of the files; ``None`` if the data set needs none.

    Raises:
        ValueError: An unknown name.
        DataError: The data are missing or damaged.
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


def _check_options(name: str, kind: type[ImageData | TextData], options: Iterable[str]) -> None:
    """Raise ValueError if an option is not one of this kind, or if a required one is missing."""
    parameters = inspect.signature(kind).parameters.values()
    own = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name != "batch_size"]
    known = [each.name for each in own]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}: expected one of {', '.join(known)}")
    for each in own:
        if each.default is each.empty and each.name not in options:
            raise ValueError(f"{name} needs the option {each.name}: it is missing")
