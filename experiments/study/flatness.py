"""How flat the solutions are, and whether flatness goes with the test error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salr.records import Run
from salr.reporting.cells import Cell
from salr.reporting.sheets import Sheet
from salr.reporting.statistics import (
    NO_DIFFERENCE,
    Difference,
    RankCorrelation,
    difference,
    estimate,
    rank_correlation,
)

LOSS = "train_loss"

MEASURES = {
    LOSS: ("training loss", "train_loss"),
    "ascent_descent": ("Definition 1", "ascent_descent"),
    "keskar_train_percent": ("Keskar's φ (%)", "keskar_train"),
    "sam": ("SAM's, ρ = 0.05", "sam"),
    "hessian_top": ("top eigenvalue of the Hessian", "hessian_top"),
}
"""By entry of ``sharpness.json``: its title, and the name of the measure."""

FLATNESS_NOTES = (
    "All measures fall with the loss: where the network is sure of every training image, cross entropy has "
    "hardly a gradient or a curvature. At equal gradient calls SALR takes a fifth of SGD's iterations. SGD "
    "with a fifth of the calls and SGD at SALR's mean factor take as many iterations as SALR.",
    "Scaling the weights of a layer that batch normalisation follows changes all of these numbers, and not "
    "the function (Dinh et al. 2017). Methods that end with larger weights look flatter.",
)
RATIOS_NOTE = (
    "The ratio of the geometric means, paired over seeds, and its interval by Student's t on the logarithms. "
    "Above 1, the first is sharper, or its loss is larger. The intervals are not corrected for the number of "
    "ratios. A ratio of values that are not all positive is not defined."
)
CORRELATION_NOTE = (
    "Spearman's ρ with the test error, over all runs and over the means of the cells. The runs of a cell are "
    "alike, so that the interval over runs is too narrow. Given the training loss: the partial correlation, "
    "which is what a measure says of the test error beyond what the training loss says."
)


@dataclass(frozen=True)
class Measured:
    """A finished run: its cell, its test error in percent, and what its final weights were measured for."""

    cell: str
    seed: int
    error: float
    values: Mapping[str, float]


def flatness(
    cells: Mapping[str, Cell], pairs: Sequence[tuple[str, str]], examples: Mapping[str, int | None]
) -> list[Sheet]:
    """Return tables of the measures by cell, of their ratios, and of their correlations with the test error.

    Args:
        cells: those whose runs are measured, by name.
        pairs: the names of cells whose sharpness is divided by that of another one.
        examples: by measure, the number of images; a value that was measured on others does not count.
    """
    runs = [each for name, cell in cells.items() for each in _measured(name, cell, examples)]
    return [_by_cell(list(cells), runs, examples), _ratios(pairs, runs), _correlations(runs)]


def _measured(name: str, cell: Cell, examples: Mapping[str, int | None]) -> list[Measured]:
    finished = [run for run in cell.wanted.runs if run.seed in cell.values]
    return [Measured(name, run.seed, 100 - cell.values[run.seed], _values(run, examples)) for run in finished]


def _values(run: Run, examples: Mapping[str, int | None]) -> dict[str, float]:
    record = run.read_json("sharpness.json") or {"measured": {}}
    return {
        entry: float(record[entry])
        for entry, (_, name) in MEASURES.items()
        if name in record["measured"] and record["measured"][name]["examples"] == examples[name]
    }


def _weights(examples: Mapping[str, int | None]) -> str:
    """Return at which weights and on how many images the measures are taken."""
    titles: dict[int | None, list[str]] = {}
    for title, name in MEASURES.values():
        titles.setdefault(examples[name], []).append(title)
    parts = (
        f"on {'all' if number is None else f'the first {number:,}'} training images {', '.join(of_number)}"
        for number, of_number in titles.items()
    )
    return (
        "At the final weights, or SWA's averaged ones, in evaluation mode and float32: "
        f"{'; '.join(parts)}. In Definition 1 γ = 0.002 and n = 5, in Keskar's φ ε = 5e-4."
    )


def _by_cell(names: Sequence[str], runs: Sequence[Measured], examples: Mapping[str, int | None]) -> Sheet:
    rows, texts = [], []
    for name in names:
        of_cell = [run for run in runs if run.cell == name and run.values]
        row: dict[str, object] = {"name": name, "n": len(of_cell)}
        text = [name, str(len(of_cell))]
        error = estimate([run.error for run in of_cell])
        columns = {"test_error": error}
        for entry in MEASURES:
            columns[entry] = estimate([run.values[entry] for run in of_cell if entry in run.values])
        for column, value in columns.items():
            row |= {column: value.mean, f"{column}_std": value.std, f"{column}_n": value.n}
            spread = "" if math.isnan(value.std) else f" ({value.std:.2g})"
            number = "" if value.n == len(of_cell) else f" n={value.n}"
            text.append(f"{value.mean:.3g}{spread}{number}" if value.n else "not measured")
        rows.append(row)
        texts.append(tuple(text))
    head = ("cell", "n", "test error (%)", *(title for title, _ in MEASURES.values()))
    title = "Flatness at the end of training, mean (standard deviation) over runs"
    return Sheet("flatness", title, tuple(rows), head, tuple(texts), (_weights(examples), *FLATNESS_NOTES))


def _ratios(pairs: Sequence[tuple[str, str]], runs: Sequence[Measured]) -> Sheet:
    rows, texts = [], []
    for pair in pairs:
        first, against = ([run for run in runs if run.cell == name and run.values] for name in pair)
        shared = {run.seed for run in first} & {run.seed for run in against}
        row: dict[str, object] = {"first": pair[0], "against": pair[1], "n": len(shared)}
        text = [f"{pair[0]} / {pair[1]}"]
        for entry in MEASURES:
            sides = [
                {run.seed: run.values[entry] for run in side if entry in run.values}
                for side in (first, against)
            ]
            ratio = _ratio(*sides)
            row |= {
                entry: _exponential(ratio.mean),
                f"{entry}_low_95": _exponential(ratio.low),
                f"{entry}_high_95": _exponential(ratio.high),
                f"{entry}_n": ratio.n,
            }
            text.append(_ratio_text(ratio, min(map(len, sides))))
        rows.append(row)
        texts.append(tuple(text))
    head = ("ratio", *(title for title, _ in MEASURES.values()))
    return Sheet(
        "ratios", "Sharper or flatter? Ratio [95 %]", tuple(rows), head, tuple(texts), (RATIOS_NOTE,)
    )


def _ratio(first: Mapping[int, float], against: Mapping[int, float]) -> Difference:
    """Return the difference of the logarithms; none if a value is not positive."""
    if min([*first.values(), *against.values()], default=0.0) <= 0:
        return NO_DIFFERENCE
    return difference(_logarithms(first), _logarithms(against))


def _logarithms(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log(value) for seed, value in values.items()}


def _exponential(value: float) -> float:
    return math.inf if value > 700 else math.exp(value)  # math.exp raises where a float ends


def _ratio_text(ratio: Difference, n: int) -> str:
    if not n:
        return "not measured"
    if not ratio.n:
        return f"not defined, n = {n}"
    mean, low, high = (two_digits(_exponential(each)) for each in (ratio.mean, ratio.low, ratio.high))
    return f"{mean}{'' if ratio.n < 2 else f' [{low}, {high}]'}, n = {ratio.n}"


def two_digits(value: float) -> str:
    """Return a number with two significant digits, such as 140 for 136."""
    return f"{float(f'{value:.2g}'):g}"


def _correlations(runs: Sequence[Measured]) -> Sheet:
    rows, texts = [], []
    for entry, (title, _) in MEASURES.items():
        pairs = [(run.values[entry], run.error, run.cell) for run in runs if entry in run.values]
        over_runs = rank_correlation([value for value, _, _ in pairs], [error for _, error, _ in pairs])
        means = []
        for name in dict.fromkeys(name for _, _, name in pairs):
            of_cell = [(value, error) for value, error, each in pairs if each == name]
            means.append([math.fsum(column) / len(of_cell) for column in zip(*of_cell, strict=True)])
        over_cells = rank_correlation([value for value, _ in means], [error for _, error in means])
        beside = [] if entry == LOSS else [run for run in runs if {entry, LOSS} <= run.values.keys()]
        over_given = rank_correlation(
            [run.values[entry] for run in beside],
            [run.error for run in beside],
            [run.values[LOSS] for run in beside],
        )
        row: dict[str, object] = {"measure": entry}
        for over, each in (("runs", over_runs), ("cells", over_cells), ("given_loss", over_given)):
            row |= {f"rho_{over}": each.rho, f"low_{over}": each.low, f"high_{over}": each.high, over: each.n}
        rows.append(row)
        given = "–" if entry == LOSS else _text(over_given)
        texts.append((title, _text(over_runs), _text(over_cells), given))
    title = "Does flatness go with the test error? Rank correlation [95 %]"
    return Sheet(
        "correlation",
        title,
        tuple(rows),
        ("measure", "over runs", "over cells", "over runs, given the training loss"),
        tuple(texts),
        (CORRELATION_NOTE,),
    )


def _text(each: RankCorrelation) -> str:
    if math.isnan(each.rho):
        return "not measured"
    interval = "" if math.isnan(each.low) else f" [{each.low:+.2f}, {each.high:+.2f}]"
    return f"{each.rho:+.2f}{interval}, n = {each.n}"
