"""The 8×8 handwritten digits that scikit-learn contains: 1,797 images, no download."""

from pathlib import Path

import torch

from data.base import DataError
from data.images import Images
from data.splits import stratified_split

TEST_SIZE = 360


def read(root: Path, download: bool) -> Images:
    """Read 1,437 training and 360 test images (1, 8, 8), pixels 0 to 16, in a fixed stratified split.

    The arguments are those of every data set; neither is used.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # takes a second, and nothing else here needs it
    except ImportError as error:
        raise DataError(
            "digits: scikit-learn, which contains the images, is not installed: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = stratified_split(labels, TEST_SIZE)
    return Images(pixels[train], labels[train], pixels[test], labels[test], classes=10)
