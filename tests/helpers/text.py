"""Shared by the tests of training on text: tiny texts, the recipes on them, plain gradients."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.text import Corpus, TextData
from experiments.build import build_parts
from experiments.schema.compose import load
from salr.records import Run
from salr.training import NoTracker, Parts, Trainer
from tests.helpers.data import CPU

RECIPES = {"ptb": "lstm_ptb_small", "war_and_peace": "lstm_char"}
VOCABULARY = 7


def corpus(train: int = 100, rest: int = 30) -> Corpus:
    """Return texts in which half of the tokens are zeros (easy to learn) and the others count up (harder)."""
    tokens = torch.arange(train + 2 * rest) % VOCABULARY
    tokens[torch.rand(len(tokens)) < 0.5] = 0
    return Corpus(*tokens.split([train, rest, rest]), VOCABULARY)


def text(iterations: int = 3, batch_size: int = 2, sequence_length: int = 4, rest: int = 30) -> TextData:
    train = batch_size * (iterations * sequence_length + 1)
    return TextData(corpus(train, rest), CPU, batch_size=batch_size, sequence_length=sequence_length)


def parts_of(dataset: str, optimizer: str, data: TextData, *overrides: str) -> tuple[Parts, int]:
    """Return the parts that a configuration gives for a tiny network, and its epochs."""
    sizes = ["model.embedding=5", "model.hidden=6"]
    config = load(
        [f"dataset={dataset}", f"model={RECIPES[dataset]}", f"optimizer={optimizer}", *sizes, *overrides]
    )
    return build_parts(config, 0, data, CPU), config.epochs


@dataclass
class Trained:
    """The parts of a run as training left them, its metrics, and the state of the generator."""

    parts: Parts
    rows: list[dict[str, Any]]
    iterations: dict[str, Any] | None
    calls: "Calls"
    generator: Tensor = field(default_factory=torch.get_rng_state)

    @property
    def parameters(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.parts.model.parameters()]


class Calls:
    """The inputs, states and masks of each forward pass in training mode."""

    def __init__(self, network: nn.Module) -> None:
        self.tokens: list[Tensor] = []
        self.entered: list[Tensor] = []  # with the cell state
        self.left: list[Tensor] = []
        self.masks: list[list[Tensor]] = []  # a forward's, by layer
        network.register_forward_pre_hook(self._before)
        network.register_forward_hook(self._after)
        network.dropout.register_forward_hook(self._dropped)  # type: ignore[union-attr]

    def _before(self, network: nn.Module, inputs: tuple[Tensor]) -> None:
        if network.training:
            self.tokens.append(inputs[0])
            self.entered.append(network.cell_state.clone())  # type: ignore[operator]
            self.masks.append([])

    def _after(self, network: nn.Module, _inputs: object, _output: object) -> None:
        if network.training:
            self.left.append(network.cell_state.clone())  # type: ignore[operator]

    def _dropped(self, dropout: nn.Module, _inputs: object, output: Tensor) -> None:
        if dropout.training:
            self.masks[-1].append(output == 0)


def train(
    dataset: str,
    optimizer: str,
    data: TextData,
    *overrides: str,
    change: Callable[[Parts], object] = lambda parts: None,
) -> Trained:
    """Train as train.py does. ``change`` is applied to the parts first."""
    calls: list[Calls] = []

    def build() -> Parts:
        parts, _ = parts_of(dataset, optimizer, data, *overrides)
        change(parts)
        calls.append(Calls(parts.model))
        return parts

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), dataset, "tiny", optimizer, "0", 0)
        number = parts_of(dataset, optimizer, data, *overrides)[1]
        trainer = Trainer(run, number, build, {}, NoTracker(), lambda event: None)
        trainer.train()
        return Trained(trainer.parts, run.read_metrics(), run.read_json("iterations.json"), calls[-1])


def without_evaluation(parts: Parts) -> None:
    """Evaluate nothing, so that the state of the model stays as training left it."""
    parts.splits = ()


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def clip_norm(gradients: list[Tensor], most: float) -> list[Tensor]:
    norm = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    return [gradient * min(1.0, most / norm) for gradient in gradients]


def clip_value(gradients: list[Tensor], most: float) -> list[Tensor]:
    return [gradient.clamp(-most, most) for gradient in gradients]


class Plain:
    """The training loss and its clipped gradient in plain loops. The state is an argument and a result."""

    def __init__(
        self, network: nn.Module, summed: bool, clip: Callable[[list[Tensor]], list[Tensor]]
    ) -> None:
        self.network, self.summed, self.clip = network, summed, clip
        self.norms: list[float] = []

    def __call__(self, inputs: Tensor, targets: Tensor, state: tuple[Tensor, Tensor] | None) -> Any:
        """Return loss, clipped gradients and the new state."""
        network: Any = self.network
        network.reset_state()
        if state is not None:
            network.hidden_state, network.cell_state = state
        probabilities = network(inputs).softmax(-1)
        loss = torch.tensor(0.0)
        for line, following in zip(probabilities, targets, strict=True):
            for step, target in zip(line, following, strict=True):
                loss = loss - step[target].log()
        loss = loss / (inputs.shape[0] if self.summed else inputs.numel())
        gradients = list(torch.autograd.grad(loss, list(network.parameters())))
        self.norms.append(sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5)
        return loss.detach(), self.clip(gradients), (network.hidden_state, network.cell_state)
