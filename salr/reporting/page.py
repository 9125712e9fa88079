"""One page of everything that was measured. It holds its pictures, and needs no network."""

import base64
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from salr.records import atomic
from salr.reporting import overview
from salr.reporting.cells import Cell
from salr.reporting.comparisons import Comparison, Outcome
from salr.reporting.methods import name_of
from salr.reporting.render import (
    COMPARED,
    caption,
    compared,
    measured_comparisons,
    measured_text,
    methods_of,
    not_measured_text,
    published_text,
    remarks,
)
from salr.reporting.tables import Table, by_place
from salr.reporting.verdicts import Judgement

MARKS = {
    Outcome.BETTER: "✓",
    Outcome.WORSE: "✗",
    Outcome.EQUIVALENT: "=",
    Outcome.UNDECIDED: "?",
}
"""Outcomes are marked by a sign as well as by a colour."""

Maker = tuple[str, dict[str, Any]]
"""The precision of a run, and what its record says of device, threads, commit and versions."""


@dataclass(frozen=True)
class Paper:
    """What is reproduced.

    Attributes:
        judgement: of the paper's claims by its own printed numbers.
    """

    name: str
    address: str
    judgement: Judgement


def write_page(
    judgement: Judgement, paper: Paper, figures: Mapping[str, Path], path: Path, notes: Sequence[str] = ()
) -> None:
    """Write the page, readable on a phone and in print.

    Args:
        figures: PNG files by caption; they are put into the page.
        notes: what a reader has to know first.
    """
    tables = judgement.tables
    text = template("page.html").render(
        paper=paper,
        preset=tables[0].preset if tables else "paper",
        changes=sorted({word for table in tables for word in table.overrides}),
        conclusive=all(table.conclusive for table in tables),
        notes=notes,
        headline=overview.headline(judgement),
        blocks=[overview.block(table) for table in tables],
        claims=_claims(judgement, paper),
        facts=[(fact, overview.counts_text(counts)) for fact, counts in judgement.facts],
        columns=COMPARED,
        tables=[_table(table, judgement) for table in tables],
        figures=embedded(figures),
        makers=makers(made_by(cell for table in tables for cell in table.cells).values()),
    )
    atomic.write(path, text.encode(), several=True)


def template(name: str) -> jinja2.Template:
    """Return a template of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def embedded(figures: Mapping[str, Path]) -> list[dict[str, str]]:
    """Return PNG files by caption as a page holds them."""
    return [
        {"caption": about, "data": base64.b64encode(picture.read_bytes()).decode()}
        for about, picture in figures.items()
    ]


def _claims(judgement: Judgement, paper: Paper) -> list[dict[str, Any]]:
    return [
        {
            "claim": measured.claim,
            "word": measured.word,
            "text": overview.verdict_text(measured),
            "against": overview.contradictions_text(measured),
            "aggregate": overview.aggregate_text(measured),
            "printed": overview.verdict_text(printed),
            "printed_word": printed.word,
            "printed_against": overview.contradictions_text(printed),
        }
        for measured, printed in zip(judgement.verdicts, paper.judgement.verdicts, strict=True)
    ]


def _table(table: Table, judgement: Judgement) -> dict[str, Any]:
    methods = methods_of(table)
    texts = {verdict.claim.letter: verdict.claim.text for verdict in judgement.verdicts}
    groups: dict[str, list[Comparison]] = {}
    for each in measured_comparisons(table):
        groups.setdefault(each.claims[0], []).append(each)
    return {
        "number": table.number,
        "caption": caption(table),
        "methods": [name_of(method) for method in methods],
        "rows": [
            (dataset, network, [_cell(cells[method]) if method in cells else None for method in methods])
            for (dataset, network), cells in by_place(table).items()
        ],
        "groups": [
            {
                "title": f"({letter}) {texts[letter]}",
                "counts": _counts(group),
                "rows": [(each.outcome.name.lower(), MARKS[each.outcome], compared(each)) for each in group],
            }
            for letter, group in groups.items()
        ],
        "remarks": [*filter(None, [not_measured_text(table)]), *remarks(table)],
        "costs": [_cost(cell) for cell in table.cells],
    }


def _counts(comparisons: Sequence[Comparison]) -> str:
    counts = Counter(each.outcome for each in comparisons)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in MARKS if counts[outcome])


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "measured": measured_text(cell),
        "published": published_text(cell.wanted.published),
        "n": len(cell.values),
    }


def _cost(cell: Cell) -> dict[str, str]:
    wanted = cell.wanted
    return {
        "name": f"{wanted.dataset} {wanted.network} {wanted.optimizer}",
        "epochs": _whole(cell.mean_of("epochs")),
        "calls": _whole(cell.mean_of("gradient_calls")),
        "seconds": _whole(cell.mean_of("seconds")),
        "command": wanted.command,
    }


def _whole(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"


def _short(commit: str | None) -> str:
    """Return a commit with twelve of its digits, and what the record says after them."""
    return "–" if commit is None else commit[:12] + commit[40:]


def made_by(cells: Iterable[Cell]) -> dict[str, Maker]:
    """Return what has made each finished run of the cells, by the run's folder."""
    runs: dict[str, Maker] = {}
    for cell in cells:
        finished = (run for run in cell.wanted.runs if run.seed in cell.values)
        for run, row in zip(finished, cell.rows, strict=True):
            runs[str(run.folder)] = cell.wanted.precision, row["made_by"]
    return runs


def makers(runs: Iterable[Maker]) -> list[dict[str, Any]]:
    """Return how many runs each combination of precision, device, versions and commit has made."""
    counted = Counter(
        (
            precision,
            str(made["device"]),
            str(made["threads"] or "–"),
            _short(made["commit"]),
            ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        )
        for precision, made in runs
    )
    names = ("precision", "device", "threads", "commit", "versions")
    return [
        {"runs": count, **dict(zip(names, values, strict=True))} for values, count in sorted(counted.items())
    ]
