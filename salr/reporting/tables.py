"""The paper's tables as measured, from records only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from salr.reporting.cells import Cell, Wanted, measure
from salr.reporting.comparisons import Comparison
from salr.reporting.published import Published
from salr.reporting.statistics import Estimate


@dataclass(frozen=True)
class Table:
    """A table as far as the records fill it.

    Attributes:
        preset: ``paper``, or the name of a shorter one.
        remarks: footnotes.
        overrides: what was changed in all cells, as far as it changes their numbers.
        budget_changed: whether the overrides change how long the runs train.
        comparisons: of its cells, once the tables have been judged.
    """

    number: int
    cells: tuple[Cell, ...]
    preset: str
    caption: str
    remarks: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    budget_changed: bool = False
    comparisons: tuple[Comparison, ...] = ()

    @property
    def conclusive(self) -> bool:
        """Whether the table says anything about the paper: its budgets are the paper's."""
        return self.preset == "paper" and not self.budget_changed


def make_table(
    number: int,
    wanted: Iterable[Wanted],
    preset: str = "paper",
    caption: str = "",
    remarks: Sequence[str] = (),
) -> Table:
    """Read the records. Only finished runs are averaged."""
    cells = tuple(measure(cell, preset) for cell in wanted)
    return Table(number, cells, preset, caption, tuple(remarks))


def printed_table(number: int, published: Iterable[Published]) -> Table:
    """Return the table as if the paper's means, deviations and numbers of seeds were measured."""
    cells = tuple(
        Cell(
            Wanted(cell, cell.dataset, cell.network, cell.method, ()),
            Estimate(cell.mean, cell.std, cell.seeds),
            {},
            {},
            (),
        )
        for cell in published
    )
    return Table(number, cells, "paper", "", ())


def by_place(table: Table) -> dict[tuple[str, str], dict[str, Cell]]:
    """Return the cells by data set and network, then by method, in the paper's order."""
    places: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in table.cells:
        printed = cell.wanted.published
        places.setdefault((printed.dataset, printed.network), {})[printed.method] = cell
    return places
