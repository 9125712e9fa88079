"""Losses and metrics against sums computed by hand, for batches, sequences and precisions."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from salr.optim import SALR, SAM, LocalEntropy
from salr.training import Classification, LanguageModelling
from tests.helpers.trainer import Points, trainer


class Batch(NamedTuple):
    inputs: Tensor
    targets: Tensor
    restart: bool = False


class Table(nn.Module):
    """Look the logits up in a table."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.training_seen: list[bool] = []
        self.resets = 0

    def reset_state(self) -> None:
        self.resets += 1

    def forward(self, inputs: Tensor) -> Tensor:
        self.training_seen.append(self.training)
        return self.logits[inputs]


LOGITS = [[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(7)]]
# The probabilities of the two classes: 1/2 and 1/2, 3/4 and 1/4, 1/8 and 7/8.


def nats(*probabilities: float) -> float:
    return sum(-math.log(p) for p in probabilities) / len(probabilities)


def test_a_training_loss_is_the_batchs_mean() -> None:
    batch = Batch(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
    assert Classification().loss(Table(LOGITS), batch).item() == pytest.approx(
        nats(1 / 2, 1 / 4, 7 / 8), rel=1e-6
    )


def test_classification_reports_nats_and_percent_over_all_images() -> None:
    """A small last batch counts by its size."""
    batches = [
        Batch(torch.tensor([1, 1, 2]), torch.tensor([0, 1, 1])),
        Batch(torch.tensor([2]), torch.tensor([0])),
    ]
    metrics = Classification().evaluate(Table(LOGITS), iter(batches))
    assert metrics == {"loss": pytest.approx(nats(3 / 4, 1 / 4, 7 / 8, 1 / 8), rel=1e-6), "accuracy": 50.0}


def test_language_modelling_reports_nats_bits_and_perplexity_per_token() -> None:
    batches = [
        Batch(torch.tensor([[1, 2], [0, 2]]), torch.tensor([[0, 1], [1, 1]]), restart=True),
        Batch(torch.tensor([[1]]), torch.tensor([[1]])),
    ]
    model = Table(LOGITS)
    metrics = LanguageModelling().evaluate(model, iter(batches))
    loss = nats(3 / 4, 7 / 8, 1 / 2, 7 / 8, 1 / 4)
    assert metrics == {
        "loss": pytest.approx(loss, rel=1e-6),
        "bits": pytest.approx(loss / math.log(2), rel=1e-6),
        "perplexity": pytest.approx(math.exp(loss), rel=1e-6),
    }
    assert (
        model.resets == 2
    )  # before the stream that asked for it, and after the last, so that training starts anew


def test_a_uniform_guess_costs_the_logarithm_of_the_choices() -> None:
    model = Table([[0.0] * 8])
    metrics = LanguageModelling().evaluate(
        model, [Batch(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long))]
    )
    assert metrics["bits"] == pytest.approx(3, rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(8, rel=1e-5)


def test_a_perplexity_too_large_for_a_float_is_infinite() -> None:
    batch = Batch(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.long))
    assert LanguageModelling().evaluate(Table([[1000.0, 0.0]]), [batch])["perplexity"] == math.inf
    assert math.isnan(LanguageModelling().evaluate(Table([[math.nan, 0.0]]), [batch])["loss"])


def test_summed_steps_are_as_many_times_the_mean() -> None:
    """PTB's recipe sums over 35 steps; its learning rate of 1 belongs to that sum."""
    batch = Batch(torch.tensor([[1, 2, 0], [2, 2, 1]]), torch.tensor([[0, 1, 1], [0, 1, 1]]))
    mean, summed = (LanguageModelling(sum_steps=sums).loss(Table(LOGITS), batch) for sums in (False, True))
    assert mean.item() == pytest.approx(nats(3 / 4, 7 / 8, 1 / 2, 1 / 8, 7 / 8, 1 / 4), rel=1e-6)
    assert summed.item() == pytest.approx(3 * mean.item(), rel=1e-6)
    metrics = (LanguageModelling(sum_steps=sums).evaluate(Table(LOGITS), [batch]) for sums in (False, True))
    assert next(metrics) == next(metrics)  # the reported loss is per token in both cases


