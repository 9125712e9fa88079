#!/usr/bin/env python3
"""Draw Figure 3: the paper's three sharpness measures on f(θ) = 0.5 θ sin 3θ + 1, ε = 0.1, n1 = n2 = 8.

The paper gives no γ. Here γ = ε/8, so that the steps together are as long as the radius of the ball. The
script writes figure3.png, .pdf and .csv.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from experiments.cli import Parser, start
from salr.records import atomic
from salr.reporting.figures import COLOURS, save
from salr.sharpness import AscentDescent, ball_sharpness

EPSILON, STEPS = 0.1, 8
THETAS = [i / 80 for i in range(241)]  # up to 3: beyond it f has a minimum below 0, and φ needs f ≥ 0
CHECKED = (0.3, 0.6762526, 1.0, 2.0)


class Point(NamedTuple):
    """f and its sharpness at one θ."""

    theta: float
    f: float
    phi: float
    S: float
    S_hat: float


def measure(theta: float) -> Point:
    """Measure f and its sharpness at one θ, in double precision."""
    parameter = torch.tensor(theta, dtype=torch.float64, requires_grad=True)

    def f() -> Tensor:
        return 0.5 * parameter * torch.sin(3 * parameter) + 1

    phi = ball_sharpness(f, [parameter], EPSILON, two_sided=False)
    two_sided = ball_sharpness(f, [parameter], EPSILON)
    definition_1 = AscentDescent(EPSILON / STEPS, STEPS, STEPS)(f, [parameter])
    return Point(theta, float(f().detach()), float(phi), float(two_sided), float(definition_1))


def draw(points: Sequence[Point], path: Path) -> None:
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7, 6.4), sharex=True, layout="constrained", height_ratios=(1, 1.5)
    )
    theta = [point.theta for point in points]
    top.plot(theta, [point.f for point in points], color="black", linewidth=1.6)
    top.set(ylabel="f(θ)", title="f(θ) = 0.5 θ sin 3θ + 1")
    # S and Ŝ are often equal: S is drawn wide and Ŝ dashed, so that both can be seen.
    bottom.plot(
        theta, [point.phi for point in points], color=COLOURS[0], label="φ(ε, θ), equation 1", linewidth=1.8
    )
    bottom.plot(
        theta, [point.S for point in points], color=COLOURS[4], label="S(ε, θ), equation 2", linewidth=3.5
    )
    bottom.plot(
        theta,
        [point.S_hat for point in points],
        "--",
        color=COLOURS[2],
        label="Ŝ(θ), Definition 1",
        linewidth=1.8,
    )
    bottom.set(xlabel="θ", ylabel="sharpness", title=f"ε = {EPSILON}, n1 = n2 = {STEPS}, γ = ε/{STEPS}")
    bottom.legend(frameon=False)
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
    save(figure, path)


def write(points: Sequence[Point], path: Path) -> None:
    atomic.write_csv(path, Point._fields, ([f"{value:.8g}" for value in point] for point in points))


def main(arguments: Sequence[str], thetas: Sequence[float] = THETAS) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("results/figures"), metavar="DIR", help="default %(default)s"
    )
    path = parser.parse_args(arguments).output / "figure3"
    path.parent.mkdir(parents=True, exist_ok=True)
    print("    θ       f(θ)      φ         S         Ŝ")
    for point in map(measure, CHECKED):
        print(" ".join(f"{value:9.6f}" for value in point))
    points = [measure(theta) for theta in thetas]
    write(points, path.with_suffix(".csv"))
    draw(points, path)
    print(f"Figure 3: {path}.png, .pdf and .csv")
    return 0


if __name__ == "__main__":
    start(main)
