"""MNIST (LeCun et al. 1998) in torchvision's layout: `MNIST/raw/`, packed or unpacked idx files."""

import gzip
import zlib
from pathlib import Path

import torch
from torch import Tensor

from data.base import DataError
from data.files import FileSet, OfficialFile
from data.images import Images

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# name, size and sha256 of the packed file, size and sha256 of the unpacked one
TABLE = (
    (
        "train-images-idx3-ubyte",
        (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ),
    (
        "train-labels-idx1-ubyte",
        (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    (
        "t10k-images-idx3-ubyte",
        (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ),
    (
        "t10k-labels-idx1-ubyte",
        (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
)
UNPACKED = FileSet(
    "mnist", "MNIST/raw", tuple(OfficialFile(name, *plain) for name, _, plain in TABLE), offline="digits"
)
FILES = FileSet(
    "mnist",
    "MNIST/raw",
    tuple(
        OfficialFile(f"{name}.gz", *packed, tuple(f"{mirror}{name}.gz" for mirror in MIRRORS))
        for name, packed, _ in TABLE
    ),
    offline="digits",
    alternative=UNPACKED,
)


def read(root: Path, download: bool) -> Images:
    """60,000 training and 10,000 test images (1, 28, 28)."""
    contents = FILES.read(root, download)
    train, train_labels, test, test_labels = (parse_idx(content, name) for name, content in contents.items())
    return Images(train.unsqueeze(1), train_labels.long(), test.unsqueeze(1), test_labels.long(), classes=10)


def parse_idx(content: bytes, name: str) -> Tensor:
    """The uint8 tensor of an idx file (gzipped if `name` ends in .gz): big-endian magic 0x08 and rank, sizes, then the bytes."""
    if name.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"mnist: {name} is not a whole gzip file: {error}") from error
    rank = 3 if "idx3" in name else 1
    start = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < start:
        raise DataError(
            f"mnist: {name} is not an idx file of {rank}-dimensional bytes (its first bytes are {content[:4].hex()})"
        )
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    values = torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8)
    if values.numel() != torch.Size(shape).numel():
        raise DataError(
            f"mnist: {name} holds {values.numel():,} bytes, its header says {torch.Size(shape).numel():,}"
        )
    return values.view(shape)
