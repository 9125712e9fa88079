"""Runs at a stated fraction of the paper's budget, one seed a method, which no table shows."""

from dataclasses import dataclass
from pathlib import Path

from reference_words import Table

from experiments.schema.compose import load
from salr.records import load_runs
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS

CELLS = {
    ("cifar10", "resnet44"): ("test_accuracy", METRICS["accuracy_percent"]),
    ("war_and_peace", "lstm_char"): ("test_perplexity", METRICS["perplexity"]),
}
"""By data set and network: the column of the result, and the metric."""

HEAD = ("network, data", "method", "of the budget", "epochs", "gradient calls", "result", "seeds", "device")


@dataclass(frozen=True)
class Slice:
    """The runs of a method in one cell."""

    place: str
    method: str
    share: float
    epochs: int
    calls: int
    result: str
    seeds: int
    device: str


def slices(results: Path) -> list[Slice]:
    """Return what is kept of the cells, method by method."""
    runs, _ = load_runs(results)
    found = []
    for (dataset, network), (column, metric) in CELLS.items():
        chosen = runs[(runs.dataset == dataset) & (runs.model == network) & (runs.state == "finished")]
        if chosen.empty:
            continue
        whole = load([f"dataset={dataset}", f"model={network}"]).dataset.budget
        for (optimizer, budget), group in chosen.groupby(["optimizer", "config.dataset.budget"], sort=False):
            first = group.iloc[0]
            value = f"{group[column].mean():.{metric.digits}f}"
            found.append(
                Slice(
                    f"{network}, {dataset}",
                    name_of(optimizer),
                    float(budget) / whole,
                    int(first.epochs),
                    int(first.gradient_calls),
                    f"{metric.label} {value}",
                    len(group),
                    first["made_by.device"],
                )
            )
    return found


def table(found: list[Slice]) -> Table:
    """Return the slices for people."""
    return HEAD, [
        (
            each.place,
            each.method,
            f"{100 * each.share:.3g} %",
            str(each.epochs),
            f"{each.calls:,}",
            each.result,
            str(each.seeds),
            each.device,
        )
        for each in found
    ]
