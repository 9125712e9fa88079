"""Labelled images as tensors on the device, and the batches made of them there."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from data.base import Batch, send
from data.splits import stratified_split

AUGMENTATIONS = ("none", "crop_flip")
PADDING = 4
EVALUATION_BATCH = 500
# Batches are prepared some at a time, up to this many pixels: on a GPU that divides the kernel launches that a batch costs,
# and on a CPU it stays near the caches (measured on CIFAR-10, batch 128: 0.06 ms a batch, 0.10 ms with four times as many).
BLOCK_PIXELS = 2**22


class Images(NamedTuple):
    """A data set as read from its files, on the CPU: images (N, C, H, W) uint8, labels (N,) int64 from 0 to `classes` - 1."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


class ImageData:
    """Images on `device`, standardised per channel with the mean and deviation of the images used for training.

    They are stored as bytes and become float32 a block of batches at a time: a quarter of the memory, and as fast as gathering
    floats, since a gather is bound by the memory it reads. `augment="crop_flip"` pads by 4, crops at random and flips half of
    the training images. The padding is pixel value 0 *before* standardising, that is black, as in torchvision's usual pipeline
    (crop, then normalise), not the mean. `validation=True` takes a fixed, stratified tenth out of the training set.

    Raises ValueError for an augmentation that is not there or a batch size that the training images do not fill.
    """

    unit = "images"

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
        self.iterations = self._size // batch_size
        self.count = batch_size
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
            # The middle crops are the images: one copy serves both.
            self._parts["train"] = (self._windows[:, :, PADDING, PADDING], targets)

    def batches(self, order: Generator, augmentation: Generator, passes: int = 1) -> Iterator[Batch]:
        """`passes * iterations` training batches, each pass in a fresh order; the last, partial batch of a pass is left out.

        Both generators are the CPU's; a pass draws its permutation from `order` and all its crops and flips from
        `augmentation` (which is not touched without augmentation) when its first batch is asked for.
        """
        for _ in range(passes):
            choice = send(self._draw(order, augmentation), self._device)
            targets = self._parts["train"][1][choice[0]]
            block = max(1, BLOCK_PIXELS // (self.count * torch.Size(self.input_shape).numel())) * self.count
            for start in range(0, len(targets), block):
                images = self._standardise(self._training_pixels(choice[:, start : start + block]))
                for inputs, labels in zip(
                    images.split(self.count), targets[start : start + block].split(self.count), strict=True
                ):
                    yield Batch(inputs, labels, restart=False)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """The whole split ("train", "validation" or "test") in file order, not augmented, 500 at a time, nothing left out."""
        if split not in self._parts:
            raise ValueError(f"split {split!r}: expected one of {', '.join(self._parts)}")
        pixels, labels = self._parts[split]
        return (
            Batch(self._standardise(some), targets, restart=False)
            for some, targets in zip(
                pixels.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
            )
        )

    def _draw(self, order: Generator, augmentation: Generator) -> Tensor:
        """One pass: (1, n) indices, or (4, n) with the crops' rows and columns and the flips, in one tensor for one transfer."""
        count = self.iterations * self.count
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
    """(N, C, 9, 9, H, W): every crop of images (N, C, H, W) padded by 4 zeros. A view; only the padded images take memory."""
    padded = F.pad(pixels, (PADDING,) * 4)
    return padded.unfold(2, pixels.shape[2], 1).unfold(3, pixels.shape[3], 1)


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, C, H, W) uint8 images: (C,) float64, exact to its rounding.

    From the histogram of the 256 values, so that they are the same whatever the device or the number of threads.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)]
    ).double()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    variance = (weights * (values - mean.unsqueeze(1)).square()).sum(1)
    return mean, variance.sqrt()
