"""Training on text: the recipes, and the carried state in every gradient that an optimizer takes."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.text import TextData
from salr.training import LanguageModelling, Parts
from tests.helpers.data import CPU
from tests.helpers.text import (
    RECIPES,
    VOCABULARY,
    Plain,
    clip_norm,
    clip_value,
    corpus,
    parts_of,
    same,
    text,
    train,
    without_evaluation,
)

BASES = {"ptb": "sgd", "war_and_peace": "adam"}
each_recipe = pytest.mark.parametrize("dataset", RECIPES)


def plain_of(dataset: str, parts: Parts, most: float) -> Plain:
    clip = clip_norm if dataset == "ptb" else clip_value
    return Plain(copy.deepcopy(parts.model), dataset == "ptb", lambda gradients: clip(gradients, most))


def clipping(dataset: str, most: float) -> str:
    return f"dataset.recipe.{'clip_norm' if dataset == 'ptb' else 'clip_value'}={most}"


def stepped(network: nn.Module, changes: list[Tensor], factor: float) -> None:
    with torch.no_grad():
        for parameter, change in zip(network.parameters(), changes, strict=True):
            parameter.add_(change, alpha=factor)


# The loss and its gradient


@each_recipe
def test_the_loss_is_summed_over_the_steps_only_for_ptb(dataset: str) -> None:
    data = text(batch_size=3, sequence_length=5)
    parts, _ = parts_of(dataset, BASES[dataset], data)
    batch = next(data.batches(*[torch.Generator()] * 2))
    expected, _, _ = plain_of(dataset, parts, math.inf)(batch.inputs, batch.targets, None)
    torch.testing.assert_close(parts.task.loss(parts.model, batch), expected, check_stride=False)
    nats = float(expected) / (5 if dataset == "ptb" else 1)
    assert nats == pytest.approx(math.log(VOCABULARY), rel=0.2)


def test_ptb_steps_by_the_clipped_gradient_of_the_sum() -> None:
    """Three iterations of SGD by hand, with gradients longer and shorter than 10."""
    data = text(iterations=3, sequence_length=12)
    larger = ["model.init=0.5"]
    parts, _ = parts_of("ptb", "sgd", data, *larger)
    plain, state = plain_of("ptb", parts, 10.0), None
    for batch in data.batches(*[torch.Generator()] * 2):
        _, gradients, state = plain(batch.inputs, batch.targets, state)
        stepped(plain.network, gradients, -1.0)
    assert min(plain.norms) < 10 < max(plain.norms)
    trained = train("ptb", "sgd", data, *larger, "trainer.epochs=1")
    for parameter, expected in zip(trained.parameters, plain.network.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected.detach())


@pytest.mark.parametrize(
    "optimizer",
    ["sgd_salr", "entropy_sgd", "entropy_sgd_salr", "sam", "smoothout", "sgd_salr_released", "swa"],
)
@each_recipe
def test_the_gradients_of_the_steps_are_clipped(dataset: str, optimizer: str) -> None:
    """One for each iteration or inner step. Measurements and SAM's ascent see theirs as they are."""
    most, taken = 0.05, []

    def spy(parts: Parts) -> None:
        clip = parts.task.clip
        assert clip is not None

        def watched(parameters: list[Tensor]) -> None:
            assert len(parameters) == len(list(parts.model.parameters()))
            clip(parameters)
            values = torch.cat([parameter.grad.flatten() for parameter in parameters])
            taken.append(float(values.norm() if dataset == "ptb" else values.abs().max()))

        parts.task.clip = watched

    rows = train(dataset, optimizer, text(), clipping(dataset, most), "trainer.epochs=1", change=spy).rows
    inner_steps = 5 if optimizer.startswith("entropy") else 1
    assert len(taken) == rows[-1]["iteration"] * inner_steps
    assert max(taken) == pytest.approx(most, rel=1e-4)


@each_recipe
def test_a_measurement_is_definition_1_with_gradients_that_are_not_clipped(dataset: str) -> None:
    """Plain loops, in which every evaluation starts from the state that the second batch starts from."""
    most, gamma = 0.02, 0.05
    data = text(iterations=2)
    options = [
        f"optimizer.salr.gamma={gamma}",
        "optimizer.salr.interval=1",
        clipping(dataset, most),
        "trainer.epochs=1",
    ]
    optimizer = f"{BASES[dataset]}_salr"
    first, second = data.batches(*[torch.Generator()] * 2)
    # A base that stands still leaves the parameters of the second measurement those of the first.
    still = "optimizer.base.lr=1e-30"
    plain = plain_of(dataset, parts_of(dataset, optimizer, data, *options)[0], math.inf)
    _, _, state = plain(first.inputs, first.targets, None)

    def after(steps: int, size: float) -> float:
        moved = Plain(copy.deepcopy(plain.network), plain.summed, plain.clip)
        for _ in range(steps):
            _, gradients, _ = moved(second.inputs, second.targets, state)
            norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
            stepped(moved.network, gradients, size / norm)
        return float(moved(second.inputs, second.targets, state)[0])

    expected = after(5, gamma) - after(5, -gamma)
    iterations = train(dataset, optimizer, data, *options, still).iterations
    assert iterations is not None
    assert iterations["sharpness"][1] == pytest.approx(expected, rel=1e-4)


