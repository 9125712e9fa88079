"""The question of the project in a few lines: do sharpness-aware learning rates help?"""

from collections.abc import Sequence
from pathlib import Path

from reference_words import Row, place, read_rows, seeds

from experiments.study.flatness import two_digits
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS, Metric
from salr.reporting.statistics import MIN_SEEDS

SALR, SGD = "sgd_salr", "sgd"

SHARPNESS = ("ascent_descent", "keskar_train_percent", "sam", "hessian_top")
"""Columns of the study's ratios that measure sharpness."""


def answer(results: Path) -> str:
    """Return what is measured with enough seeds of SGD-SALR beside SGD, a line per finding."""
    lines = [*_at_the_papers_rates(results), *_at_the_chosen_rates(results), *_sharpness(results)]
    if not lines:
        return "Not enough is measured yet to say whether sharpness-aware learning rates help."
    return "\n".join(
        [
            "Do sharpness-aware learning rates help? What is measured so far:\n",
            *lines,
        ]
    )


def _at_the_papers_rates(results: Path) -> list[str]:
    lines = []
    for path in sorted((results / "tables").glob("table[0-9]_differences.csv")):
        table = read_rows(path.with_name(f"{path.stem.removesuffix('_differences')}.csv"))
        cells = {(place(row), row["method"]): row for row in table}
        for row in read_rows(path):
            if (row["method"], row["against"]) == (SALR, SGD) and int(row["n"]) >= MIN_SEEDS:
                first, second = (cells[place(row), method] for method in (SALR, SGD))
                metric = METRICS[first["metric"]]
                published = float(first["published_mean"]) - float(second["published_mean"])
                gap = _gap(float(row["difference"]), metric)
                lines.append(
                    f"- {place(row)}, at the paper's rates and equal gradient calls: {gap} "
                    f"({seeds(row['n'])}; after correction: {row['outcome']}). "
                    f"In the paper it is {_by(published, metric)}."
                )
    return lines


def _at_the_chosen_rates(results: Path) -> list[str]:
    rows = [row for row in _rows(results / "study" / "methods.csv") if row["difference"]]
    rows = [row for row in rows if int(row["seeds_compared"]) >= MIN_SEEDS]
    lines = [
        "- In the study, each at the rate that was best on held-out data, at equal gradient calls: "
        f"{_gap(float(row['difference']), METRICS['accuracy_percent'])} "
        f"({seeds(row['seeds_compared'])}; after correction: {row['outcome']})."
        for row in rows
        if row["method"] == SALR
    ]
    if rows:
        better = [row["name"] for row in rows if row["outcome"] == "better"]
        words = f"shown to be better: {', '.join(better)}" if better else "none is shown to be better"
        lines.append(f"- Of {len(rows)} methods that the study compares with SGD, {words}.")
    return lines


def _sharpness(results: Path) -> list[str]:
    rows = [row for row in _rows(results / "study" / "ratios.csv") if row["first"] == name_of(SALR)]
    return [
        f"- SGD-SALR's final weights beside those of “{row['against']}”: {_sharper(row)}; the training loss "
        f"is {two_digits(float(row['train_loss']))} times as large ({seeds(row['n'])})."
        for row in rows
        if min(int(row[f"{name}_n"]) for name in ("train_loss", *SHARPNESS)) >= MIN_SEEDS
    ]


def _sharper(row: Row) -> str:
    """Return by how many measures the interval of the ratio lies above and below 1."""
    above = sum(float(row[f"{name}_low_95"]) > 1 for name in SHARPNESS)
    below = sum(float(row[f"{name}_high_95"]) < 1 for name in SHARPNESS)
    return f"sharper by {above} of {len(SHARPNESS)} measures, flatter by {below}"


def _gap(size: float, metric: Metric) -> str:
    label = metric.label.partition(" (")[0]
    return f"SGD-SALR's mean {label} is {_by(size, metric)} than SGD's"


def _by(size: float, metric: Metric) -> str:
    """Return how much lower or higher a mean is."""
    return f"{metric.difference(f'{abs(size):.3g}')} {'lower' if size < 0 else 'higher'}"


def _rows(path: Path) -> Sequence[Row]:
    return read_rows(path) if path.exists() else []
