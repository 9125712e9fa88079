"""Labelled images as tensors on the device, and the batches that are made of them there."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from data.base import Batch, send
from data.splits import stratified_split
from salr.costs import image_batches

AUGMENTATIONS = ("none", "crop_flip")
PADDING = 4
EVALUATION_BATCH = 500
# Several batches are prepared at once, up to this many pixels. On a GPU that saves kernel launches. On a CPU
# it stays near the caches (CIFAR-10, batch 128: 0.06 ms per batch; 0.10 ms with four times as many pixels).
BLOCK_PIXELS = 2**22


class Images(NamedTuple):
    """A data set as read from its files, on the CPU.

    Attributes:
        train: Images (N, C, H, W), uint8.
        train_labels: Classes (N,), int64, from 0 to ``classes`` - 1.
        test: Likewise.
        test_labels: Likewise.
        classes: How many classes there are.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


class ImageData:
    """Images on the device, standardised per channel with the statistics of the images used for training.

    They are stored as bytes and become float32 when batches are prepared: a quarter of the memory, and as
    fast as gathering floats, since a gather is bound by the memory that it reads.

    Args:
        images: The data set.
        device: Where it is kept.
        batch_size: Images per batch.
        augment: ``"none"``; or ``"crop_flip"``, which pads the training images by 4, crops them at random and
            flips half of them. The padding is pixel value 0 before standardising (black, not the mean), as in
            torchvision's usual pipeline of crop, then normalise.
        validation: Whether to hold out a fixed, stratified tenth of the training images.

    Attributes:
        input_shape: (C, H, W).
        outputs: The number of classes.
        iterations: Batches per epoch.

    Raises:
        ValueError: An unknown augmentation, or a batch size that the training images do not fill.
    """

    def __init__(
        self,
        images: Images,
        device: torch.device,
        *,
        batch_size: int,
        augment: str = "none",
        validation: bool = False,
    ) -> None:
        if augment not in AUGMENTATIONS:
            raise ValueError(f"augment={augment!r}: expected one of {', '.join(AUGMENTATIONS)}")
        train, labels = images.train, images.train_labels
        parts = {"train": (train, labels)}
        if validation:
            kept, taken = stratified_split(labels, len(labels) // 10)
            parts = {"train": (train[kept], labels[kept]), "validation": (train[taken], labels[taken])}
        parts["test"] = (images.test, images.test_labels)
        mean, deviation = channel_statistics(parts["train"][0])
        self._size = len(parts["train"][0])
        if not 1 <= batch_size <= self._size:
            raise ValueError(
                f"batch_size={batch_size}: expected 1 to {self._size}, the number of training images"
            )
        self.input_shape = tuple(train.shape[1:])
        self.outputs = images.classes
        self.iterations = image_batches(self._size, batch_size)
        self._batch_size = batch_size
        self._device = device
        self._mean = mean.float().view(-1, 1, 1).to(device)
        self._deviation = deviation.float().view(-1, 1, 1).to(device)
        self._parts = {
            split: (pixels.to(device), targets.to(device)) for split, (pixels, targets) in parts.items()
        }
        self._windows: Tensor | None = None
        if augment == "crop_flip":
            pixels, targets = self._parts["train"]
            self._windows = all_crops(pixels)
            # The middle crops are the images, so that one copy serves both.
            self._parts["train"] = (self._windows[:, :, PADDING, PADDING], targets)

    def batches(self, order: Generator, augmentation: Generator, passes: int = 1) -> Iterator[Batch]:
        """Yield ``passes * iterations`` training batches, each pass in a new order.

        The last, partial batch of a pass is left out. When its first batch is asked for, a pass draws its
        permutation from ``order`` and all its crops and flips from ``augmentation`` (not used without
        augmentation).

        Args:
            order: A generator of the CPU.
            augmentation: A generator of the CPU.
            passes: How often the data set is read.
        """
        for _ in range(passes):
            choice = send(self._draw(order, augmentation), self._device)
            targets = self._parts["train"][1][choice[0]]
            batch_pixels = self._batch_size * torch.Size(self.input_shape).numel()
            block = max(1, BLOCK_PIXELS // batch_pixels) * self._batch_size
            for some, labels in zip(choice.split(block, 1), targets.split(block), strict=True):
                images = self._standardise(self._training_pixels(some))
                pairs = zip(images.split(self._batch_size), labels.split(self._batch_size), strict=True)
                for inputs, classes in pairs:
                    yield Batch(inputs, classes, restart=False)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Return a whole split in file order, not augmented, in batches of 500 and a smaller last one.

        Raises:
            ValueError: ``split`` is not ``"train"``, ``"test"`` or, if it was held out, ``"validation"``.
        """
        if split not in self._parts:
            raise ValueError(f"split {split!r}: expected one of {', '.join(self._parts)}")
        pixels, labels = (part.split(EVALUATION_BATCH) for part in self._parts[split])
        return (
            Batch(self._standardise(some), targets, restart=False)
            for some, targets in zip(pixels, labels, strict=True)
        )

    def _draw(self, order: Generator, augmentation: Generator) -> Tensor:
        """Return what a pass consists of, in one tensor for one transfer.

        Returns:
            (1, n) indices; with augmentation (4, n): indices, the crops' rows and columns, and the flips.
        """
        count = self.iterations * self._batch_size
        chosen = torch.randperm(self._size, generator=order)[:count].unsqueeze(0)
        if self._windows is None:
            return chosen
        corners = torch.randint(0, 2 * PADDING + 1, (2, count), generator=augmentation)
        flips = torch.randint(0, 2, (1, count), generator=augmentation)
        return torch.cat([chosen, corners, flips])

    def _training_pixels(self, choice: Tensor) -> Tensor:
        if self._windows is None:
            return self._parts["train"][0].index_select(0, choice[0])
        chosen, row, column, flip = choice
        cropped = self._windows[chosen, :, row, column]
        return torch.where(flip.bool().view(-1, 1, 1, 1), cropped.flip(-1), cropped)

    def _standardise(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self._mean).div_(self._deviation)


def all_crops(pixels: Tensor) -> Tensor:
    """Return every crop of images (N, C, H, W) padded by 4 zeros, as a view (N, C, 9, 9, H, W)."""
    padded = F.pad(pixels, (PADDING,) * 4)
    return padded.unfold(2, pixels.shape[2], 1).unfold(3, pixels.shape[3], 1)


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of each channel of images (N, C, H, W), uint8: (C,) float64 each.

    They are computed from the histogram of the 256 values, so that the device and the number of threads do
    not change them.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)]
    ).double()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    variance = (weights * (values - mean.unsqueeze(1)).square()).sum(1)
    return mean, variance.sqrt()