@each_recipe
def test_langevin_steps_read_on_and_clip(dataset: str) -> None:
    """An epoch of entropy_sgd by plain loops: 2 iterations of 3 steps, each step on the next segment."""
    most, steps, data = 0.05, 3, text(iterations=2)
    options = [
        "optimizer.local_entropy.steps=3",
        "optimizer.local_entropy.noise=0",
        clipping(dataset, most),
        "trainer.epochs=1",
    ]
    plain = plain_of(dataset, parts_of(dataset, "entropy_sgd", data, *options)[0], most)
    network, state = plain.network, None
    segments = iter([*data.batches(*[torch.Generator()] * 2)] * steps)
    for iteration in range(2):
        start = [parameter.detach().clone() for parameter in network.parameters()]
        mean, velocity = [x.clone() for x in start], [torch.zeros_like(x) for x in start]
        scope = 0.03 * 1.001**iteration
        for _ in range(steps):
            segment = next(segments)
            _, gradients, state = plain(segment.inputs, segment.targets, None if segment.restart else state)
            velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
            present = [parameter.detach() for parameter in network.parameters()]
            change = [
                g + 0.9 * v + scope * (x - x0)
                for g, v, x, x0 in zip(gradients, velocity, present, start, strict=True)
            ]
            stepped(network, change, -0.1)
            mean = [
                0.75 * m + 0.25 * parameter.detach()
                for m, parameter in zip(mean, network.parameters(), strict=True)
            ]
        with torch.no_grad():
            for parameter, average in zip(network.parameters(), mean, strict=True):
                parameter.copy_(average)  # x - 1 (x - mean)
    trained = train(dataset, "entropy_sgd", data, *options)
    for parameter, expected in zip(trained.parameters, network.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected.detach())


# Rates and budgets


def test_ptb_s_rate_falls_from_the_16th_epoch_on() -> None:
    rates = [row["lr"] for row in train("ptb", "sgd", text(iterations=1, rest=3), "trainer.epochs=17").rows]
    assert rates == pytest.approx([1.0] * 15 + [1 / 1.15, 1 / 1.15**2])


def test_war_and_peace_s_rate_is_halved_every_5_epochs() -> None:
    rates = [
        row["lr"]
        for row in train("war_and_peace", "adam", text(iterations=1, rest=3), "trainer.epochs=11").rows
    ]
    assert rates == pytest.approx([2e-3] * 5 + [1e-3] * 5 + [5e-4])


@pytest.mark.parametrize(
    ("dataset", "optimizer", "epochs", "rate"),
    [
        ("ptb", "sgd", 55, 1.0),
        ("ptb", "swa", 55, 1.0),
        ("ptb", "entropy_sgd", 11, 1.0),
        ("ptb", "sgd_salr", 11, 1.0),
        ("war_and_peace", "adam", 50, 2e-3),
        ("war_and_peace", "swa_adam", 50, 2e-3),
        ("war_and_peace", "entropy_adam", 10, 2e-3),
        ("war_and_peace", "adam_salr", 10, 2e-3),
    ],
)
def test_budgets_and_initial_rates(dataset: str, optimizer: str, epochs: int, rate: float) -> None:
    """SALR starts from the baseline's rate and keeps it; only its factor changes."""
    parts, number = parts_of(dataset, optimizer, text())
    assert (number, parts.base_rates) == (epochs, [rate])
    last = parts.schedule(number - 1, 0.0)
    assert (last == 1) == (optimizer in ("entropy_sgd", "sgd_salr", "entropy_adam", "adam_salr"))


# The carried state


@each_recipe
def test_a_measured_iteration_changes_only_what_the_base_changes(dataset: str) -> None:
    """Until the second measurement the factor is 1, and SALR is its base, bit for bit."""
    base = BASES[dataset]
    options, data = ["model.dropout=0.5", "trainer.epochs=1"], text(iterations=2)
    plain, measured = (
        train(dataset, name, data, *options, change=without_evaluation) for name in (base, f"{base}_salr")
    )
    assert same(measured.parameters, plain.parameters)
    assert same(list(measured.parts.model.buffers()), list(plain.parts.model.buffers()))
    assert plain.parts.model.hidden_state.shape == (2, 2, 6)
    assert torch.equal(measured.generator, plain.generator)
    assert measured.rows[-1]["train_loss"] == plain.rows[-1]["train_loss"]
    assert (measured.rows[-1]["gradient_calls"], plain.rows[-1]["gradient_calls"]) == (10, 2)


