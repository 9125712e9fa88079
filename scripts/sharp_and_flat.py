#!/usr/bin/env python3
"""Show which measures distinguish a sharp minimum from a flat one: the ratio of each measure, sharp to flat.

1. Two quadratics with the eigenvalues 1, 10, 100, and the same divided by 100: at the minimum, near it (at a
   tenth of nγ, the length of Definition 1's chains), and away from it, at equal distance, loss and gradient.
2. Two networks of one architecture on the same data, from the same weights. Full-batch gradient descent at a
   rate η ends where the top eigenvalue is below 2/η, so the larger rate finds the flatter minimum. They are
   compared at equal training losses, from away to at the minimum.

The first row, the top eigenvalue, says how sharp they really are. A measure with a ratio of 1 does not
distinguish them. "none" is a measure that is 0 or negative there. Writes sharp_and_flat.csv.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from experiments.cli import Parser, start
from salr.records import atomic
from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    ReleasedMeasure,
    SAMSharpness,
    ball_sharpness,
    box_sharpness,
    hessian_eigenvalues,
    hessian_trace,
)

Closure = Callable[[], Tensor]
Measured = Callable[[Closure, list[Tensor]], float]

CURVATURES = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
RATIO = 100.0
MOST_STEPS = 20_000
REACH = 0.01  # nγ, how far Definition 1 goes with the paper's values
MEASURES: dict[str, Measured] = {
    "top eigenvalue of ∇²f": lambda f, at: float(hessian_eigenvalues(f, at)[0]),
    "trace of ∇²f": lambda f, at: hessian_trace(f, at, samples=100).mean,
    "Definition 1, n1 = n2 = 5": lambda f, at: float(AscentDescent()(f, at)),
    "Definition 1, ascent only, n2 = 5": lambda f, at: float(AscentDescent(descent_steps=0)(f, at)),
    "gradient norm": lambda f, at: float(GradientNorm()(f, at)),
    "curvature along the gradient": lambda f, at: float(DirectionalCurvature()(f, at)),
    "SAM's rise, ρ = 0.05": lambda f, at: float(SAMSharpness()(f, at)),
    "equation 2, ε = 0.01": lambda f, at: float(ball_sharpness(f, at, REACH)),
    "equation 1, ε = 0.01": lambda f, at: float(ball_sharpness(f, at, REACH, two_sided=False)),
    "Keskar's φ, ε = 5e-4": lambda f, at: float(box_sharpness(f, at)),
    "the released code's": lambda f, at: float(ReleasedMeasure()(f, at)),
}

Ratios = dict[str, dict[str, float]]
"""By place and measure."""


def quadratics() -> Ratios:
    """Return the ratios between the two quadratics."""
    direction = torch.tensor([0.6, 0.48, 0.64], dtype=torch.float64)  # of length 1
    equal_loss, equal_gradient = math.sqrt(RATIO), RATIO  # how much farther the flat one's point is
    places = {
        "at the minimum": (0.0, 0.0),
        "near it": (REACH / 10, REACH / 10),
        "away, equal distance": (1.0, 1.0),
        "away, equal loss": (1.0, equal_loss),
        "away, equal gradient": (1.0, equal_gradient),
    }
    ratios: Ratios = {}
    for place, (sharp_distance, flat_distance) in places.items():
        pair = [
            _quadratic(CURVATURES, sharp_distance * direction),
            _quadratic(CURVATURES / RATIO, flat_distance * direction),
        ]
        ratios[place] = _ratios(pair)
    return ratios


def _quadratic(curvatures: Tensor, point: Tensor) -> tuple[Closure, list[Tensor]]:
    theta = point.clone().requires_grad_()
    return lambda: (curvatures * theta.square()).sum() / 2, [theta]


class Network:
    """A small network that full-batch gradient descent trains. It starts where the loss is sharp."""

    def __init__(self, rate: float, hidden: int = 40, examples: int = 40) -> None:
        torch.manual_seed(0)
        self.rate = rate
        first, last = nn.Linear(8, hidden, bias=False), nn.Linear(hidden, 1, bias=False)
        with torch.no_grad():
            last.weight.mul_(8)
        self.model = nn.Sequential(first, nn.Tanh(), last).double()
        self.inputs = torch.randn(examples, 8, dtype=torch.float64)
        self.targets = torch.sign(self.inputs[:, :1] * self.inputs[:, 1:2])
        self.parameters: list[Tensor] = list(self.model.parameters())

    def loss(self) -> Tensor:
        return mse_loss(self.model(self.inputs), self.targets)

    def train_to(self, loss: float) -> None:
        """Descend until the loss is at most ``loss``. Raise ``RuntimeError`` if that takes too long."""
        optimizer = torch.optim.SGD(self.parameters, lr=self.rate)
        for _ in range(MOST_STEPS):
            optimizer.zero_grad()
            present = self.loss()
            if float(present.detach()) <= loss:
                return
            present.backward()
            optimizer.step()
        raise RuntimeError(f"the network has not reached a loss of {loss:g} at the rate {self.rate:g}")


def networks(rates: Sequence[float], losses: Sequence[float]) -> Ratios:
    """Return the ratios between two networks at each of the losses, largest first."""
    pair = [Network(rate) for rate in rates]
    ratios: Ratios = {}
    for loss in losses:
        for network in pair:
            network.train_to(loss)
            top = MEASURES["top eigenvalue of ∇²f"](network.loss, network.parameters)
            norm = float(GradientNorm()(network.loss, network.parameters))
            print(
                f"network at η = {network.rate:g} (2/η = {2 / network.rate:g}): "
                f"loss {loss:g}, top eigenvalue {top:.4g}, ‖∇f‖ {norm:.3g}"
            )
        ratios[f"networks, loss {loss:g}"] = _ratios([(each.loss, each.parameters) for each in pair])
    return ratios


def _ratios(pair: Sequence[tuple[Closure, list[Tensor]]]) -> dict[str, float]:
    return {name: _quotient(*(measure(*each) for each in pair)) for name, measure in MEASURES.items()}


def _quotient(sharp: float, flat: float) -> float:
    """Return sharp / flat; NaN if a value is not positive, which says nothing about sharpness."""
    return sharp / flat if sharp > 0 and flat > 0 else math.nan


def table(ratios: Ratios) -> str:
    """Return the ratios as Markdown."""
    lines = [["measure", *ratios], ["---", *("---:" for _ in ratios)]]
    for name in MEASURES:
        cells = [ratios[place][name] for place in ratios]
        lines.append([name, *("none" if math.isnan(value) else f"{value:.3g}" for value in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    arguments: Sequence[str],
    rates: Sequence[float] = (0.05, 0.08),
    losses: Sequence[float] = (1e-1, 1e-5, 1e-9),
) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("results/figures"), metavar="DIR", help="default %(default)s"
    )
    path = parser.parse_args(arguments).output / "sharp_and_flat.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    ratios = quadratics() | networks(rates, losses)
    print(f"\n{table(ratios)}\n")
    rows = ([name, *(f"{ratios[place][name]:.6g}" for place in ratios)] for name in MEASURES)
    atomic.write_csv(path, ["measure", *ratios], rows)
    print(f"The numbers: {path}")
    return 0


if __name__ == "__main__":
    start(main)
