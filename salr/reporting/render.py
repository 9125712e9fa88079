"""Tables as CSV, LaTeX and Markdown. The same records give the same bytes: no dates, no times of day."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from salr.records import atomic
from salr.reporting.published import Published
from salr.reporting.tables import Cell, Comparison, Table

NAMES = {
    "sgd": "SGD",
    "adam": "Adam",
    "swa": "SWA",
    "swa_adam": "SWA (Adam)",
    "entropy_sgd": "Entropy-SGD",
    "entropy_adam": "Entropy-Adam",
    "entropy_sgd_salr": "Entropy-SGD-SALR",
    "entropy_adam_salr": "Entropy-Adam-SALR",
    "sgd_salr": "SGD-SALR",
    "adam_salr": "Adam-SALR",
    "smoothout": "SmoothOut",
    "adam_smoothout": "AdamSmoothOut",
}
TIMES = ("seconds",)
"""Columns that two runs of the same cell do not share."""


def name_of(method: str) -> str:
    return NAMES.get(method, method)


def digits(metric: str) -> int:
    return 3 if metric == "nats" else 2


def unit(printed: Published) -> str:
    return "nats" if printed.dataset == "war_and_peace" else printed.metric


def number(mean: float, std: float, places: int) -> str:
    """``98.18 (0.06)``; a dash where there is nothing."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.{places}f}" + ("" if math.isnan(std) else f" ({std:.{places}f})")


def measured_text(cell: Cell) -> str:
    """Mean (std) with n, and what became of the other runs."""
    if not cell.values:
        return "missing" if not cell.others or cell.others.endswith("missing") else f"– [{cell.others}]"
    value = cell.estimate
    text = f"{number(value.mean, value.std, digits(unit(cell.wanted.published)))} n={value.n}"
    return text + (f" [{cell.others}]" if cell.others else "")


def published_text(printed: Published) -> str:
    return number(printed.mean, printed.std, digits(unit(printed)))


def caption(table: Table) -> str:
    note = "" if table.preset == "paper" else f" — preset {table.preset}: no reproduction"
    return f"Table {table.number}: {table.caption}{note}"


def remarks(table: Table) -> list[str]:
    """Footnotes: what a reader has to know before comparing."""
    notes = [*table.remarks]
    if table.preset != "paper":
        stands = sorted(
            {f"{c.wanted.published.network} by {c.wanted.network}" for c in table.cells if _stands_in(c)}
        )
        trained = sorted({c.wanted.dataset for c in table.cells})
        notes.insert(
            0,
            f"Preset {table.preset}, trained on {', '.join(trained)} for a part of the budget, to try the machinery out.",
        )
        if stands:
            notes.insert(1, f"Networks stood in for: {', '.join(stands)}.")
    return notes


def _stands_in(cell: Cell) -> bool:
    return cell.wanted.network != cell.wanted.published.network


def grid(table: Table) -> tuple[list[str], list[tuple[str, str, dict[str, Cell]]]]:
    """The methods in the paper's order, and a row a data set and network."""
    methods: list[str] = []
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in table.cells:
        printed = cell.wanted.published
        if printed.method not in methods:
            methods.append(printed.method)
        rows.setdefault((printed.dataset, printed.network), {})[printed.method] = cell
    return methods, [(dataset, network, cells) for (dataset, network), cells in rows.items()]


def csv_text(table: Table) -> str:
    """A line a cell."""
    names = (
        "table",
        "preset",
        "dataset",
        "network",
        "method",
        "trained_dataset",
        "trained_network",
        "optimizer",
        "metric",
    )
    numbers = (
        "mean",
        "std",
        "n",
        "wanted",
        "others",
        "published_mean",
        "published_std",
        "mean_minus_published",
    )
    costs = ("epochs", "gradient_calls", *TIMES)
    return _csv((*names, *numbers, *costs), (_csv_row(table, cell) for cell in table.cells))


def _csv_row(table: Table, cell: Cell) -> tuple[object, ...]:
    wanted, printed, value = cell.wanted, cell.wanted.published, cell.estimate
    identity = (table.number, table.preset, printed.dataset, printed.network, printed.method)
    trained = (wanted.dataset, wanted.network, wanted.optimizer, unit(printed))
    measured = (_number(value.mean), _number(value.std), value.n, len(wanted.runs), cell.others)
    compared = (printed.mean, printed.std, _number(value.mean - printed.mean))
    costs = tuple(_number(cell.mean_of(name)) for name in ("epochs", "gradient_calls", *TIMES))
    return (*identity, *trained, *measured, *compared, *costs)


def runs_csv(table: Table) -> str:
    """A line a finished run: what the means are made of, for whoever wants to compute others."""
    header = (
        "dataset",
        "network",
        "method",
        "seed",
        "value",
        "epochs",
        "gradient_calls",
        *TIMES,
        "device",
        "threads",
        "commit",
    )
    return _csv(header, (row for cell in table.cells for row in _run_rows(cell)))


