"""The first screen of the page: a headline, a grid of all printed cells, and the claims."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from salr.reporting.cells import Cell
from salr.reporting.comparisons import Comparison, Outcome
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS
from salr.reporting.render import differs, number, pair_text
from salr.reporting.tables import Table, by_place
from salr.reporting.verdicts import Count, Judgement, Verdict, Word

STEPS = (1, 2, 4)
"""Deviations at which the colour of the grid changes."""


@dataclass(frozen=True)
class Square:
    """A cell of the grid.

    Attributes:
        step: −3 (much worse than published) to 3 (much better); None if nothing is measured.
        text: measured − published.
        n: seeds.
        about: both values in full.
    """

    step: int | None
    text: str
    n: int
    about: str


@dataclass(frozen=True)
class Block:
    """The grid of one table: the methods, and each row's name and squares; None if a cell is not printed."""

    number: int
    methods: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square | None, ...]], ...]


def headline(judgement: Judgement) -> str:
    """Return what is measured and what it says, in two or three sentences."""
    cells = [cell for table in judgement.tables for cell in table.cells]
    measured = [cell for cell in cells if cell.values]
    wanted = len({run.folder for cell in cells for run in cell.wanted.runs})
    finished = len({run.folder for cell in cells for run in cell.wanted.runs if run.seed in cell.values})
    if not measured:
        return f"None of the {len(cells)} published cells is measured yet."
    different = sum(map(differs, measured))
    text = (
        f"{len(measured)} of {len(cells)} published cells are measured, by {finished:,} of {wanted:,} runs. "
        f"{different} of them differ from the published value."
    )
    if not all(table.conclusive for table in judgement.tables):
        return f"{text} The budget is not the paper's: there are no verdicts."
    words = Counter(verdict.word for verdict in judgement.verdicts)
    parts = [f"{words[word]} {_VERB[word]}" for word in Word if words[word]]
    return f"{text} Of the {len(judgement.verdicts)} claims {_list(parts)}."


_VERB = {
    Word.NOT_MEASURED: "not measured",
    Word.OPEN: "still open",
    Word.SUPPORTED: "supported",
    Word.CONTRADICTED: "contradicted",
    Word.MIXED: "mixed",
}


def _list(parts: Sequence[str]) -> str:
    """Return ``1 is supported, 4 are still open``."""
    return ", ".join(
        f"{part.split()[0]} {'is' if part.startswith('1 ') else 'are'} {part.split(' ', 1)[1]}"
        for part in parts
    )


def claim_lines(judgement: Judgement) -> list[str]:
    """Return a line per claim that anything has been measured of."""
    return [
        f"({each.claim.letter}) {each.claim.text} {each.word.capitalize()}: {verdict_text(each)}."
        for each in judgement.verdicts
        if each.measured
    ]


def block(table: Table) -> Block:
    """Return the grid of a table."""
    methods = tuple(dict.fromkeys(cell.wanted.published.method for cell in table.cells))
    places = by_place(table)
    several = len({dataset for dataset, _ in places}) > 1
    rows = []
    for (dataset, network), cells in places.items():
        squares = tuple(square(cells[method]) if method in cells else None for method in methods)
        rows.append((f"{dataset} {network}" if several else network, squares))
    return Block(table.number, tuple(map(name_of, methods)), tuple(rows))


def square(cell: Cell) -> Square:
    """Return how far a measured mean is from the published one."""
    printed, value, digits = cell.wanted.published, cell.estimate, cell.metric.digits
    published = f"published {number(printed.mean, printed.std, digits)}, n = {printed.seeds}"
    name = f"{printed.dataset} {printed.network} {cell.method}"
    if not value.n:
        return Square(None, "–", 0, f"{name}: not measured; {published}")
    gap = value.mean - printed.mean
    about = f"{name}: measured {number(value.mean, value.std, digits)}, n = {value.n}; {published}"
    text = f"{gap:+.{digits}f}".replace(f"-{0:.{digits}f}", f"+{0:.{digits}f}")
    return Square(_step(cell, gap), text, value.n, about)


def _step(cell: Cell, gap: float) -> int:
    """Return the colour of a difference, in units of the deviation that measured and published runs share."""
    stds = [std for std in (cell.estimate.std, cell.wanted.published.std) if not math.isnan(std)]
    floor = cell.metric.resolution / math.sqrt(12)
    deviation = math.sqrt(sum(max(std, floor) ** 2 for std in stds) / len(stds))
    size = sum(abs(gap) / deviation >= step for step in STEPS)
    return size if cell.metric.better(gap) else -size


def verdict_text(verdict: Verdict) -> str:
    """Return the counts of a verdict in words."""
    counts = verdict.counts
    missing = counts[Outcome.NOT_MEASURED]
    if not verdict.measured:
        return f"none of {verdict.planned} comparisons measured"
    kind = "measured comparisons" if missing else "comparisons"
    parts = [
        f"supported in {counts[Outcome.BETTER]} of {verdict.measured} {kind}",
        f"contradicted in {counts[Outcome.WORSE]}",
        f"equivalent in {counts[Outcome.EQUIVALENT]}",
        f"undecided in {counts[Outcome.UNDECIDED]}",
    ]
    text = ", ".join(parts)
    return f"{text}; {missing} of the paper's {verdict.planned} not measured" if missing else text


def contradictions_text(verdict: Verdict, most: int = 5) -> str:
    """Return the comparisons that contradict a claim; empty if there are none."""
    names = [_contradiction(each) for each in verdict.contradicting]
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return "; ".join([*names[:most], *more])


def _contradiction(each: Comparison) -> str:
    gap, digits = each.difference.mean, each.metric.digits
    return f"{pair_text(each)} on {each.pair.dataset} {each.pair.network} {gap:+.{digits}f}"


def aggregate_text(verdict: Verdict) -> str:
    """Return the mean improvement, its probability, and over how many comparisons; empty without values."""
    if verdict.aggregate is None:
        return ""
    mean, chance = verdict.aggregate.mean_difference, verdict.aggregate.improvement
    interval = f"{mean.value:+.2f} [{mean.low:+.2f}, {mean.high:+.2f}]"
    pairs = verdict.aggregate.pairs
    return (
        f"mean improvement {METRICS[verdict.claim.main_metric].difference(interval)} "
        f"over {pairs} {'comparison' if pairs == 1 else 'comparisons'}; "
        f"a run is better with probability {chance.value:.2f} [{chance.low:.2f}, {chance.high:.2f}]"
    )


def counts_text(counts: Iterable[Count]) -> str:
    """Return what has been counted of a fact, by methods."""
    texts = []
    for count in counts:
        span = (
            f"{count.low:.2f}"
            if f"{count.low:.2f}" == f"{count.high:.2f}"
            else f"{count.low:.2f} to {count.high:.2f}"
        )
        held = "" if count.holds else " (does not hold)"
        texts.append(f"{name_of(count.method)} {span} times {name_of(count.against)}{held}")
    return "; ".join(texts) or "not measured"
