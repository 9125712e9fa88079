"""What the tables measure: units, directions, resolutions, and differences that are too small to matter."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A printed quantity.

    Attributes:
        label: the quantity and its unit, for axes.
        unit: of a difference, in words; empty if there is none.
        curve: the column of the metrics that is drawn over time; None if it is measured only after training.
        digits: decimals in the tables.
        resolution: the smallest step between values: one of 10,000 test images, or the last printed digit.
        relative: whether a margin is a fraction of the value that is compared with.
    """

    name: str
    label: str
    unit: str
    curve: str | None
    digits: int
    higher_is_better: bool
    resolution: float
    relative: bool

    def difference(self, number: str) -> str:
        """Return a difference with its unit: ``+0.12 percentage points``."""
        return f"{number} {self.unit}" if self.unit else number

    def better(self, difference: float) -> bool:
        """Whether a method that differs by ``difference`` from another one is the better one."""
        return difference > 0 if self.higher_is_better else difference < 0


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy_percent",
            "test accuracy (%)",
            "percentage points",
            "test_accuracy",
            2,
            True,
            0.01,
            False,
        ),
        Metric("perplexity", "test perplexity", "", "test_perplexity", 2, False, 0.01, True),
        Metric("nats", "test loss (nats per character)", "nats", "test_loss", 3, False, 0.001, False),
        Metric("sharpness_1e-3", "sharpness (×10⁻³)", "×\u00a010⁻³", None, 2, False, 0.01, True),
    )
}

MARGINS = {
    "accuracy_percent": 0.1,
    "perplexity": 0.005,
    "nats": 0.005,
    "sharpness_1e-3": 0.1,
}
"""Two methods are equivalent if they differ by less: 0.1 points, 0.5 %, 0.005 nats, 10 %."""


def margin_of(metric: Metric, reference: float, margins: Mapping[str, float]) -> float:
    """Return the margin in the metric's unit, beside a reference value."""
    margin = margins[metric.name]
    return margin * abs(reference) if metric.relative else margin
