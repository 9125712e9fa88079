"""The study's tables, and its outcomes in words."""

from pathlib import Path

from reference_words import Row, diverged, ended, interval, read_rows, seeds

from experiments.study.flatness import MEASURES, two_digits
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import MIN_SEEDS

NOTHING = "*Not measured yet.*"

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
    "methods": ("At the chosen rates and equal gradient calls, each method minus SGD", "{name}"),
    "fifth": ("SGD with a fifth of the gradient calls minus each method with all of them", "minus {against}"),
    "factor": (
        "SALR minus SGD at a constant rate, SALR's times its mean factor, for as many iterations",
        "{first}",
    ),
}
"""By table: which difference its rows are, and how a row is called."""

OPEN = {
    "flatness": "how flat the solutions are",
    "batches": "large batches",
    "variants": "variants of SALR",
    "lenet": "LeNet",
}
"""Tables that are named as long as nothing of them is measured."""


def table(results: Path, name: str) -> str:
    """Return a table, as the report has written it; only words if it has no run yet."""
    path = results / "study" / f"{name}.md"
    if not path.exists() or not any(map(ended, read_rows(path.with_suffix(".csv")))):
        return NOTHING
    return path.read_text(encoding="utf-8").partition("\n\n")[2].strip()  # the page has titles of its own


def found(results: Path) -> list[str]:
    """Return a line on the chosen rates, and a line per outcome of the comparisons; none without a report."""
    if not (results / "study" / "methods.csv").exists():
        return []
    methods = read_rows(results / "study" / "methods.csv")
    rated = [row["name"] for row in methods if row["rate"]]
    lines = [
        "- The study compares the methods, each at the learning rate that was best on held-out data, in a "
        f"search at a fifth of the budget. So far it has chosen {len(rated)} of {len(methods)} rates."
    ]
    if edges := [row["name"] for row in methods if row["at_edge"] == "True"]:
        names = ", ".join(edges)
        lines.append(
            f"- A better rate may lie outside those that were tried for {names}: the best is at the edge."
        )
    compared = [
        f"- {about}; {word}: {'; '.join(texts)}."
        for name, (about, called) in COMPARED.items()
        for word, texts in _outcomes(results / "study" / f"{name}.csv", called).items()
    ]
    if compared:
        lines += [
            *compared,
            "- Each interval of the study is that of one comparison. Whether a difference is decided is "
            "corrected for all comparisons of its table.",
        ]
    lines += [
        *_sharpness(results / "study" / "ratios.csv"),
        *_correlation(results / "study" / "correlation.csv"),
    ]
    missing = [row["name"] for row in methods if not ended(row)]
    missing += [about for name, about in OPEN.items() if not _begun(results / "study" / f"{name}.csv")]
    if missing:
        lines.append(f"- The study has not measured yet: {', '.join(missing)}.")
    return lines


def _sharpness(path: Path) -> list[str]:
    """Return how sharp SALR's final weights are beside those of other cells, over enough seeds."""
    lines = []
    for row in read_rows(path) if path.exists() else []:
        if row["first"] == name_of("sgd_salr") and int(row["n"]) >= MIN_SEEDS:
            ratios = [
                f"{title} {_number(row, entry)} (95 % interval {_number(row, f'{entry}_low_95')} to "
                f"{_number(row, f'{entry}_high_95')})"
                for entry, (title, _) in MEASURES.items()
                if int(row[f"{entry}_n"]) >= MIN_SEEDS
            ]
            lines.append(
                f"- At the final weights, {row['first']} divided by {row['against']}: {', '.join(ratios)}; "
                f"{seeds(row['n'])}."
            )
    return lines


def _number(row: Row, name: str) -> str:
    return two_digits(float(row[name]))


def _correlation(path: Path) -> list[str]:
    """Return how measures go with the test error, if they are taken on enough runs."""
    table = read_rows(path) if path.exists() else []
    lines = []
    for about, name in (("over runs", "runs"), ("over runs, given the training loss", "given_loss")):
        rhos = [
            f"{MEASURES[row['measure']][0]} {float(row[f'rho_{name}']):+.2f} ({row[name]} runs)"
            for row in table
            if row[f"low_{name}"]
        ]
        if rhos:
            lines.append(f"- Rank correlation with the test error, {about}: {', '.join(rhos)}.")
    return lines


def _begun(path: Path) -> bool:
    """Whether a run has ended that is more than what the table's rows are compared with."""
    rows = read_rows(path) if path.exists() else []
    return any(ended(row) for row in rows if row.get("part") != "full")


def _outcomes(path: Path, called: str) -> dict[str, list[str]]:
    """Return the rows that are compared over enough seeds, by their outcome."""
    outcomes: dict[str, list[str]] = {}
    for row in read_rows(path) if path.exists() else []:
        if row["outcome"] and row["difference"] and int(row["seeds_compared"]) >= MIN_SEEDS:
            size = METRICS["accuracy_percent"].difference(f"{float(row['difference']):+.3g}")
            numbers = f"{interval(row)}{seeds(row['seeds_compared'])}{diverged(row)}"
            name = called.format_map(row)
            outcomes.setdefault(row["outcome"], []).append(f"{name} {size} ({numbers})")
    return outcomes
