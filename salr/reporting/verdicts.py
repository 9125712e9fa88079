"""A paper's claims, held against what has been measured."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from salr.reporting.bootstrap import Aggregate, aggregate
from salr.reporting.cells import Cell
from salr.reporting.claims import Claim, Fact, Pair
from salr.reporting.comparisons import Comparison, Outcome, compare
from salr.reporting.metrics import MARGINS, METRICS
from salr.reporting.published import Key
from salr.reporting.statistics import Estimate, holm, welch
from salr.reporting.tables import Table


class Word(StrEnum):
    """A verdict in one word, by what most of the paper's comparisons came to."""

    NOT_MEASURED = "not measured"
    OPEN = "open"  # what is not decided yet could still decide it
    SUPPORTED = "supported"  # in more than half of all comparisons
    CONTRADICTED = "contradicted"  # in more than half of all comparisons
    MIXED = "mixed"


@dataclass(frozen=True)
class Verdict:
    """A claim's comparisons, one per pair of the paper; None if a table that could show it is not there."""

    claim: Claim
    comparisons: tuple[Comparison | None, ...]
    aggregate: Aggregate | None

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(Outcome.NOT_MEASURED if each is None else each.outcome for each in self.comparisons)

    @property
    def planned(self) -> int:
        return len(self.comparisons)

    @property
    def measured(self) -> int:
        return self.planned - self.counts[Outcome.NOT_MEASURED]

    @property
    def contradicting(self) -> list[Comparison]:
        return [each for each in self.comparisons if each is not None and each.outcome is Outcome.WORSE]

    @property
    def word(self) -> Word:
        counts, most = self.counts, self.planned / 2
        if not self.measured:
            return Word.NOT_MEASURED
        if counts[Outcome.BETTER] > most:
            return Word.SUPPORTED
        if counts[Outcome.WORSE] > most:
            return Word.CONTRADICTED
        pending = counts[Outcome.NOT_MEASURED] + counts[Outcome.UNDECIDED]
        open_ = max(counts[Outcome.BETTER], counts[Outcome.WORSE]) + pending > most
        return Word.OPEN if open_ else Word.MIXED


@dataclass(frozen=True)
class Count:
    """How often a method's counted ratio is what the paper says."""

    method: str
    against: str
    pairs: int
    low: float
    high: float
    holds: bool


@dataclass(frozen=True)
class Judgement:
    """Everything that follows from the tables together.

    Attributes:
        tables: with their comparisons, and with each cell's distance from the published value.
        verdicts: one per claim, of conclusive tables only.
        facts: what has been counted for each fact, by method.
    """

    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...]
    facts: tuple[tuple[Fact, tuple[Count, ...]], ...]


def judge(
    tables: Sequence[Table],
    claims: Sequence[Claim],
    facts: Sequence[Fact] = (),
    margins: Mapping[str, float] = MARGINS,
) -> Judgement:
    """Compare the cells of all tables, and judge the claims.

    Args:
        tables: as many of the paper's as can be read; a claim's other comparisons count as not measured.
        margins: by metric, below which a difference does not matter.
    """
    tables = _beside_published(tables)
    comparisons = compare(_cells(tables), claims, margins)
    conclusive = _cells([table for table in tables if table.conclusive])
    counted = {
        pair: each for pair, each in comparisons.items() if {pair.first, pair.second} <= conclusive.keys()
    }
    return Judgement(
        tuple(replace(table, comparisons=_of(table, comparisons)) for table in tables),
        tuple(_verdict(claim, counted) for claim in claims),
        tuple((fact, _count(fact, conclusive)) for fact in facts),
    )


def _cells(tables: Sequence[Table]) -> dict[Key, Cell]:
    """Return the cells by what they mean; of those that several tables print, the first."""
    cells: dict[Key, Cell] = {}
    for table in tables:
        for cell in table.cells:
            cells.setdefault(cell.wanted.published.key, cell)
    return cells


def _of(table: Table, comparisons: Mapping[Pair, Comparison]) -> tuple[Comparison, ...]:
    keys = {cell.wanted.published.key for cell in table.cells}
    return tuple(each for pair, each in comparisons.items() if pair.first in keys and pair.second in keys)


def _beside_published(tables: Sequence[Table]) -> list[Table]:
    """Compare each cell with what the paper prints, corrected over all printed cells.

    What is not measured counts as 1, so that the correction does not depend on how much is measured.
    """
    cells = _cells(tables)
    gaps = {}
    for key, cell in cells.items():
        printed = cell.wanted.published
        gaps[key] = welch(
            cell.estimate, Estimate(printed.mean, printed.std, printed.seeds), cell.metric.resolution
        )
    ps = dict(zip(gaps, holm([gap.p if gap.n else math.nan for gap in gaps.values()]), strict=True))

    def beside(cell: Cell) -> Cell:
        key = cell.wanted.published.key
        return replace(cell, gap=gaps[key], gap_p=ps[key])

    return [replace(table, cells=tuple(map(beside, table.cells))) for table in tables]


def _verdict(claim: Claim, comparisons: Mapping[Pair, Comparison]) -> Verdict:
    found = tuple(comparisons.get(pair) for pair in claim.pairs)
    return Verdict(claim, found, _aggregate(claim, [each for each in found if each is not None]))


def _aggregate(claim: Claim, comparisons: Sequence[Comparison]) -> Aggregate | None:
    """Return the aggregate over the comparisons in the claim's main metric of which no run diverged."""
    name = claim.main_metric
    sign = 1 if METRICS[name].higher_is_better else -1

    def values(cell: Cell) -> list[float]:
        return [sign * value for value in cell.values.values()]

    chosen = [each for each in comparisons if each.metric.name == name and not each.diverged]
    cells = {
        key: values(cell)
        for each in chosen
        for key, cell in ((each.pair.first, each.first), (each.pair.second, each.second))
    }
    return aggregate(cells, [(each.pair.first, each.pair.second) for each in chosen])


def _count(fact: Fact, cells: Mapping[Key, Cell]) -> tuple[Count, ...]:
    """Return the counted ratios by methods; a ratio holds within a tenth."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for pair in fact.pairs:
        first, second = cells.get(pair.first), cells.get(pair.second)
        if first is not None and second is not None and first.rows and second.rows:
            ratio = first.mean_of(fact.quantity) / second.mean_of(fact.quantity)
            ratios.setdefault((pair.method, pair.against), []).append(ratio)
    return tuple(
        Count(
            *methods,
            len(values),
            min(values),
            max(values),
            all(abs(value / fact.expected - 1) <= 0.1 for value in values),
        )
        for methods, values in ratios.items()
    )
