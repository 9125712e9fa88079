"""Tables as LaTeX documents."""

from collections.abc import Sequence

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

_PREAMBLE = [
    r"\documentclass{article}",
    r"\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{amssymb,booktabs,graphicx,longtable}",
    r"\begin{document}",
]

_TEX = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "⁻³": "$^{-3}$",
    "“": "``",
    "”": "''",
}


def latex(table: Table) -> str:
    """Return a document of its own (booktabs); the tabulars can be pasted anywhere."""
    methods = methods_of(table)
    lines = [
        *_PREAMBLE,
        rf"\setcounter{{table}}{{{table.number - 1}}}",
        r"\begin{table}\centering",
        rf"\caption{{{_tex(caption(table).split(': ', 1)[1])}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{lll{'c' * len(methods)}}}",
        r"\toprule",
        _row(["data", "network", "", *map(name_of, methods)]),
        r"\midrule",
    ]
    for (dataset, network), cells in by_place(table).items():
        shown = [cells.get(method) for method in methods]
        measured = ["" if cell is None else measured_text(cell) for cell in shown]
        printed = ["" if cell is None else published_text(cell.wanted.published) for cell in shown]
        lines += [_row([dataset, network, "measured", *measured]), _row(["", "", "published", *printed])]
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}", *_differences(table)]
    lines += [rf"\noindent {_tex(note)}\par" for note in remarks(table)]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def _differences(table: Table) -> list[str]:
    """Return the comparisons as a table that may be longer than a page; a line if there are none."""
    missing = not_measured_text(table)
    lines = [rf"\noindent {_tex(missing)}\par"] if missing else []
    if not (comparisons := measured_comparisons(table)):
        return lines
    return [
        r"{\scriptsize\setlength{\tabcolsep}{2pt}",
        r"\begin{longtable}{@{}lllllllp{2.6cm}@{}}",
        r"\toprule",
        _row(COMPARED),
        r"\midrule\endhead",
        *(_row(compared(each)) for each in comparisons),
        r"\bottomrule",
        r"\end{longtable}}",
        *lines,
    ]


def _row(texts: Sequence[str]) -> str:
    return rf"{' & '.join(map(_tex, texts))} \\"


def _tex(text: str) -> str:
    for character, replacement in _TEX.items():
        text = text.replace(character, replacement)
    # A bracket at the start of a row would be read as an argument of the line break before it.
    return f"{{}}{text}" if text.startswith("[") else text
