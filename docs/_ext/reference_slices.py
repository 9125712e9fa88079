"""Runs at a stated fraction of the paper's budget, one seed a method, which no table shows."""

from pathlib import Path

from reference_words import Table

from experiments.schema.compose import load
from salr.records import load_runs
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS

CELLS = {
    ("cifar10", "resnet44"): ("test_accuracy", METRICS["accuracy_percent"]),
    ("war_and_peace", "lstm_char"): ("test_loss", METRICS["nats"]),
}
"""By data set and network: the column of the result, and the metric."""

HEAD = ("network, data", "method", "of the budget", "epochs", "gradient calls", "result", "seeds", "device")


def table(results: Path) -> Table:
    """Return what is kept of the cells, a row per method; no row if nothing is."""
    runs, _ = load_runs(results)
    rows = []
    for (dataset, network), (column, metric) in CELLS.items():
        chosen = runs[(runs.dataset == dataset) & (runs.model == network) & (runs.state == "finished")]
        if chosen.empty:
            continue
        whole = load([f"dataset={dataset}", f"model={network}"]).dataset.budget
        for (optimizer, budget), group in chosen.groupby(["optimizer", "config.dataset.budget"], sort=False):
            first = group.iloc[0]
            rows.append(
                (
                    f"{network}, {dataset}",
                    name_of(optimizer),
                    f"{100 * float(budget) / whole:.3g} %",
                    str(int(first.epochs)),
                    f"{int(first.gradient_calls):,}",
                    f"{metric.label} {group[column].mean():.{metric.digits}f}",
                    str(len(group)),
                    first["made_by.device"],
                )
            )
    return HEAD, rows
