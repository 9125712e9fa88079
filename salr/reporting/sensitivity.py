"""A picture of how much methods depend on their learning rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from salr.reporting.figures import save
from salr.reporting.methods import style_of


@dataclass(frozen=True)
class Point:
    """The accuracies (%) of a method's finished runs at one rate, and how many others diverged."""

    rate: float
    values: tuple[float, ...]
    diverged: int = 0

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


def sensitivity(
    curves: Mapping[str, Sequence[Point]], best: Mapping[str, float], path: Path, title: str
) -> None:
    """Draw the validation error against the base rate, a line per method; bars are the range over the runs.

    A rate at which a run diverged has no error: the line is interrupted, and a cross above the axes marks it.

    Args:
        best: the chosen rate of each method that has one; a ring marks it.
    """
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    for place, (method, points) in enumerate(curves.items()):
        drawn = [point for point in points if point.values or point.diverged]
        if not drawn:
            continue
        style = style_of(method)
        if diverged := [point.rate for point in drawn if point.diverged]:
            axes.plot(
                diverged,
                [1.02 + 0.025 * (len(curves) - 1 - place)] * len(diverged),  # a row per method
                "x",
                color=style.colour,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
        errors = [math.nan if point.diverged else 100 - point.mean for point in drawn]
        lowest = [
            error - (100 - max(point.values, default=math.nan))
            for error, point in zip(errors, drawn, strict=True)
        ]
        highest = [
            100 - min(point.values, default=math.nan) - error
            for error, point in zip(errors, drawn, strict=True)
        ]
        rates = [point.rate for point in drawn]
        axes.errorbar(
            rates,
            errors,
            yerr=[[max(each, 0.0) for each in lowest], [max(each, 0.0) for each in highest]],
            color=style.colour,
            linestyle=style.dash,
            marker=".",
            capsize=2,
            label=style.name,
            linewidth=1.6,
        )
        if best.get(method) in rates:
            chosen = rates.index(best[method])
            axes.plot(rates[chosen], errors[chosen], "o", color=style.colour, fillstyle="none", markersize=11)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sorted({point.rate for points in curves.values() for point in points}), minor=False)
    axes.set(xlabel="base learning rate η0", ylabel="validation error (%)")
    axes.grid(alpha=0.25, which="both")
    if any(point.diverged for points in curves.values() for point in points):
        axes.plot([], [], "x", color="grey", label="a run diverged")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    save(figure, path)
