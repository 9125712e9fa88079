"""The study's tables, picture and page, from whatever the records hold. Trains nothing."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.paper.published import TEST_IMAGES
from experiments.records import records_of
from experiments.study.cells import FULL, METRIC, Study, examples_of
from experiments.study.flatness import flatness
from salr.records import State, check_writable
from salr.reporting.cells import Cell, Wanted, measure
from salr.reporting.claims import Claim, Pair
from salr.reporting.comparisons import Comparison, compare
from salr.reporting.methods import name_of
from salr.reporting.metrics import MARGINS
from salr.reporting.page import Maker, made_by
from salr.reporting.published import Published
from salr.reporting.render import COMPARED, compared, measured_text
from salr.reporting.sensitivity import Point, sensitivity
from salr.reporting.sheets import Sheet, sheet_markdown, write_sheets

ACCURACY = "accuracy_percent"
BASELINE = "sgd"
COMPARED_WITH = "sgd_salr"
"""The method whose variants are tried."""

TITLE = "The study: each method at its own best rate"

NOTES = (
    "Every method makes the same number of gradient calls: a method that takes k gradients per iteration "
    "trains for 1/k of the epochs. Evaluations of the loss without a gradient are not counted.",
    "Each method's rate has the highest validation accuracy at the last epoch of phase 1, the mean over its "
    "seeds. Of equal rates the smaller one is chosen, and none at which a run diverged. The test set chooses "
    "nothing. The runs of phase 2 have other seeds and train on the whole training set.",
    "The rate is constant except in step decay and SWA, which follow the paper's recipe. SWA's cycle goes "
    "from a half to a hundredth of the rate, as in the paper. Entropy-SGD's rate is the outer one; its inner "
    "rate is 0.1.",
    "Mean (sample standard deviation) over the n seeds that finished, at the last epoch. The others are "
    "counted in brackets. A run that diverged has no value: nothing is decided in favour of its method. "
    "Differences are paired over seeds. Each table's p-values are corrected by Holm's method over all its "
    "planned comparisons, measured or not; “corrected” is the interval at 95 % for all of them at once "
    "(Bonferroni). It is wider than Holm's test needs, so it may include 0 although p (Holm) is below 5 %.",
    "Equivalent: two one-sided tests, with the margin in brackets. Undecided: neither; that number of seeds "
    "would decide it, one way or the other, with probability 80 % if the measured difference and deviation "
    "are the true ones.",
)


@dataclass(frozen=True)
class Row:
    """A cell of phase 2 as measured; ``name`` is how the tables call it, ``rate`` is None until chosen."""

    name: str
    part: str
    method: str
    rate: float | None
    cell: Cell

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.cell.wanted.published.key


@dataclass(frozen=True)
class Line:
    """A line of a table: a cell, and which cell is compared with which; the first is asked to be better."""

    row: Row
    first: Row | None = None
    against: Row | None = None


def make_report(study: Study, results: Path) -> None:
    """Write the tables and the picture into ``results/study``, the page beside it, and print the tables.

    Raises:
        RecordError: before anything is written.
    """
    check_writable(results)
    stem = "study" if study.preset == "paper" else f"study_{study.preset}"
    rows = {
        (part, method): _row(study, part, method)
        for part, asked in study.plan.parts.items()
        for method in asked.methods
    }
    sheets = _sheets(study, rows)
    picture = results / stem / "sensitivity.png"
    sensitivity(
        {method: _points(study, method) for method in study.plan.methods},
        {method: rate for method in study.plan.methods if (rate := study.best_rate(method)) is not None},
        picture,
        "A fifth of the budget, mean and range over seeds; rings mark the chosen rates",
    )
    about = "Validation error of every method at every rate of phase 1: who is good at one rate only?"
    headline = _headline(study, list(rows.values()))
    page = results / f"{stem}.html"
    made = {**_made_by_search(study), **made_by(row.cell for row in rows.values())}
    write_sheets(sheets, results / stem, page, TITLE, headline, NOTES, {about: picture}, made.values())
    for sheet in sheets:
        print(sheet_markdown(sheet))
    print(f"{headline}\nTables: {results / stem}; page: {page}")


def _made_by_search(study: Study) -> dict[str, Maker]:
    """Return what has made each finished run of phase 1, by the run's folder."""
    made: dict[str, Maker] = {}
    for cell in study.search_cells():
        for run in records_of(cell.config):
            summary = run.read_json("summary.json") if run.state() is State.FINISHED else None
            if summary:
                made[str(run.folder)] = cell.config.trainer.precision.value, summary["made_by"]
    return made


