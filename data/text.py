"""Text as token streams on the device, and the batches cut out of them."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from data.base import Batch

EVALUATION_SEGMENT = 1000


class Corpus(NamedTuple):
    """A text as read, on the CPU: three (n,) int64 tensors of tokens from 0 to `vocabulary` - 1, in reading order.

    `fingerprint`: the sha256 of the bytes that all three were made of.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    vocabulary: int
    fingerprint: str


class TextData:
    """A corpus on `device`: `batch_size` parallel streams for training, one stream for each evaluation.

    The training tokens are cut into `batch_size` equal streams side by side (a rest shorter than `batch_size` is dropped), and
    iteration i holds steps i * sequence_length to (i + 1) * sequence_length of all of them: a recurrent state carried from batch
    to batch reads on where it stopped.

    Raises ValueError for a batch size or sequence length that the training tokens do not fill once.
    """

    unit = "tokens"
    input_shape = ()

    def __init__(
        self, corpus: Corpus, device: torch.device, *, batch_size: int, sequence_length: int
    ) -> None:
        if batch_size < 1 or sequence_length < 1:
            raise ValueError(
                f"batch_size={batch_size}, sequence_length={sequence_length}: expected at least 1 each"
            )
        length = len(corpus.train) // batch_size
        # The last token of a stream is only ever a target.
        self.iterations = (length - 1) // sequence_length
        if self.iterations < 1:
            raise ValueError(
                f"batch_size={batch_size} streams of at least sequence_length={sequence_length} + 1 tokens: "
                f"more than the {len(corpus.train):,} training tokens"
            )
        self.outputs = corpus.vocabulary
        self.count = batch_size * sequence_length
        self.fingerprint = corpus.fingerprint
        self._splits = {
            "train": corpus.train.to(device),
            "validation": corpus.validation.to(device),
            "test": corpus.test.to(device),
        }
        streams = self._splits["train"][: batch_size * length].view(batch_size, length)
        steps = self.iterations * sequence_length
        self._inputs, self._targets = (
            part.reshape(batch_size, self.iterations, sequence_length).transpose(0, 1).contiguous()
            for part in (streams[:, :steps], streams[:, 1 : steps + 1])
        )

    def batches(self, order: Generator, augmentation: Generator, passes: int = 1) -> Iterator[Batch]:
        """`passes * iterations` training batches (batch_size, sequence_length); `restart` on the first of every pass.

        A stream has one order: neither generator is used.
        """
        for _ in range(passes):
            for iteration in range(self.iterations):
                yield Batch(self._inputs[iteration], self._targets[iteration], restart=iteration == 0)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """The split ("train", "validation" or "test") as one sequential stream: batches (1, 1000), the last one shorter.

        Every token but the first is a target once. The segments are longer than in training for speed: the state is carried
        across them, so that their length does not change the result of a network in evaluation mode.
        """
        if split not in self._splits:
            raise ValueError(f"split {split!r}: expected one of {', '.join(self._splits)}")
        tokens = self._splits[split].unsqueeze(0)
        segments = zip(
            tokens[:, :-1].split(EVALUATION_SEGMENT, 1),
            tokens[:, 1:].split(EVALUATION_SEGMENT, 1),
            strict=True,
        )
        return (
            Batch(inputs, targets, restart=index == 0) for index, (inputs, targets) in enumerate(segments)
        )
