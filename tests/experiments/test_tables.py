"""Tables as configurations: every printed cell has one, presets shorten them, experiments are all of them."""

import pytest

from experiments.paper.published import TABLES, optimizer_of, table_rows
from experiments.paper.tables import cells_of_tables, choices_of, table_cells
from experiments.request import requested
from experiments.schema import ConfigError, plain


@pytest.mark.parametrize("number", TABLES)
def test_a_tables_cells_are_the_papers(number: int) -> None:
    """Each printed cell has its configuration, and the file that the sweep is made from has no other."""
    printed = [(cell.dataset, cell.network, optimizer_of(cell)) for cell in table_rows(number)]
    assert sorted(choices_of(f"table{number}")) == sorted(printed)
    cells = table_cells(number, "paper", ["seeds=2"])
    assert [cell.config.optimizer.name for cell in cells] == [optimizer_of(cell.published) for cell in cells]


def test_presets_shorten_and_stand_in() -> None:
    paper, short, smoke = (table_cells(8, preset, ["seeds=1"]) for preset in ("paper", "short", "smoke"))
    assert [cell.config.epochs for cell in paper[:4]] == [200, 200, 40, 40]
    assert [cell.config.epochs for cell in short[:4]] == [20, 20, 4, 4]
    assert {(cell.config.dataset.name, cell.config.epochs) for cell in smoke} == {("digits", 1)}


def test_an_experiment_is_all_of_its_cells() -> None:
    cells = requested(["experiment=table9", "seeds=2"])
    assert [cell.config.optimizer.name for cell in cells] == ["smoothout", "ada_smoothout", "sgd_salr"] * 2
    assert {cell.config.dataset.name for cell in cells[3:]} == {"cifar100"}
    short = requested(["experiment=table9", "seeds=2", "preset=short"])
    assert [cell.config.epochs for cell in short[:3]] == [20, 20, 4]
    with pytest.raises(ConfigError, match="table10"):
        requested(["experiment=table10"])


def test_the_cells_of_all_tables_are_those_of_each() -> None:
    """However many tables are asked for together."""
    together = cells_of_tables(TABLES, "paper", ["seeds=2"])
    for number in (5, 9):
        alone = table_cells(number, "paper", ["seeds=2"])
        assert [plain(cell.config) for cell in together[number]] == [plain(cell.config) for cell in alone]
        assert [cell.published for cell in together[number]] == [cell.published for cell in alone]


def test_a_run_is_tagged_by_every_table_that_shows_it() -> None:
    def tags(number: int, preset: str) -> dict[tuple[str, str], list[str] | None]:
        cells = (cell.config for cell in table_cells(number, preset, ["tracker.tags=[mine]"]))
        return {(cell.model.name, cell.optimizer.name): cell.tracker.tags for cell in cells}

    assert tags(2, "paper")["allcnn_bn", "sgd"] == ["mine", "table2", "table4"]
    assert tags(4, "paper")["allcnn_bn", "sgd"] == ["mine", "table2", "table4"]
    assert tags(8, "short")["resnet56", "sgd"] == ["mine", "table8-short"]


def test_no_rate_decays_in_a_short_run() -> None:
    """As the documentation of the presets says."""
    cells = [cell.config for table in cells_of_tables(TABLES, "short", []).values() for cell in table]
    decaying = [
        (cell.epochs, cell.optimizer.schedule) for cell in cells if cell.optimizer.schedule is not None
    ]
    assert len(decaying) > 10
    for epochs, schedule in decaying:
        assert epochs <= min([schedule.start] if schedule.milestones is None else schedule.milestones)
