#!/usr/bin/env python3
"""Test Theorems 4 and 5 in one dimension: gradient descent and GD-SALR at a sharp well beside a flat one.

f(θ) = a θ²/2 − A exp(−(θ − c)²/2w²) has a flat well at 0, and a sharp well near c on its slope with the
minimum θ*. δ is a quarter of the sharp well's width w, and μ is the least curvature within δ of θ*. At θ*, GD
is stable up to η0 = 2/f″(θ*).

1. Theorem 4: started at a distance D from θ* with η0 = (2 + ε)/μ, the iterates leave the ball of radius δ
   within log(δ/D) / log(1 + ε) steps. This is the bound of Theorem 5 as well: its proof needs
   Ŝ ≥ (2 + ε)/(η0 μ) · (n1 + n2) L0 γ, and every Ŝ ≤ (n1 + n2) L0 γ, so that its assumptions hold for no
   η0 < (2 + ε)/μ.
2. Smaller η0: which runs leave the sharp well. GD-SALR leaves it if it comes from a flat region, because the
   median remembers the small Ŝ there. Started near θ* with η0 < 2/f″(θ*), it has measured nothing flatter,
   and its rate falls with the gradient. GD need not leave the well at rates at which it leaves the ball.

The script prints the numbers and writes escape.png, .pdf and .csv. There *steps* are those until the ball is
left in experiment 1, and the median number of iterates in the sharp well in experiment 2.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import LogLocator
from torch import Tensor

from experiments.cli import Parser, start
from salr.optim import SALR
from salr.records import atomic
from salr.reporting.figures import COLOURS, save

SLOPE, DEPTH, WIDTH, CENTER = 0.02, 0.3, 0.2, 2.0
DELTA = WIDTH / 4
RIM = 3.5 * WIDTH  # beyond it the flat well pulls harder
EXAMPLE = 1.3  # the distance from θ* at which the runs in the picture start, in rims
GD, SALR_GD = "GD", "GD-SALR"
GD_INSIDE, SALR_INSIDE = (f"{method}, started near θ*" for method in (GD, SALR_GD))
STYLES = {
    GD: (COLOURS[0], "o-"),
    SALR_GD: (COLOURS[1], "s-"),
    GD_INSIDE: (COLOURS[3], "v--"),
    SALR_INSIDE: (COLOURS[2], "^--"),
}
COLUMNS = ("experiment", "method", "eta0_mu", "starts", "left", "steps", "bound_steps")


def f(theta: Tensor) -> Tensor:
    return SLOPE * theta**2 / 2 - DEPTH * torch.exp(-((theta - CENTER) ** 2) / (2 * WIDTH**2))


def curvature(theta: Tensor) -> Tensor:
    u2 = (theta - CENTER) ** 2 / WIDTH**2
    return SLOPE + DEPTH / WIDTH**2 * (1 - u2) * torch.exp(-u2 / 2)


def sharp_minimum() -> float:
    """Return θ*, by Newton's method."""
    theta = torch.tensor(CENTER, dtype=torch.float64)
    for _ in range(20):
        theta = theta - torch.func.grad(f)(theta) / curvature(theta)
    return float(theta)


MINIMUM = sharp_minimum()
MU = float(curvature(torch.linspace(MINIMUM - DELTA, MINIMUM + DELTA, 1001, dtype=torch.float64)).min())


class Path1D(NamedTuple):
    """A descent: each θ_k, and η_k/η0 of the step from it."""

    thetas: list[float]
    factors: list[float]

    def left(self) -> bool:
        """Return whether it ended in the flat well or on the way to it."""
        return self.thetas[-1] < MINIMUM - RIM

    def steps_in_well(self) -> int:
        """Return how many iterates lie in the sharp well."""
        return sum(abs(theta - MINIMUM) < RIM for theta in self.thetas)

    def steps_in_ball(self) -> int:
        """Return the steps until it first leaves the ball; all of them if it never does."""
        return next(
            (k for k, theta in enumerate(self.thetas) if abs(theta - MINIMUM) > DELTA), len(self.thetas)
        )


