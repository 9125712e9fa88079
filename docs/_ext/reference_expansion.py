"""Definition 1 beside its first-order term, from the summaries of ``scripts/expansion.py``."""

import math
from collections.abc import Sequence
from pathlib import Path

from reference_words import NO_BREAK, Table, read_rows

from salr.sharpness import AscentDescent

Summary = tuple[str, dict[str, str]]
"""The name of a cell, and a row about one of its learning rates, γ and phases."""


def summaries(results: Path) -> list[Summary]:
    """Return the rows of every summary below a folder."""
    found = []
    for path in sorted(results.rglob("expansion_*_summary.csv")):
        cell = path.stem.removeprefix("expansion_").removesuffix("_summary").replace("_", " ")
        last = _last_iterations(path.with_stem(path.stem.removesuffix("_summary")))
        found += [(cell, row | {"last": last.get(row["rate"], "–")}) for row in read_rows(path)]
    return found


def _last_iterations(path: Path) -> dict[str, str]:
    """Return the last iteration that is measured, by learning rate."""
    rows = read_rows(path) if path.exists() else []
    return {row["rate"]: f"{int(row['iteration']):,}" for row in rows}


def table(found: Sequence[Summary]) -> Table:
    """Return the median ratio and the correlation over whole runs, a row per run and a column per γ."""
    runs: dict[tuple[str, ...], dict[str, str]] = {}
    for cell, row in found:
        if row["phase"] == "all":
            correlation = float(row["correlation"])
            together = "–" if math.isnan(correlation) else f"{correlation:.3f}"
            of_gamma = runs.setdefault((cell, row["rate"], row["last"], row["measurements"]), {})
            of_gamma[row["gamma"]] = f"{float(row['ratio']):.3f}{NO_BREAK}({together})"
    gammas = sorted({gamma for of_gamma in runs.values() for gamma in of_gamma}, key=float)
    head = ("cell", "η0", "last iteration", "measurements", *(f"γ = {float(gamma):g}" for gamma in gammas))
    return head, [(*run, *(of_gamma.get(gamma, "–") for gamma in gammas)) for run, of_gamma in runs.items()]


def words(found: Sequence[Summary]) -> str:
    """Return a sentence about the runs at the paper's γ; empty if there is none."""
    at_gamma = [each for each in found if float(each[1]["gamma"]) == AscentDescent().gamma]
    whole = [row for _, row in at_gamma if row["phase"] == "all"]
    if not whole:
        return ""
    ratios = sorted(float(row["ratio"]) for row in whole)
    least = min(float(row["correlation"]) for row in whole)
    cell, farthest = max(at_gamma, key=lambda each: abs(math.log(float(each[1]["ratio"]))))
    part = {"all": "", "early": " in the first third", "late": " in the last third"}[farthest["phase"]]
    ratio, low, high = (float(farthest[name]) for name in ("ratio", "ratio_low", "ratio_high"))
    return (
        f"At the paper's γ of {AscentDescent().gamma:g}, the median ratio of these {len(whole)} runs is "
        f"{ratios[0]:.3f} to {ratios[-1]:.3f}, and the correlation of the factors is {least:.3f} or more. "
        f"The ratio is farthest from 1 for {cell} at η0 = {farthest['rate']}{part}: "
        f"{ratio:.3f} ({low:.3f}, {high:.3f})."
    )