@each_recipe
def test_all_evaluations_of_a_measurement_start_alike(dataset: str) -> None:
    options = ["model.dropout=0.5", "optimizer.salr.interval=1", "trainer.epochs=1"]
    calls = train(
        dataset, f"{BASES[dataset]}_salr", text(iterations=2), *options, change=without_evaluation
    ).calls
    assert len(calls.tokens) == 2 * 11  # 9 gradients and 2 losses each
    for evaluations in (slice(0, 11), slice(11, 22)):
        assert len({str(tokens) for tokens in calls.tokens[evaluations]}) == 1
        assert len({str(state) for state in calls.entered[evaluations]}) == 1
        assert len({str(masks) for masks in calls.masks[evaluations]}) == 1
    assert calls.entered[0].shape[1] == 0
    # What enters the second iteration is what the first one's training gradient has left.
    assert torch.equal(calls.entered[11], calls.left[0])
    assert str(calls.masks[0]) != str(calls.masks[11])


def test_fresh_masks_are_an_option() -> None:
    options = ["model.dropout=0.5", "optimizer.salr.shared_noise=false", "trainer.epochs=1"]
    calls = train("ptb", "sgd_salr", text(iterations=1), *options, change=without_evaluation).calls
    assert len({str(masks) for masks in calls.masks}) == 11


@pytest.mark.parametrize(("optimizer", "passes"), [("entropy_adam", 5), ("adam", 1)])
def test_an_epoch_reads_the_stream_on_and_starts_each_pass_afresh(optimizer: str, passes: int) -> None:
    data = text(iterations=3)
    calls = train("war_and_peace", optimizer, data, "trainer.epochs=2").calls
    segments = [batch.inputs for batch in data.batches(*[torch.Generator()] * 2)]
    assert same(calls.tokens, segments * passes * 2)
    for number, (entered, left) in enumerate(zip(calls.entered[1:], calls.left[:-1], strict=True), start=1):
        if number % 3 == 0:
            assert entered.shape[1] == 0
        else:
            assert torch.equal(entered, left)


@each_recipe
def test_evaluation_leaves_nothing_in_training(dataset: str) -> None:
    options, data = ["model.dropout=0.5", "trainer.epochs=3"], text()
    evaluated = train(dataset, BASES[dataset], data, *options)
    alone = train(dataset, BASES[dataset], data, *options, change=without_evaluation)
    assert same(evaluated.parameters, alone.parameters)
    assert [row["train_loss"] for row in evaluated.rows] == [row["train_loss"] for row in alone.rows]
    assert evaluated.parts.model.hidden_state.shape[1] == 0


# What is reported


def test_the_test_is_one_stream_and_counts_every_target_once() -> None:
    """Token by token, over more than one of the segments that an evaluation reads."""
    data = TextData(corpus(rest=1030), CPU, batch_size=2, sequence_length=4)
    parts, _ = parts_of("ptb", "sgd", data, "model.dropout=0.5", "model.init=0.9")
    batches = list(data.evaluation("test"))
    tokens = [int(batches[0].inputs[0, 0]), *(int(token) for batch in batches for token in batch.targets[0])]
    network: Any = copy.deepcopy(parts.model).eval()
    total = 0.0
    with torch.no_grad():
        for token, following in itertools.pairwise(tokens):
            total -= float(network(torch.tensor([[token]]))[0, 0].double().softmax(0)[following].log())
    assert len(tokens) == 1030
    nats = total / 1029
    expected = {"loss": nats, "bits": nats / 0.6931471805599453, "perplexity": 2.718281828459045**nats}
    assert parts.task.evaluate(parts.model, data.evaluation("test")) == pytest.approx(expected, rel=1e-5)
    assert parts.model.training


def test_metrics_by_hand() -> None:
    """Two lines of known probabilities: 1/2, 1/4 and 1/8, 1/16 make ten bits over four tokens."""

    class Known(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            chosen = torch.tensor([[0.5, 0.25], [0.125, 0.0625]])
            return torch.stack([chosen, 1 - chosen], dim=-1).log()

        def reset_state(self) -> None:
            pass

    class Pair:
        inputs = targets = torch.zeros(2, 2, dtype=torch.int64)
        restart = True

    metrics = LanguageModelling().evaluate(Known(), [Pair()])
    assert metrics == pytest.approx({"loss": 2.5 * math.log(2), "bits": 2.5, "perplexity": 2**2.5})
    assert float(LanguageModelling().loss(Known(), Pair())) == pytest.approx(2.5 * math.log(2))
    assert float(LanguageModelling(sum_steps=True).loss(Known(), Pair())) == pytest.approx(5 * math.log(2))
