"""What the tests of the data sets share: loading them (or skipping), official-looking files, and the official pickles' form."""

import functools
import hashlib
import struct
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import data
from data.files import FileSet, OfficialFile
from data.registry import _SOURCES
from experiments.schema.dataset import DatasetConfig, ImageDatasetConfig, TextDatasetConfig

CPU = torch.device("cpu")
CONFIGS = Path(__file__).parents[2] / "configs" / "dataset"


def configuration(name: str) -> DatasetConfig:
    """What `configs/dataset/<name>.yaml` says, over the schema that it names."""
    values = OmegaConf.load(CONFIGS / f"{name}.yaml")
    base, _ = values.pop("defaults")
    schema = {"base_image": ImageDatasetConfig, "base_text": TextDatasetConfig}[base]
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))


def root_of(name: str, request: pytest.FixtureRequest) -> Path:
    """Where `name` is found; skips where it needs files that are not there. Damaged files are not missing: they fail."""
    files = _SOURCES[name].files
    if files is None:
        return Path("unused")
    root = request.getfixturevalue("data_root")
    if not files.present(root) and not (files.alternative and files.alternative.present(root)):
        pytest.skip(f"needs real data: {name} is not below SALR_DATA_DIR={root}")
    return root


@functools.lru_cache(maxsize=3)
def load(name: str, root: Path, **options: object) -> data.ImageData | data.TextData:
    """`data.load` without downloading; the last few are kept, since tests only read them."""
    return data.load(name, root, CPU, download=False, **options)


def generators(seed: int) -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)


def standardised(pixels: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
    """The definition: each channel by its own mean and deviation over the training images."""
    values = training.double()
    mean, deviation = values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)
    return ((pixels.double() - mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)).float()


def official(name: str, content: bytes, *urls: str) -> OfficialFile:
    """A manifest's entry for which `content` is the official file."""
    return OfficialFile(name, len(content), hashlib.sha256(content).hexdigest(), urls)


def file_set(root: Path, dataset: str, folder: str, contents: dict[str, bytes], **options: object) -> FileSet:
    """A set whose official files are `contents`, written below `root`."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (root / folder / name).write_bytes(content)
    return FileSet(dataset, folder, tuple(official(*item) for item in contents.items()), "digits", **options)


def cifar_pickle(pixels: bytes, labels: list[int], key: bytes = b"labels", width: int = 3072) -> bytes:
    """A batch as Python 2 pickled the official ones: byte strings, and numpy's array under the name it had then."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    shape = b"M" + struct.pack("<H", len(pixels) // width) + b"M" + struct.pack("<H", width) + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array = empty + b"(K\x01" + shape + dtype + b"\x89" + text(pixels) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key) + numbers + b"u."


def assert_one_line(error: BaseException, *parts: str) -> None:
    message = str(error)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
