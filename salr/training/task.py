"""What is learnt: the loss that is minimised and the metrics that are reported."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Batch(Protocol):
    """Inputs and targets on the device; ``restart``: a carried state is to be forgotten before this batch."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def restart(self) -> bool: ...


class Task:
    """Classification of each input, or of each position of a sequence.

    Args:
        bf16: forward passes run under bfloat16 autocast, and images are laid out channels_last.
        language: targets are (B, T) tokens and the state is carried; metrics are bits and perplexity instead of accuracy.
        sum_steps: the training loss is summed over the T steps and averaged over the batch (Zaremba et al. 2014).
        clip: changes the parameters' gradients in place after each backward pass, in every gradient an optimizer takes.
    """

    def __init__(
        self,
        bf16: bool = False,
        language: bool = False,
        sum_steps: bool = False,
        clip: Callable[[list[Tensor]], object] | None = None,
    ) -> None:
        self.bf16, self.language, self.sum_steps, self.clip = bf16, language, sum_steps, clip

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model laid out in memory as the precision wants it."""
        if self.bf16 and not self.language:
            return model.to(memory_format=torch.channels_last)
        return model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The training loss, a mean over the batch, 0-d."""
        logits, targets = self._forward(model, batch)
        scale = batch.targets.shape[1] if self.sum_steps else 1
        return cross_entropy(logits, targets) * scale

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Means over all targets: ``loss`` in nats, and ``accuracy`` in percent or ``bits`` a token and ``perplexity``.

        The model is in evaluation mode meanwhile, and afterwards in its former mode and without a carried state.
        """
        training = model.training
        model.eval()
        losses, hits, count = [], [], 0
        for batch in batches:
            if batch.restart:
                model.reset_state()  # type: ignore[operator]
            logits, targets = self._forward(model, batch)
            losses.append(cross_entropy(logits, targets, reduction="sum"))
            if not self.language:
                hits.append((logits.argmax(1) == targets).sum())
            count += targets.numel()
        model.train(training)
        if self.language:
            model.reset_state()  # type: ignore[operator]  # what has been read here is not the training's past
        if not count:
            raise ValueError("there is nothing to evaluate on: the split is empty")
        # One transfer at the end, and a sum in double precision.
        loss_mean = float(torch.stack(losses).cpu().double().sum()) / count
        if self.language:
            perplexity = math.exp(loss_mean) if loss_mean < 700 else math.inf
            return {"loss": loss_mean, "bits": loss_mean / math.log(2), "perplexity": perplexity}
        return {"loss": loss_mean, "accuracy": 100 * int(torch.stack(hits).sum()) / count}

    def forward(self, model: nn.Module, batch: Batch) -> None:
        """A pass for what it changes in the model: batch statistics, a carried state."""
        if batch.restart:
            model.reset_state()  # type: ignore[operator]
        self._forward(model, batch)

    def _forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) in at least float32, and targets (N)."""
        inputs = batch.inputs
        if self.bf16 and inputs.dim() == 4:
            inputs = inputs.to(memory_format=torch.channels_last)
        with self._autocast(inputs.device):
            logits: Tensor = model(inputs)
        if self.bf16:
            logits = logits.float()
        return (logits.flatten(0, 1), batch.targets.flatten()) if self.language else (logits, batch.targets)

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)
