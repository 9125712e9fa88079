"""A table's files."""

from pathlib import Path

from salr.records import atomic
from salr.reporting.csv_files import csv_text, differences_csv, runs_csv
from salr.reporting.latex import latex
from salr.reporting.render import markdown
from salr.reporting.tables import Table


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write ``tableN.{csv,md,tex}``, ``tableN_differences.csv`` and ``tableN_runs.csv``.

    The files of a preset carry its name.

    Returns:
        The paths.
    """
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
