"""The study's tables, and its outcomes in words."""

from pathlib import Path

from reference_words import diverged, ended, interval, read_rows, seeds

from salr.reporting.metrics import METRICS
from salr.reporting.statistics import MIN_SEEDS

TABLES = (
    "methods",
    "rates",
    "fifth",
    "factor",
    "flatness",
    "ratios",
    "correlation",
    "batches",
    "variants",
    "lenet",
)

COMPARED = {
    "methods": (
        "At its own best rate, compared with SGD at its best rate and corrected for these comparisons",
        "name",
    ),
    "fifth": (
        "SGD with a fifth of the gradient calls, compared with each method at all of them and corrected for "
        "these comparisons",
        "name",
    ),
    "factor": (
        "Compared with SGD at the constant rate that is SALR's best one times its mean factor, for as many "
        "iterations and corrected for these comparisons",
        "first",
    ),
}
"""By table: how its rows are compared, and the column that names a row."""


def table(results: Path, name: str) -> str:
    """Return a table, as the report has written it; only words if it has no run yet."""
    path = results / "study" / f"{name}.md"
    if not path.exists() or not any(map(ended, read_rows(path.with_suffix(".csv")))):
        return "*Not measured yet.*"
    return path.read_text(encoding="utf-8").partition("\n\n")[2].strip()  # the page has titles of its own


def found(results: Path) -> list[str]:
    """Return a line on the chosen rates, and a line per outcome of the comparisons; none without a report."""
    if not (results / "study" / "methods.csv").exists():
        return []
    methods = read_rows(results / "study" / "methods.csv")
    rated = [row["name"] for row in methods if row["rate"]]
    lines = [
        "- The study compares the methods, each at its own best learning rate. So far it has chosen "
        f"{len(rated)} of {len(methods)} rates."
    ]
    if edges := [row["name"] for row in methods if row["at_edge"] == "True"]:
        names = ", ".join(edges)
        lines.append(
            f"- A better rate may lie outside those that were tried for {names}: the best is at the edge."
        )
    for name, (about, column) in COMPARED.items():
        outcomes = _outcomes(results / "study" / f"{name}.csv", column)
        lines += [f"- {about}, {word}: {'; '.join(texts)}." for word, texts in outcomes.items()]
    return lines


def _outcomes(path: Path, column: str) -> dict[str, list[str]]:
    """Return the rows that are compared over enough seeds, by their outcome."""
    outcomes: dict[str, list[str]] = {}
    for row in read_rows(path) if path.exists() else []:
        if row["outcome"] and row["difference"] and int(row["seeds_compared"]) >= MIN_SEEDS:
            size = METRICS["accuracy_percent"].difference(f"{float(row['difference']):+.3g}")
            numbers = f"{interval(row)}{seeds(row['seeds_compared'])}{diverged(row)}"
            outcomes.setdefault(row["outcome"], []).append(f"{row[column]} ({size}, {numbers})")
    return outcomes