def test_evaluating_uses_evaluation_mode_and_leaves_the_mode() -> None:
    batch = Batch(torch.tensor([0]), torch.tensor([0]))
    for training in (True, False):
        model = Table(LOGITS).train(training)
        Classification().evaluate(model, [batch])
        assert model.training_seen == [False]
        assert model.training is training
        assert model.logits.grad is None


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Classification().evaluate(Table(LOGITS), [])


# Clipping.


class Watch:
    """Clip, and keep the norm and the largest element of the result."""

    def __init__(self, clip: partial) -> None:
        self.clip, self.norms, self.largest = clip, [], []

    def __call__(self, parameters: list[Tensor]) -> None:
        self.clip(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.norms.append(torch.nn.utils.get_total_norm(gradients).item())
        self.largest.append(max(gradient.abs().max().item() for gradient in gradients))


OPTIMIZERS = {
    "plain": (lambda base: base, 1),
    "SALR": (SALR, 1),
    "SAM": (SAM, 1),
    "LocalEntropy": (lambda base: LocalEntropy(base, steps=3), 3),
    "SALR(LocalEntropy)": (lambda base: SALR(LocalEntropy(base, steps=3)), 3),
}
"""Each optimizer, and by how many gradients its step moves the parameters. It measures with the others."""


@pytest.mark.parametrize(("wrap", "gradients"), OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize(("clip", "kept"), [(clip_grad_norm_, "norms"), (clip_grad_value_, "largest")])
def test_every_gradient_that_moves_parameters_is_clipped(
    wrap, gradients: int, clip, kept: str, tmp_path
) -> None:
    limit = {"max_norm": 1e-3} if clip is clip_grad_norm_ else {"clip_value": 1e-3}
    watch = Watch(partial(clip, **limit))
    trained = trainer(tmp_path, wrap, epochs=1, task=Classification(clip=watch), batches_per_iteration=3)
    assert trained.train() == "finished"
    assert len(watch.norms) == gradients * Points.iterations
    assert max(getattr(watch, kept)) <= 1e-3 * (1 + 1e-5)
    assert min(getattr(watch, kept)) > 1e-5


def test_a_clipped_step_is_no_longer_than_the_limit(tmp_path) -> None:
    clip = partial(clip_grad_norm_, max_norm=1e-3)
    trained = trainer(tmp_path, epochs=1, lr=1.0, task=Classification(clip=clip))
    before = torch.cat([p.detach().flatten().clone() for p in trained.build().model.parameters()])
    trained.train()
    after = torch.cat([p.detach().flatten() for p in trained.parts.model.parameters()])
    assert 0 < torch.linalg.vector_norm(after - before) <= 1e-3 * Points.iterations * (1 + 1e-4)


# Precision.


@pytest.mark.parametrize("bf16", [False, True])
def test_bf16_computes_in_16_bits_and_evaluates_the_loss_in_32(bf16: bool) -> None:
    task = Classification(bf16=bf16)
    model = task.prepare(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 3)))
    dtypes, layouts = [], []

    def watch(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        dtypes.append(output.dtype)
        layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    batch = Batch(torch.randn(5, 2, 6, 6), torch.tensor([0, 1, 2, 0, 1]))
    handle = model[0].register_forward_hook(watch)
    loss = task.loss(model, batch)
    metrics = task.evaluate(model, [batch])
    handle.remove()
    assert dtypes == [torch.bfloat16 if bf16 else torch.float32] * 2
    assert layouts == [bf16] * 2
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last) is bf16
    assert loss.dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert metrics["loss"] == pytest.approx(Classification().loss(model, batch).item(), rel=3e-2)
