"""A table of free form: what its CSV file holds, and the texts that people read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salr.records import atomic
from salr.reporting.csv_files import mappings_csv
from salr.reporting.page import Maker, embedded, makers, template


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        name: of its file.
        rows: what the CSV file holds; all have the same keys.
        columns, texts: what Markdown and the page show, a text per column and line.
        notes: what a reader has to know.
    """

    name: str
    title: str
    rows: tuple[Mapping[str, object], ...]
    columns: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def sheet_markdown(sheet: Sheet) -> str:
    """Return the table with its notes."""
    lines = [sheet.columns, ["---"] * len(sheet.columns), *sheet.texts]
    table = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([f"**{sheet.title}**", "", *table, "", *(f"- {note}" for note in sheet.notes)]) + "\n"


def write_sheets(
    sheets: Sequence[Sheet],
    folder: Path,
    page: Path,
    title: str,
    headline: str,
    notes: Sequence[str],
    figures: Mapping[str, Path],
    made: Iterable[Maker],
) -> None:
    """Write a CSV and a Markdown file per table, and the page of all of them.

    Args:
        headline: what is measured, in a sentence.
        notes: how it was measured.
        figures: PNG files by caption; they are put into the page.
        made: what has made each run, which the page counts.
    """
    for sheet in sheets:
        atomic.write(folder / f"{sheet.name}.csv", mappings_csv(sheet.rows).encode(), several=True)
        atomic.write(folder / f"{sheet.name}.md", sheet_markdown(sheet).encode(), several=True)
    text = template("sheets.html").render(
        title=title,
        headline=headline,
        notes=notes,
        sheets=sheets,
        figures=embedded(figures),
        makers=makers(made),
    )
    atomic.write(page, text.encode(), several=True)