def _sheets(study: Study, rows: dict[tuple[str, str], Row]) -> list[Sheet]:
    full = {method: rows[FULL, method] for method in study.plan.parts[FULL].methods}
    fifth = _of_table(study, rows, "fifth")
    sgd, salr = full[BASELINE], full[COMPARED_WITH]
    against_sgd = [Line(row) if row is sgd else Line(row, row, sgd) for row in full.values()]
    constant = [
        line
        for row in _of_table(study, rows, "factor")
        for factor in [full[str(_factor_of(study, row))]]
        for line in (Line(factor), Line(row, factor, row))
    ]
    as_short = [row for row in rows.values() if row.part != FULL and study.plan.parts[row.part].flatness]
    variants = [Line(row, row, salr) for row in _of_table(study, rows, "variants")]
    batches, lenet = _of_table(study, rows, "batches"), _of_table(study, rows, "lenet")
    usual = [full[method] for method in dict.fromkeys(row.method for row in batches)]
    return [
        _table("methods", "Each method at its own best rate, at equal gradient calls", against_sgd, study),
        _rates(study),
        *(
            _table("fifth", f"{row.name}, against every method at the full budget", lines, study)
            for row in fifth
            for lines in [[Line(row), *(Line(each, row, each) for each in full.values())]]
        ),
        _table(
            "factor", "Does the factor matter? SALR against its mean factor as a constant", constant, study
        ),
        *flatness(
            {row.name: row.cell for row in [*full.values(), *as_short]},
            [
                *((row.name, sgd.name) for row in full.values() if row is not sgd),
                *((salr.name, row.name) for row in as_short),
            ],
            examples_of(study.preset),
        ),
        _table(
            "batches",
            "Large batches, as many epochs as at batch 128, with the rate in proportion to the batch",
            [line for group in _by_part([*usual, *batches]) for line in _against_baseline(group)],
            study,
        ),
        _table("variants", f"Variants of {salr.name}, at its best rate", [Line(salr), *variants], study),
        _table("lenet", "LeNet, at the rates that were chosen for mnistfc", _against_baseline(lenet), study),
    ]


def _of_table(study: Study, rows: dict[tuple[str, str], Row], table: str) -> list[Row]:
    return [row for (part, _), row in rows.items() if study.plan.parts[part].table == table]


def _factor_of(study: Study, row: Row) -> str | None:
    return study.plan.parts[row.part].factor_of


def _by_part(rows: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row.part == part] for part in dict.fromkeys(row.part for row in rows)]


def _against_baseline(rows: Sequence[Row]) -> list[Line]:
    (base,) = (row for row in rows if row.method == BASELINE)
    return [Line(row) if row is base else Line(row, row, base) for row in rows]


def _row(study: Study, part: str, method: str) -> Row:
    """Read the records of a cell of phase 2; there are none until its rate is chosen."""
    asked, planned = study.plan.parts[part], study.cell(part, method)
    shown = planned or study.cell_at(part, method, 1.0)
    config = shown.config
    name = method if part == FULL else f"{name_of(method)}, {asked.about}"
    dataset, network = config.dataset.name, config.model.title
    words = [word for word in shown.overrides if not word.startswith("results=")]
    wanted = Wanted(
        Published(0, dataset, network, name, ACCURACY, math.nan, math.nan, 0),
        dataset,
        network,
        config.optimizer.name,
        () if planned is None else tuple(records_of(config)),
        "" if planned is None else f"python train.py {' '.join(map(shlex.quote, words))}",
        config.epochs,
        TEST_IMAGES.get(dataset),
        config.trainer.precision.value,
    )
    rate = None if planned is None else planned.rate
    return Row(name_of(name), part, method, rate, measure(wanted, study.preset))


def _table(name: str, title: str, lines: Sequence[Line], study: Study) -> Sheet:
    """Return a table of cells with their comparisons, corrected over all of the table's."""
    pairs = {
        line.row.key: Pair(*line.first.key[:2], ACCURACY, line.first.key[2], line.against.key[2])
        for line in lines
        if line.first and line.against
    }
    known = {row.key: row.cell for line in lines for row in (line.row, line.first, line.against) if row}
    found = compare(known, [Claim(name, title, "", tuple(pairs.values()))], MARGINS)
    rows, texts = [], []
    for line in lines:
        each = found.get(pairs[line.row.key]) if line.row.key in pairs else None
        rows.append(_csv_row(line.row, each, study))
        texts.append((*_texts(line.row, study), *(compared(each)[2:] if each else ("",) * 6)))
    head = ("method", "η0", "epochs", "gradient calls", "test accuracy (%)", *COMPARED[2:])
    at_edge = "* the smallest or largest rate that was tried: a better one may lie outside."
    notes = (at_edge,) if any(text[1].endswith("*") for text in texts) else ()
    return Sheet(name, title, tuple(rows), head, tuple(texts), notes)


