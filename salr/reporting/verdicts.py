"""The claims of section 6.3, held against what has been measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from salr.reporting.tables import Comparison, Table

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"


@dataclass(frozen=True)
class Verdict:
    claim: str
    verdict: str
    numbers: str


def verdicts(tables: Sequence[Table]) -> list[Verdict]:
    """A verdict a claim. Tables made for trying things out say nothing about the paper and give none."""
    comparisons = [
        comparison for table in tables if table.preset == "paper" for comparison in table.comparisons
    ]
    flatness = [each for each in comparisons if each.first.wanted.published.metric.startswith("sharpness")]
    performance = _distinct([each for each in comparisons if each not in flatness])
    return [
        _judge("Methods with SALR beat those they add to", performance),
        _judge("SALR finds flatter solutions", flatness),
        _ratio(
            "SALR takes a fifth of its base's epochs", performance, "epochs", 1 / 5, "the epochs of its base"
        ),
        _ratio(
            "SALR takes as many gradient calls as its base",
            performance,
            "gradient_calls",
            1.0,
            "the gradient calls of its base",
        ),
    ]


def _distinct(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Tables share cells (5 with 6 and 7); a comparison counts once."""
    return list({(*_place(each), each.method, each.against): each for each in comparisons}.values())


def _place(comparison: Comparison) -> tuple[str, str]:
    return comparison.first.wanted.dataset, comparison.first.wanted.network


def _judge(claim: str, comparisons: Sequence[Comparison]) -> Verdict:
    """Supported where every comparison of the paper is decided in favour; not supported where one is decided against."""
    favours = [comparison.favours for comparison in comparisons]
    won, lost = favours.count("method"), favours.count("against")
    measured = sum(comparison.difference.n > 0 for comparison in comparisons)
    numbers = f"of {len(comparisons)} comparisons {measured} measured: {won} in favour, {lost} against, {measured - won - lost} open"
    if lost:
        return Verdict(claim, NOT_SUPPORTED, f"{numbers}; against: {_names(comparisons, 'against')}")
    return Verdict(claim, SUPPORTED if comparisons and won == len(comparisons) else UNDECIDED, numbers)


def _names(comparisons: Sequence[Comparison], favours: str) -> str:
    chosen = (each for each in comparisons if each.favours == favours)
    return "; ".join(
        f"{each.method} − {each.against} on {' '.join(_place(each))}: {each.difference.mean:+.2f} "
        f"[{each.difference.low:+.2f}, {each.difference.high:+.2f}], n = {each.difference.n}"
        for each in chosen
    )


def _ratio(claim: str, comparisons: Sequence[Comparison], name: str, expected: float, of: str) -> Verdict:
    """What is counted, not estimated: holds where every pair's ratio is within a tenth of what is claimed."""
    pairs = [each for each in comparisons if each.first.rows and each.second.rows]
    ratios = [(each, each.first.mean_of(name) / each.second.mean_of(name)) for each in pairs]
    if not ratios:
        return Verdict(claim, UNDECIDED, "no pair measured")
    off = [
        f"{each.method} on {' '.join(_place(each))} {ratio:.2f}"
        for each, ratio in ratios
        if abs(ratio / expected - 1) > 0.1
    ]
    low, high = min(ratio for _, ratio in ratios), max(ratio for _, ratio in ratios)
    numbers = f"{len(ratios)} pairs: {low:.2f} to {high:.2f} times {of}"
    return Verdict(
        claim, NOT_SUPPORTED if off else SUPPORTED, numbers + (f"; not so: {', '.join(off)}" if off else "")
    )
