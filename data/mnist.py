"""MNIST (LeCun et al. 1998) in torchvision's layout: ``MNIST/raw/``, idx files, packed or unpacked."""

import gzip
import io
import math
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
# Name; size and sha256 of the packed file; size and sha256 of the unpacked file.
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
LARGEST = max(size for _, _, (size, _) in TABLE)  # bytes of an unpacked file


def read(root: Path, download: bool) -> Images:
    """Read 60,000 training and 10,000 test images (1, 28, 28)."""
    contents = FILES.read(root, download)
    train, train_labels, test, test_labels = (parse_idx(content, name) for name, content in contents.items())
    for images, labels in ((train, train_labels), (test, test_labels)):
        if len(images) != len(labels) or (labels > 9).any():
            raise DataError("mnist: there is not one label from 0 to 9 for each image")
    return Images(train.unsqueeze(1), train_labels.long(), test.unsqueeze(1), test_labels.long(), classes=10)


def parse_idx(content: bytes, name: str) -> Tensor:
    """Return the uint8 tensor of an idx file, which is type (0x08), rank, sizes (big-endian), then bytes.

    Args:
        content: The file, packed with gzip if ``name`` ends in ``.gz``.
        name: Tells the rank: 3 if ``idx3`` is in it, else 1.

    Raises:
        DataError: The content is anything else, or larger than MNIST's largest file.
    """
    if name.endswith(".gz"):
        content = _unpack(content, name)
    rank = 3 if "idx3" in name else 1
    start = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < start:
        raise DataError(
            f"mnist: {name} is not an idx file of {rank}-dimensional bytes "
            f"(its first bytes are {content[:4].hex()})"
        )
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    held, promised = len(content) - start, math.prod(shape)
    if held != promised or not promised:
        raise DataError(f"mnist: {name} holds {held:,} bytes, its header says {promised:,}")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).view(shape)


def _unpack(content: bytes, name: str) -> bytes:
    """Unpack a gzip file, but no more than MNIST's largest file has: a small one may unpack to gigabytes."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"mnist: {name} is not a whole gzip file: {error}") from error
    if len(unpacked) > LARGEST:
        raise DataError(f"mnist: {name} unpacks to more than {LARGEST:,} bytes, MNIST's largest file")
    return unpacked
