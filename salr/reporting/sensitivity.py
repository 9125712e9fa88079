"""A picture of how much methods depend on their learning rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from salr.reporting.figures import save
from salr.reporting.methods import style_of


@dataclass(frozen=True)
class Point:
    """The accuracies (%) of a method's runs at one rate; none if it diverged or is not measured."""

    rate: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


def sensitivity(
    curves: Mapping[str, Sequence[Point]], best: Mapping[str, float], path: Path, title: str
) -> None:
    """Draw the validation error against the base rate, a line per method; bars are the range over the runs.

    Args:
        best: the chosen rate of each method that has one; a ring marks it.
    """
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    for method, points in curves.items():
        drawn = [point for point in points if point.values]
        if not drawn:
            continue
        style = style_of(method)
        errors = [100 - point.mean for point in drawn]
        lowest = [error - (100 - max(point.values)) for error, point in zip(errors, drawn, strict=True)]
        highest = [100 - min(point.values) - error for error, point in zip(errors, drawn, strict=True)]
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
            place = rates.index(best[method])
            axes.plot(rates[place], errors[place], "o", color=style.colour, fillstyle="none", markersize=11)
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sorted({point.rate for points in curves.values() for point in points}), minor=False)
    axes.set(xlabel="base learning rate η0", ylabel="validation error (%)")
    axes.grid(alpha=0.25, which="both")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    save(figure, path)
