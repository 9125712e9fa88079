"""One method against another: what the seeds say of their difference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from salr.reporting.cells import Cell
from salr.reporting.claims import Claim, Pair
from salr.reporting.metrics import Metric, margin_of
from salr.reporting.published import Key
from salr.reporting.statistics import ALPHA, MIN_SEEDS, Difference, holm, seeds_needed, welch


class Outcome(StrEnum):
    """What a comparison came to."""

    NOT_MEASURED = "not measured"
    BETTER = "better"  # the pair's method
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # the difference is smaller than the margin
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Comparison:
    """A pair as measured.

    Attributes:
        claims: the letters of the claims that it belongs to.
        difference: ``first`` − ``second``, paired if at least two seeds are shared.
        unpaired: the same by Welch, over all seeds of both.
        margin: differences below it do not matter, in the metric's unit.
        planned: comparisons of the largest claim that this one belongs to.
        p: of no difference, corrected for all comparisons of its claim; the largest if it has several claims.
        equivalence_p: of a difference of ``margin`` or more, corrected in the same way.
    """

    pair: Pair
    claims: tuple[str, ...]
    first: Cell
    second: Cell
    difference: Difference
    unpaired: Difference
    margin: float
    planned: int
    p: float
    equivalence_p: float

    @property
    def metric(self) -> Metric:
        return self.first.metric

    @property
    def outcome(self) -> Outcome:
        """The decision at ALPHA, by the corrected p-values.

        Finished runs decide nothing in favour of a method of which other runs diverged.
        """
        gap = self.difference
        if gap.n == 0:
            return Outcome.NOT_MEASURED
        if gap.n < MIN_SEEDS:
            return Outcome.UNDECIDED
        # Two values that are a resolution apart may differ by rounding errors of the machine.
        if self.p < ALPHA and abs(gap.mean) > self.metric.resolution * (1 - 1e-6):
            better = self.metric.better(gap.mean)
            if (self.first if better else self.second).diverged:
                return Outcome.UNDECIDED
            return Outcome.BETTER if better else Outcome.WORSE
        equivalent = self.equivalence_p < ALPHA and not self.diverged
        return Outcome.EQUIVALENT if equivalent else Outcome.UNDECIDED

    @property
    def diverged(self) -> tuple[Cell, ...]:
        """Those of the two cells of which a run diverged."""
        return tuple(cell for cell in (self.first, self.second) if cell.diverged)

    @property
    def small(self) -> bool:
        """Whether the measured difference is below the margin, however certain it is."""
        return abs(self.difference.mean) < self.margin

    @property
    def corrected_interval(self) -> tuple[float, float]:
        """The interval at Bonferroni's level, 1 − ALPHA / ``planned``.

        All intervals of a claim cover their differences at once with probability 1 − ALPHA. They are wider
        than Holm's test needs, so an interval may include 0 although ``p`` < ALPHA. One that excludes 0
        always has ``p`` < ALPHA.
        """
        return self.difference.interval(ALPHA / self.planned)

    @property
    def pairing_matters(self) -> bool:
        """Whether the paired and the unpaired 95 % interval disagree about 0."""
        gap, other = self.difference, self.unpaired
        if not gap.paired or math.isnan(gap.error) or math.isnan(other.error):
            return False
        return (gap.low <= 0 <= gap.high) != (other.low <= 0 <= other.high)

    @property
    def seeds_to_decide(self) -> int | None:
        """How many seeds in all would decide what is undecided, for the measured difference and deviation.

        Both tests are taken at Bonferroni's level for the planned comparisons. None if the comparison is
        decided, if there is no deviation yet, if a run diverged, or if more than a thousand seeds are needed.
        """
        gap = self.difference
        if self.outcome is not Outcome.UNDECIDED or self.diverged or math.isnan(gap.error):
            return None
        std = gap.error * math.sqrt(gap.n if gap.paired else gap.n / 2)
        return seeds_needed(gap.mean, self.margin, std, gap.paired, ALPHA / self.planned, more_than=gap.n)


def compare(
    cells: Mapping[Key, Cell], claims: Sequence[Claim], margins: Mapping[str, float]
) -> dict[Pair, Comparison]:
    """Return the comparisons of all claims whose cells are there, measured or not.

    p-values are corrected over all pairs of a claim; a pair that is not measured counts as 1.
    """
    raw = {
        pair: cells[pair.first].minus(cells[pair.second])
        for claim in claims
        for pair in claim.pairs
        if pair.first in cells and pair.second in cells
    }
    margin = {
        pair: margin_of(cells[pair.first].metric, cells[pair.second].estimate.mean, margins) for pair in raw
    }
    planned: dict[Pair, int] = {}
    corrected: dict[Pair, float] = {}
    equivalent: dict[Pair, float] = {}
    for claim in claims:
        ps = holm([raw[pair].p if pair in raw else math.nan for pair in claim.pairs])
        equivalences = [
            raw[pair].equivalence_p(margin[pair]) if pair in raw else math.nan for pair in claim.pairs
        ]
        for pair, p, q in zip(claim.pairs, ps, holm(equivalences), strict=True):
            planned[pair] = max(len(claim.pairs), planned.get(pair, 0))
            corrected[pair] = _larger(p, corrected.get(pair, p))
            equivalent[pair] = _larger(q, equivalent.get(pair, q))
    return {
        pair: Comparison(
            pair,
            tuple(claim.letter for claim in claims if pair in claim.pairs),
            cells[pair.first],
            cells[pair.second],
            gap,
            _unpaired(cells[pair.first], cells[pair.second]),
            margin[pair],
            planned[pair],
            corrected[pair],
            equivalent[pair],
        )
        for pair, gap in raw.items()
    }


def _unpaired(first: Cell, second: Cell) -> Difference:
    return welch(first.estimate, second.estimate, first.metric.resolution)


def _larger(p: float, other: float) -> float:
    """Return the larger p-value; NaN if both are, as both belong to the same comparison."""
    return p if math.isnan(p) else max(p, other)
