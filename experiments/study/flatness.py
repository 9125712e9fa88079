"""How flat the solutions of the full runs are, and whether flatness goes with the test error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salr.records import Run
from salr.reporting.cells import Cell
from salr.reporting.methods import name_of
from salr.reporting.sheets import Sheet
from salr.reporting.statistics import RankCorrelation, estimate, rank_correlation

MEASURES = {
    "ascent_descent": ("Definition 1", "ascent_descent"),
    "keskar_train_percent": ("Keskar's φ (%)", "keskar_train"),
    "sam": ("SAM's, ρ = 0.05", "sam"),
    "hessian_top": ("top eigenvalue of the Hessian", "hessian_top"),
}
"""By entry of ``sharpness.json``: its title, and the name of the measure."""

NOTES = (
    "At the final weights, or SWA's averaged ones, in evaluation mode and float32. Definition 1 (γ = 0.002, "
    "n = 5) and SAM's on the training set, Keskar's φ (ε = 5e-4) and the Hessian on its first 10,000 images.",
    "Scaling the weights of a layer that batch normalisation follows changes all of these numbers, and not "
    "the function (Dinh et al. 2017). Methods that end with larger weights look flatter.",
    "Spearman's ρ with the test error, over all runs and over the means of the methods. The runs of a method "
    "are alike, so that the interval over runs is too narrow.",
)


@dataclass(frozen=True)
class Measured:
    """A finished run: its method, its test error in percent, and what its final weights were measured for."""

    method: str
    error: float
    values: Mapping[str, float]


def flatness(cells: Mapping[str, Cell], examples: Mapping[str, int | None]) -> list[Sheet]:
    """Return a table of the measures by method, and one of their rank correlations with the test error.

    Args:
        cells: the full runs by method.
        examples: by measure, the number of images; a value that was measured on others does not count.
    """
    runs = [each for method, cell in cells.items() for each in _measured(method, cell, examples)]
    return [_by_method(list(cells), runs), _correlations(runs)]


def _measured(method: str, cell: Cell, examples: Mapping[str, int | None]) -> list[Measured]:
    finished = [run for run in cell.wanted.runs if run.seed in cell.values]
    return [Measured(method, 100 - cell.values[run.seed], _values(run, examples)) for run in finished]


def _values(run: Run, examples: Mapping[str, int | None]) -> dict[str, float]:
    record = run.read_json("sharpness.json") or {"measured": {}}
    return {
        entry: float(record[entry])
        for entry, (_, name) in MEASURES.items()
        if name in record["measured"] and record["measured"][name]["examples"] == examples[name]
    }


def _by_method(methods: Sequence[str], runs: Sequence[Measured]) -> Sheet:
    rows, texts = [], []
    for method in methods:
        of_method = [run for run in runs if run.method == method and run.values]
        row: dict[str, object] = {"method": method, "n": len(of_method)}
        text = [name_of(method), str(len(of_method))]
        error = estimate([run.error for run in of_method])
        columns = {"test_error": error}
        for entry in MEASURES:
            columns[entry] = estimate([run.values[entry] for run in of_method if entry in run.values])
        for name, value in columns.items():
            row |= {name: value.mean, f"{name}_std": value.std, f"{name}_n": value.n}
            spread = "" if math.isnan(value.std) else f" ({value.std:.2g})"
            number = "" if value.n == len(of_method) else f" n={value.n}"
            text.append(f"{value.mean:.3g}{spread}{number}" if value.n else "not measured")
        rows.append(row)
        texts.append(tuple(text))
    head = ("method", "n", "test error (%)", *(title for title, _ in MEASURES.values()))
    title = "Flatness of what each method finds, mean (standard deviation) over runs"
    return Sheet("flatness", title, tuple(rows), head, tuple(texts), NOTES[:2])


def _correlations(runs: Sequence[Measured]) -> Sheet:
    rows, texts = [], []
    for entry, (title, _) in MEASURES.items():
        pairs = [(run.values[entry], run.error, run.method) for run in runs if entry in run.values]
        over_runs = rank_correlation([value for value, _, _ in pairs], [error for _, error, _ in pairs])
        means = []
        for method in dict.fromkeys(method for _, _, method in pairs):
            of_method = [(value, error) for value, error, each in pairs if each == method]
            means.append([math.fsum(column) / len(of_method) for column in zip(*of_method, strict=True)])
        over_methods = rank_correlation([value for value, _ in means], [error for _, error in means])
        row: dict[str, object] = {"measure": entry}
        for name, each in (("runs", over_runs), ("methods", over_methods)):
            row |= {f"rho_{name}": each.rho, f"low_{name}": each.low, f"high_{name}": each.high, name: each.n}
        rows.append(row)
        texts.append((title, _text(over_runs), _text(over_methods)))
    title = "Does flatness go with the test error? Rank correlation [95 %]"
    return Sheet(
        "correlation", title, tuple(rows), ("measure", "over runs", "over methods"), tuple(texts), NOTES[2:]
    )


def _text(each: RankCorrelation) -> str:
    if math.isnan(each.rho):
        return "not measured"
    interval = "" if math.isnan(each.low) else f" [{each.low:+.2f}, {each.high:+.2f}]"
    return f"{each.rho:+.2f}{interval}, n = {each.n}"
