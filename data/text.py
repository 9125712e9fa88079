"""Text as token streams on the device, and the batches that are cut out of them."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from data.base import Batch
from salr.costs import text_batches

EVALUATION_SEGMENT = 1000


class Corpus(NamedTuple):
    """A text as read from its files, on the CPU.

    Attributes:
        train: Tokens (n,), int64, from 0 to ``vocabulary`` - 1, in reading order.
        validation: Likewise.
        test: Likewise.
        vocabulary: How many different tokens there are.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    vocabulary: int


class TextData:
    """A corpus on the device: parallel streams for training, one stream for each evaluation.

    The training tokens are cut into ``batch_size`` equal streams; a rest shorter than ``batch_size`` is
    dropped. Batch i has the steps i * ``sequence_length`` to (i + 1) * ``sequence_length`` of all streams: a
    recurrent state that is carried from batch to batch continues where it stopped. The last steps of each
    stream, fewer than ``sequence_length``, are dropped as well.

    Args:
        corpus: The text.
        device: Where it is kept.
        batch_size: How many streams there are.
        sequence_length: Steps per batch.

    Attributes:
        input_shape: ``()``.
        outputs: The vocabulary.
        iterations: Batches per epoch.

    Raises:
        ValueError: The training tokens are too few for one batch.
    """

    input_shape = ()

    def __init__(
        self, corpus: Corpus, device: torch.device, *, batch_size: int, sequence_length: int
    ) -> None:
        if batch_size < 1 or sequence_length < 1:
            raise ValueError(
                f"batch_size={batch_size}, sequence_length={sequence_length}: expected at least 1 each"
            )
        self.iterations = text_batches(len(corpus.train), batch_size, sequence_length)
        if self.iterations < 1:
            raise ValueError(
                f"batch_size={batch_size} streams of at least sequence_length={sequence_length} + 1 tokens: "
                f"more than the {len(corpus.train):,} training tokens"
            )
        self.outputs = corpus.vocabulary
        self._splits = {
            "train": corpus.train.to(device),
            "validation": corpus.validation.to(device),
            "test": corpus.test.to(device),
        }
        length = len(corpus.train) // batch_size
        streams = self._splits["train"][: batch_size * length].view(batch_size, length)
        steps = self.iterations * sequence_length
        self._inputs, self._targets = (
            part.reshape(batch_size, self.iterations, sequence_length).transpose(0, 1).contiguous()
            for part in (streams[:, :steps], streams[:, 1 : steps + 1])
        )

    def batches(self, order: Generator, augmentation: Generator, passes: int = 1) -> Iterator[Batch]:
        """Yield ``passes * iterations`` training batches (batch_size, sequence_length).

        ``restart`` is set on the first batch of each pass. A stream has one order: the generators are not
        used.
        """
        for _ in range(passes):
            for iteration in range(self.iterations):
                yield Batch(self._inputs[iteration], self._targets[iteration], restart=iteration == 0)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Return a whole split as one sequential stream: batches (1, 1000), the last one shorter.

        Every token except the first is a target once. The segments are longer than in training for speed. The
        state is carried across them, so that their length does not change the result.

        Raises:
            ValueError: ``split`` is not ``"train"``, ``"validation"`` or ``"test"``.
        """
        if split not in self._splits:
            raise ValueError(f"split {split!r}: expected one of {', '.join(self._splits)}")
        tokens = self._splits[split].unsqueeze(0)
        inputs = tokens[:, :-1].split(EVALUATION_SEGMENT, 1)
        targets = tokens[:, 1:].split(EVALUATION_SEGMENT, 1)
        return (
            Batch(some, following, restart=index == 0)
            for index, (some, following) in enumerate(zip(inputs, targets, strict=True))
        )