def _run_rows(cell: Cell) -> Iterable[tuple[object, ...]]:
    printed = cell.wanted.published
    for (seed, value), row in zip(cell.values.items(), cell.rows, strict=True):
        costs = (row["epochs"], _number(row["gradient_calls"]), *(_number(row[name]) for name in TIMES))
        made = row["made_by"]
        yield (
            printed.dataset,
            printed.network,
            printed.method,
            seed,
            _number(value),
            *costs,
            made["device"],
            made["threads"],
            made["commit"],
        )


def differences_csv(table: Table) -> str:
    """A line a comparison."""
    header = (
        "dataset",
        "network",
        "method",
        "against",
        "difference",
        "low_95",
        "high_95",
        "p",
        "p_holm",
        "n",
        "paired",
        "favours",
    )
    return _csv(header, (_difference_row(each) for each in table.comparisons))


def _difference_row(each: Comparison) -> tuple[object, ...]:
    gap, wanted = each.difference, each.first.wanted
    numbers = (_number(value) for value in (gap.mean, gap.low, gap.high, gap.p, gap.adjusted))
    return (
        wanted.published.dataset,
        wanted.published.network,
        each.method,
        each.against,
        *numbers,
        gap.n,
        gap.paired,
        each.favours,
    )


def markdown(table: Table) -> str:
    methods, rows = grid(table)
    lines = [f"**{caption(table)}**", "", f"| data | network | | {' | '.join(map(name_of, methods))} |"]
    lines.append("|---" * (3 + len(methods)) + "|")
    for dataset, network, cells in rows:
        measured = [measured_text(cells[method]) if method in cells else "" for method in methods]
        printed = [
            published_text(cells[method].wanted.published) if method in cells else "" for method in methods
        ]
        lines.append(f"| {dataset} | {network} | measured | {' | '.join(measured)} |")
        lines.append(f"| | | published | {' | '.join(printed)} |")
    if table.comparisons:
        lines += [
            "",
            "| data | network | difference | mean, 95 % interval | p (Holm) | n | better |",
            "|---" * 7 + "|",
        ]
        lines += [_difference_line(each) for each in table.comparisons]
    lines += ["", *(f"- {note}" for note in remarks(table))]
    return "\n".join(lines) + "\n"


def difference_text(each: Comparison) -> str:
    """``+0.12 [+0.02, +0.22]``."""
    gap, places = each.difference, digits(unit(each.first.wanted.published))
    if math.isnan(gap.mean):
        return "–"
    interval = "" if math.isnan(gap.low) else f" [{gap.low:+.{places}f}, {gap.high:+.{places}f}]"
    return f"{gap.mean:+.{places}f}{interval}"


def p_text(each: Comparison) -> str:
    p = each.difference.adjusted
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def better_text(each: Comparison) -> str:
    return {"method": name_of(each.method), "against": name_of(each.against), "neither": "open"}[each.favours]


def _difference_line(each: Comparison) -> str:
    printed = each.first.wanted.published
    pair = f"{name_of(each.method)} − {name_of(each.against)}"
    parts = (
        printed.dataset,
        printed.network,
        pair,
        difference_text(each),
        p_text(each),
        each.difference.n,
        better_text(each),
    )
    return f"| {' | '.join(map(str, parts))} |"


def latex(table: Table) -> str:
    """A document of its own (booktabs); what stands between the tabular's lines can be pasted anywhere."""
    methods, rows = grid(table)
    lines = [
        r"\documentclass{article}",
        r"\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}",
        r"\begin{document}",
        r"\begin{table}\centering",
        rf"\caption{{{_tex(caption(table).split(': ', 1)[1])}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{lll{'c' * len(methods)}}}",
        r"\toprule",
        rf"data & network & & {' & '.join(_tex(name_of(method)) for method in methods)} \\",
        r"\midrule",
    ]
    for dataset, network, cells in rows:
        measured = [_tex(measured_text(cells[method])) if method in cells else "" for method in methods]
        printed = [
            _tex(published_text(cells[method].wanted.published)) if method in cells else ""
            for method in methods
        ]
        lines.append(rf"{_tex(dataset)} & {_tex(network)} & measured & {' & '.join(measured)} \\")
        lines.append(rf" & & published & {' & '.join(printed)} \\")
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
    lines += [rf"\noindent {_tex(note)}\par" for note in remarks(table)]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


_TEX = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "⁻³": "$^{-3}$",
    "“": "``",
    "”": "''",
}


def _tex(text: str) -> str:
    for character, replacement in _TEX.items():
        text = text.replace(character, replacement)
    return text


def write_table(table: Table, folder: Path) -> list[Path]:
    """Writes ``tableN.{csv,md,tex}``, ``tableN_differences.csv`` and ``tableN_runs.csv``; a preset's tables carry its name."""
    stem = f"table{table.number}" + ("" if table.preset == "paper" else f"_{table.preset}")
    texts = {
        f"{stem}.csv": csv_text(table),
        f"{stem}_differences.csv": differences_csv(table),
        f"{stem}_runs.csv": runs_csv(table),
        f"{stem}.md": markdown(table),
        f"{stem}.tex": latex(table),
    }
    for name, text in texts.items():
        atomic.write(folder / name, text.encode(), several=True)
    return [folder / name for name in texts]


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
