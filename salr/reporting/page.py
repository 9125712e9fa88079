"""One self-contained page of everything that was measured: no network when it is looked at."""

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from salr.records import atomic
from salr.reporting.render import (
    better_text,
    caption,
    difference_text,
    grid,
    measured_text,
    name_of,
    p_text,
    published_text,
    remarks,
)
from salr.reporting.tables import Cell, Table
from salr.reporting.verdicts import verdicts


def write_page(tables: Sequence[Table], figures: Mapping[str, Path], path: Path) -> None:
    """Writes the page, readable on a phone and in print.

    Args:
        tables: of one preset.
        figures: PNG files by caption; they are put into the page.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    text = environment.get_template("page.html").render(
        preset=tables[0].preset if tables else "paper",
        verdicts=verdicts(tables),
        tables=[_table(table) for table in tables],
        figures=[
            {"caption": about, "data": base64.b64encode(picture.read_bytes()).decode()}
            for about, picture in figures.items()
        ],
        makers=_makers(tables),
    )
    atomic.write(path, text.encode(), several=True)


def _table(table: Table) -> dict[str, Any]:
    methods, rows = grid(table)
    return {
        "number": table.number,
        "caption": caption(table),
        "methods": [name_of(method) for method in methods],
        "rows": [
            {
                "dataset": dataset,
                "network": network,
                "cells": [_cell(cells[method]) for method in methods if method in cells],
            }
            for dataset, network, cells in rows
        ],
        "comparisons": [
            (
                each.first.wanted.published.dataset,
                each.first.wanted.published.network,
                f"{name_of(each.method)} − {name_of(each.against)}",
                difference_text(each),
                p_text(each),
                each.difference.n,
                better_text(each),
            )
            for each in table.comparisons
        ],
        "remarks": remarks(table),
        "costs": [_cost(cell) for cell in table.cells],
    }


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


def _makers(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """How many runs each combination of versions, commit and device has made; runs that tables share count once."""
    runs: dict[str, dict[str, Any]] = {}
    for table in tables:
        for cell in table.cells:
            finished = (run for run in cell.wanted.runs if run.seed in cell.values)
            runs |= {str(run.folder): row["made_by"] for run, row in zip(finished, cell.rows, strict=True)}
    counted = Counter(
        (
            str(made["device"]),
            str(made["threads"]),
            str(made["commit"])[:12],
            ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        )
        for made in runs.values()
    )
    return [
        {"runs": count, "device": device, "threads": threads, "commit": commit, "versions": versions}
        for (device, threads, commit, versions), count in sorted(counted.items())
    ]
