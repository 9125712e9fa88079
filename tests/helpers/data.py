"""Helpers for the tests of the data sets: loading (or skipping) them, files in the official formats."""

import contextlib
import functools
import hashlib
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import data
from data.files import FileSet, OfficialFile
from data.registry import _SOURCES
from experiments.schema.dataset import DatasetConfig, ImageDatasetConfig, TextDatasetConfig

CPU = torch.device("cpu")
Serve = Callable[[dict[str, bytes]], Any]  # see tests/data/conftest.py
CONFIGS = Path(__file__).parents[2] / "configs" / "dataset"


def configuration(name: str) -> DatasetConfig:
    """Return the values of ``configs/dataset/<name>.yaml`` in the type that it extends."""
    values = OmegaConf.load(CONFIGS / f"{name}.yaml")
    base, _ = values.pop("defaults")
    schema = {"base_image": ImageDatasetConfig, "base_text": TextDatasetConfig}[base]
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))


def root_of(name: str, request: pytest.FixtureRequest) -> Path:
    """Return the folder of the data. Skips if files are missing; damaged files are not missing, they fail."""
    files = _SOURCES[name].files
    if files is None:
        return Path("unused")
    root = request.getfixturevalue("data_root")
    if not files.present(root) and not (files.alternative and files.alternative.present(root)):
        pytest.skip(f"needs real data: {name} is not below SALR_DATA_DIR={root}")
    return root


@functools.lru_cache(maxsize=3)
def load(name: str, root: Path, **options: object) -> data.ImageData | data.TextData:
    """Load without downloading. The last few are kept, since tests only read them."""
    return data.load(name, root, CPU, download=False, **options)


def generators(seed: int) -> tuple[torch.Generator, torch.Generator]:
    """Return a generator for the order and one for the augmentation."""
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)


def standardised(pixels: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
    """Standardise each channel with its mean and deviation over the training images, as defined."""
    values = training.double()
    mean, deviation = values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)
    return ((pixels.double() - mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)).float()


def official(name: str, content: bytes, *urls: str) -> OfficialFile:
    """Return the entry of which ``content`` is the official file."""
    return OfficialFile(name, len(content), hashlib.sha256(content).hexdigest(), urls)


def file_set(root: Path, dataset: str, folder: str, contents: dict[str, bytes], **options: object) -> FileSet:
    """Return a set whose official files are ``contents``, and write them below ``root``."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (root / folder / name).write_bytes(content)
    return FileSet(dataset, folder, tuple(official(*item) for item in contents.items()), "digits", **options)


def idx(shape: tuple[int, ...], values: bytes) -> bytes:
    """Return a file of MNIST with this header and these values."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape) + values


def cifar_pickle(pixels: bytes, labels: list[int], key: bytes = b"labels", width: int = 3072) -> bytes:
    """Return a batch as Python 2 pickled the official ones: byte strings, and NumPy's old names."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    shape = b"M" + struct.pack("<H", len(pixels) // width) + b"M" + struct.pack("<H", width) + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array = empty + b"(K\x01" + shape + dtype + b"\x89" + text(pixels) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key) + numbers + b"u."


def entries(root: Path) -> list[str]:
    """Return every file and link below ``root``, hidden ones as well."""
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink()
    )


@contextlib.contextmanager
def bounded(megabytes: int = 64) -> Iterator[None]:
    """Fail if Python allocates more memory at once than this."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes << 20, f"{peak / 2**20:.0f} MB were allocated"


def assert_one_line(error: BaseException, *parts: str) -> None:
    """Check that an error is one line with these parts."""
    message = str(error)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
