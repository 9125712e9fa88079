"""What a network learns: the loss that training minimises and the metrics that an evaluation reports."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Clip = Callable[[list[Tensor]], object]
"""Clip the gradients of these parameters in place."""


class Batch(Protocol):
    """Inputs and targets on the device. ``restart``: the model forgets its carried state first."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def restart(self) -> bool: ...


def reset_if_asked(model: nn.Module, batch: Batch) -> None:
    """Reset the carried state of the model if the batch asks for it."""
    if batch.restart:
        model.reset_state()  # type: ignore[operator]


class Task(ABC):
    """What :class:`Classification` and :class:`LanguageModelling` share.

    Args:
        bf16: run forward passes under bfloat16 autocast. The loss is always computed in float32.
        clip: clip every gradient that moves the parameters, with every optimizer. Measurements see gradients
            as they are.
    """

    unit: ClassVar[str]
    """What a target is, in the plural: the trainer reports how many it reads per second."""

    def __init__(self, bf16: bool = False, clip: Clip | None = None) -> None:
        self.bf16, self.clip = bf16, clip

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model in the memory layout that suits the precision."""
        return model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss, 0-d: a mean over the batch."""
        return cross_entropy(*self._logits(model, batch))

    def forward(self, model: nn.Module, batch: Batch) -> None:
        """Run a forward pass only for its side effects on the model: batch statistics and carried state."""
        reset_if_asked(model, batch)
        self._logits(model, batch)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the metrics over all targets of the batches.

        The model is evaluated in evaluation mode. Its former mode is restored afterwards.

        Raises:
            ValueError: there is no batch.
        """
        training = model.training
        model.eval()
        collected, count = [], 0
        for batch in batches:
            reset_if_asked(model, batch)
            logits, targets = self._logits(model, batch)
            collected.append(self._sums(logits, targets))
            count += targets.numel()
        model.train(training)
        if not count:
            raise ValueError("there is nothing to evaluate on: the split is empty")
        # The device is read once per metric, after the last batch; the sums are in double precision.
        sums = [float(torch.stack(values).cpu().double().sum()) for values in zip(*collected, strict=True)]
        return self._metrics(sums, count)

    @abstractmethod
    def _logits(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (N, classes), in float32 or wider, and targets (N)."""

    @abstractmethod
    def _sums(self, logits: Tensor, targets: Tensor) -> list[Tensor]:
        """Return what an evaluation adds up over its batches, each 0-d."""

    @abstractmethod
    def _metrics(self, sums: list[float], count: int) -> dict[str, float]:
        """Return the metrics, given the sums over ``count`` targets."""

    def _run(self, model: nn.Module, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = model(inputs)
        return logits.float() if self.bf16 else logits


class Classification(Task):
    """Classify images. An evaluation reports ``loss`` in nats and ``accuracy`` in percent.

    With ``bf16``, images and weights are laid out channels_last.
    """

    unit = "images"

    def prepare(self, model: nn.Module) -> nn.Module:
        return model.to(memory_format=torch.channels_last) if self.bf16 else model

    def _logits(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = batch.inputs
        if self.bf16 and inputs.dim() == 4:
            inputs = inputs.to(memory_format=torch.channels_last)
        return self._run(model, inputs), batch.targets

    def _sums(self, logits: Tensor, targets: Tensor) -> list[Tensor]:
        return [cross_entropy(logits, targets, reduction="sum"), (logits.argmax(1) == targets).sum()]

    def _metrics(self, sums: list[float], count: int) -> dict[str, float]:
        loss, hits = sums
        return {"loss": loss / count, "accuracy": 100 * hits / count}


class LanguageModelling(Task):
    """Predict each next token of a text. The model carries its state from batch to batch.

    Inputs and targets are tokens (B, T). An evaluation reports per token: ``loss`` in nats, ``bits``, and
    ``perplexity``.

    Args:
        bf16, clip: see :class:`Task`.
        sum_steps: sum the training loss over the T steps, and average it over B only (Zaremba et al. 2014).
    """

    unit = "tokens"

    def __init__(self, bf16: bool = False, sum_steps: bool = False, clip: Clip | None = None) -> None:
        super().__init__(bf16, clip)
        self.sum_steps = sum_steps

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = super().loss(model, batch)
        return loss * batch.targets.shape[1] if self.sum_steps else loss

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        metrics = super().evaluate(model, batches)
        model.reset_state()  # type: ignore[operator]  # training does not continue the text of an evaluation
        return metrics

    def _logits(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._run(model, batch.inputs).flatten(0, 1), batch.targets.flatten()

    def _sums(self, logits: Tensor, targets: Tensor) -> list[Tensor]:
        return [cross_entropy(logits, targets, reduction="sum")]

    def _metrics(self, sums: list[float], count: int) -> dict[str, float]:
        loss = sums[0] / count
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"loss": loss, "bits": loss / math.log(2), "perplexity": perplexity}