def descend(start: float, rate: float, salr: bool, steps: int) -> Path1D:
    """Descend from a start. Ends early beyond the sharp well, or at rest in its minimum.

    Args:
        start: θ_0.
        rate: η0.
        salr: whether SALR scales the rate, measuring at every step.
        steps: at most.
    """
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer: Any = torch.optim.SGD([theta], lr=rate)
    if salr:
        optimizer = SALR(optimizer, interval=1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = f(theta)
        loss.backward()
        return loss

    path = Path1D([start], [])
    for _ in range(steps):
        optimizer.step(closure)
        path.factors.append(float(optimizer.lr_factor) if salr else 1.0)
        path.thetas.append(theta.item())
        if path.left() or abs(path.thetas[-1] - MINIMUM) < 1e-6:
            break
    return path


def theorem_4(epsilons: Sequence[float], distance: float = 1e-3) -> list[dict[str, Any]]:
    """Return the steps to leave the ball from ``distance`` off θ* with η0 = (2 + ε)/μ, and the bound."""
    rows = []
    for epsilon in epsilons:
        bound = math.ceil(math.log(DELTA / distance) / math.log(1 + epsilon))
        for method in (GD_INSIDE, SALR_INSIDE):
            path = descend(
                MINIMUM + distance, (2 + epsilon) / MU, salr=method == SALR_INSIDE, steps=2 * bound
            )
            taken = path.steps_in_ball()
            values = ("theorem 4", method, 2 + epsilon, 1, int(taken < len(path.thetas)), taken, bound)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def race(products: Sequence[float], starts: int) -> list[dict[str, Any]]:
    """Return how many of ``starts`` leave the sharp well at each η0·μ, and how many iterates lay in it."""
    slope = [MINIMUM + RIM * (1.1 + 0.4 * i / starts) for i in range(starts)]
    inside = [MINIMUM + DELTA * (2 * (i + 0.5) / starts - 1) for i in range(starts)]
    rows = []
    for product in products:
        for method in STYLES:
            places = slope if method in (GD, SALR_GD) else inside
            salr, steps = method in (SALR_GD, SALR_INSIDE), int(300 + 200 / product)
            paths = [descend(place, product / MU, salr, steps) for place in places]
            gone = [path.steps_in_well() for path in paths if path.left()]
            values = ("race", method, product, starts, len(gone), median(gone) if gone else "", "")
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def draw(rows: Sequence[dict[str, Any]], product: float, path: Path) -> None:
    """Draw two descents with η0 = ``product``/μ, the shares of the race, and the bound of Theorem 4."""
    figure, ((top, share), (rate, bound)) = plt.subplots(2, 2, figsize=(11, 7.6), layout="constrained")
    start, eta = MINIMUM + EXAMPLE * RIM, product / MU
    runs = {method: descend(start, eta, method != GD, steps=400) for method in (GD, SALR_GD)}
    _draw_landscape(top, runs)
    for method, run in runs.items():
        colour, style = STYLES[method]
        rate.plot(
            [eta * factor for factor in run.factors],
            style,
            color=colour,
            markersize=3,
            linewidth=1,
            label=method,
        )
    rate.axhline(2 / MU, color="grey", linestyle=":", label="2/μ, Theorem 4's threshold")
    rate.set(xlabel="iteration k", ylabel="η_k", yscale="log", title=f"Learning rates, η0 = {product}/μ")
    for method, (colour, style) in STYLES.items():
        raced = [row for row in rows if row["experiment"] == "race" and row["method"] == method]
        shares = [100 * row["left"] / row["starts"] for row in raced]
        share.plot([row["eta0_mu"] for row in raced], shares, style, color=colour, markersize=5, label=method)
    stable = 2 * MU / float(curvature(torch.tensor(MINIMUM)))
    share.axvline(stable, ymax=0.7, color="grey", linestyle=":", label="η0 = 2/f″(θ*)")
    share.set(
        xlabel="η0 · μ",
        ylabel="starts that end in the flat well (%)",
        xscale="log",
        title="Which runs leave the sharp well",
    )
    ticks = [row["eta0_mu"] for row in raced]
    share.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    share.set_xticks([], minor=True)
    share.set_yticks(range(0, 101, 20))
    share.set_ylim(-5, 145)  # leaves space for the legend
    for method in (GD_INSIDE, SALR_INSIDE):
        colour, style = STYLES[method]
        taken = [row for row in rows if row["experiment"] == "theorem 4" and row["method"] == method]
        epsilons = [row["eta0_mu"] - 2 for row in taken]
        steps = [row["steps"] for row in taken]
        bound.plot(epsilons, steps, style[0], color=colour, markersize=5, label=method)
    bound.plot(
        epsilons,
        [row["bound_steps"] for row in taken],
        color="grey",
        label="bound: log(δ/D) / log(1 + ε), rounded up",
    )
    bound.set(
        xlabel="ε",
        ylabel="steps until the ball is left",
        xscale="log",
        title="Theorem 4: η0 = (2 + ε)/μ, from near θ*",
    )
    bound.set(yscale="log", xticks=epsilons, xticklabels=[f"{epsilon:g}" for epsilon in epsilons])
    bound.set_xticks([], minor=True)
    for axis in (rate.yaxis, bound.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    for axes in (top, rate, share, bound):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9, **({"ncols": 2, "loc": "upper left"} if axes is share else {}))
    save(figure, path)


def _draw_landscape(axes: Any, runs: dict[str, Path1D]) -> None:
    thetas = torch.linspace(-0.6, 3, 800, dtype=torch.float64)
    axes.plot(thetas, f(thetas), color="black", linewidth=1.4)
    axes.axvspan(MINIMUM - DELTA, MINIMUM + DELTA, color="grey", alpha=0.2, label="within δ of θ*")
    for method, run in runs.items():
        colour, style = STYLES[method]
        points = torch.tensor(run.thetas, dtype=torch.float64)
        axes.plot(
            points,
            f(points),
            style[0],
            color=colour,
            markersize=5,
            alpha=0.7,
            label=f"{method}: {len(points) - 1} steps",
        )
        axes.annotate(
            "",
            (points[-1], f(points[-1])),
            (points[-2], f(points[-2])),
            arrowprops={"arrowstyle": "->", "color": colour},
        )
    axes.set(xlabel="θ", ylabel="f(θ)", title="A sharp well beside a flat one")


def show(rows: Sequence[dict[str, Any]]) -> None:
    stable = 2 / float(curvature(torch.tensor(MINIMUM)))
    print(f"θ* = {MINIMUM:.6f}, δ = {DELTA}, μ = {MU:.4f}, 2/μ = {2 / MU:.4f}, 2/f″(θ*) = {stable:.4f}\n")
    print(f"{'':10} {'method':24} {'η0·μ':>6} {'left':>7} {'steps':>6} {'bound':>6}")
    for row in rows:
        steps, bound = (f"{row[name]:.4g}" if row[name] != "" else "" for name in COLUMNS[-2:])
        left = f"{row['left']}/{row['starts']}"
        print(
            f"{row['experiment']:10} {row['method']:24} {row['eta0_mu']:6.2f} {left:>7} {steps:>6} {bound:>6}"
        )


def main(
    arguments: Sequence[str],
    epsilons: Sequence[float] = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
    products: Sequence[float] = (0.25, 0.4, 0.6, 0.8, 1.0, 1.4, 1.8, 2.5, 4.0, 8.0),
    starts: int = 12,
) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("results/figures"), metavar="DIR", help="default %(default)s"
    )
    path = parser.parse_args(arguments).output / "escape"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = theorem_4(epsilons) + race(products, starts)
    show(rows)
    atomic.write_csv(path.with_suffix(".csv"), COLUMNS, (row.values() for row in rows))
    draw(rows, 1.0, path)
    print(f"\nThe picture: {path}.png, .pdf; the numbers: {path}.csv")
    return 0


if __name__ == "__main__":
    start(main)
