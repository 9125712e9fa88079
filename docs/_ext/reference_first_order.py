"""First-order SALR beside SALR, from the runs that are kept: the same rate, and as many iterations."""

from pathlib import Path

import pandas as pd

from salr.records import load_runs
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import difference, estimate

ACCURACY = METRICS["accuracy_percent"]

PAPERS = {"gamma": 0.002, "descent_steps": 5, "ascent_steps": 5, "interval": 2, "shared_noise": True}
"""Values by which a run of SALR is the paper's, and not a variant."""

SAME = [
    "dataset",
    "model",
    "config.optimizer.base.lr",
    "config.dataset.batch_size",
    "config.dataset.validation",
    "config.trainer.precision",
    "epochs",
]
"""Columns in which the two must agree."""

HEAD = ("network, data", "η0", "epochs", "SALR", "first-order SALR", "difference [95 %]", "seeds")

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""A head and the rows below it."""


def compared(results: Path) -> Table:
    """Return test accuracies of both methods over the seeds that both have, a row per cell."""
    runs, _ = load_runs(results)
    if "config.optimizer.salr.gamma" not in runs or "test_accuracy" not in runs:
        return HEAD, []
    finished = runs[runs.state == "finished"]
    papers = pd.concat([finished[f"config.optimizer.salr.{name}"] == PAPERS[name] for name in PAPERS], axis=1)
    exact = finished[(finished.optimizer == "sgd_salr") & papers.all(axis=1)]
    first = finished[finished.optimizer == "sgd_salr_first_order"]
    pairs = exact.merge(first, on=[*SAME, "seed"], suffixes=("_exact", "_first"))
    rows = []
    for (dataset, network, rate, _, _, _, epochs), group in pairs.groupby(SAME, sort=True):
        by_seed = {
            side: dict(zip(group.seed, group[f"test_accuracy_{side}"], strict=True))
            for side in ("exact", "first")
        }
        gap = difference(by_seed["first"], by_seed["exact"], ACCURACY.resolution)
        interval = f" [{_signed(gap.low)}, {_signed(gap.high)}]" if gap.n > 1 else ""
        rows.append(
            (
                f"{network}, {dataset}",
                f"{rate:g}",
                f"{epochs:g}",
                *(_mean(by_seed[side]) for side in ("exact", "first")),
                _signed(gap.mean) + interval,
                str(gap.n),
            )
        )
    return HEAD, rows


def _mean(by_seed: dict[int, float]) -> str:
    values = estimate(list(by_seed.values()))
    return f"{values.mean:.2f}" + (f" ({values.std:.2f})" if values.n > 1 else "")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00")