def _texts(row: Row, study: Study) -> tuple[str, ...]:
    edge = "*" if row.part == FULL and _at_edge(row, study) else ""
    calls = row.cell.mean_of("gradient_calls")
    return (
        row.name,
        study.why_no_rate(row.part, row.method) if row.rate is None else f"{row.rate:.4g}{edge}",
        str(row.cell.wanted.epochs),
        "–" if math.isnan(calls) else f"{calls:,.0f}",
        _accuracy(row.cell),
    )


def _accuracy(cell: Cell) -> str:
    text = measured_text(cell)
    return "not measured" if text == "missing" else text


def _at_edge(row: Row, study: Study) -> bool:
    """Whether a row's rate is what its method's search has chosen, and the smallest or the largest."""
    asked = study.plan.parts[row.part]
    chosen = row.rate is not None and asked.factor_of is None and asked.times == 1
    return chosen and study.at_edge(row.method)


def _csv_row(row: Row, each: Comparison | None, study: Study) -> dict[str, object]:
    cell, nan = row.cell, math.nan
    values: dict[str, object] = {
        "name": row.name,
        "part": row.part,
        "method": row.method,
        "rate": nan if row.rate is None else row.rate,
        "at_edge": _at_edge(row, study),
        "mean": cell.estimate.mean,
        "std": cell.estimate.std,
        "n": cell.estimate.n,
        "others": cell.others,
        "epochs": cell.wanted.epochs,
        **{name: cell.mean_of(name) for name in ("gradient_calls", "loss_calls", "seconds")},
    }
    compared_with: dict[str, object] = {
        "first": "" if each is None else name_of(each.pair.method),
        "against": "" if each is None else name_of(each.pair.against),
        "difference": nan if each is None else each.difference.mean,
        "seeds_compared": "" if each is None else each.difference.n,
        "low_95": nan if each is None else each.difference.low,
        "high_95": nan if each is None else each.difference.high,
        "low_corrected": nan if each is None else each.corrected_interval[0],
        "high_corrected": nan if each is None else each.corrected_interval[1],
        "p_holm": nan if each is None else each.p,
        "comparisons": "" if each is None else each.planned,
        "outcome": "" if each is None else each.outcome.value,
    }
    return {**values, **compared_with, "command": cell.wanted.command}


def _rates(study: Study) -> Sheet:
    """Return the validation accuracy of every method at every rate."""
    rates = study.plan.search.rates
    rows, texts = [], []
    for method in study.plan.methods:
        best, points = study.best_rate(method), _points(study, method)
        text = [name_of(method)]
        for point in points:
            rows.append(
                {
                    "method": method,
                    "rate": point.rate,
                    "validation_accuracy": point.mean if point.values else math.nan,
                    "lowest": min(point.values, default=math.nan),
                    "highest": max(point.values, default=math.nan),
                    "n": len(point.values),
                    "diverged": point.diverged,
                    "chosen": point.rate == best,
                }
            )
            parts = [f"{point.mean:.2f} n={len(point.values)}"] if point.values else []
            parts += [f"{point.diverged} diverged"] if point.diverged else []
            text.append((" ".join(parts) or "not measured") + (" ←" if point.rate == best else ""))
        texts.append(tuple(text))
    head = ("method", *(f"η0 = {rate:g}" for rate in rates))
    title = "Phase 1: validation accuracy (%) at every rate, a fifth of the budget"
    return Sheet("rates", title, tuple(rows), head, tuple(texts), ("← the chosen rate.",))


def _points(study: Study, method: str) -> list[Point]:
    """Return the validation accuracies of the finished runs of a method's search, and how many diverged."""
    points = []
    for rate in study.plan.search.rates:
        runs = records_of(study.search_cell(method, rate).config)
        states = [run.state() for run in runs]
        summaries = (
            run.read_json("summary.json")
            for run, state in zip(runs, states, strict=True)
            if state is State.FINISHED
        )
        accuracies = tuple(float(each[METRIC]) for each in summaries if each)
        points.append(Point(rate, accuracies, states.count(State.DIVERGED)))
    return points


def _headline(study: Study, rows: Sequence[Row]) -> str:
    """Return what is measured, in a sentence."""
    methods = list(study.plan.methods)
    chosen = sum(study.best_rate(method) is not None for method in methods)
    searched = sum(len(point.values) for method in methods for point in _points(study, method))
    search = len(methods) * len(study.plan.search.rates) * len(study.plan.search.seeds)
    done = sum(len(row.cell.values) for row in rows)
    seeds = sum(study.plan.parts[row.part].seeds for row in rows)
    preset = "" if study.preset == "paper" else f"Preset {study.preset}: no result. "
    changed = f"Changed in all cells: {' '.join(study.changes)}. " if study.changes else ""
    return (
        f"{preset}{changed}Phase 1: {searched} of {search} runs have finished, and {chosen} of "
        f"{len(methods)} methods have their rate. Phase 2: {done} of {seeds} runs have finished."
    )
