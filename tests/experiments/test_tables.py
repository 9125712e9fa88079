"""Tables as configurations: each printed cell has its own, presets shorten them, and an experiment is all of them or one."""

import pytest

from experiments.paper.published import optimizer_of, table_rows
from experiments.paper.tables import TABLES, cells_of, choices_of, table_cells
from experiments.schema import epochs
from experiments.schema.compose import ConfigError, load


@pytest.mark.parametrize("number", TABLES)
def test_a_tables_cells_are_the_papers(number: int) -> None:
    """Each printed cell has its configuration, and the file that the sweep is made from has no other."""
    printed = [(cell.dataset, cell.network, optimizer_of(cell)) for cell in table_rows(number)]
    assert sorted(choices_of(f"table{number}")) == sorted(printed)
    cells = table_cells(number, "paper", ["seeds=2"])
    assert [cell.config.optimizer.name for cell in cells] == [optimizer_of(cell.published) for cell in cells]


def test_presets_shorten_and_stand_in() -> None:
    paper, short, smoke = (table_cells(8, preset, ["seeds=1"]) for preset in ("paper", "short", "smoke"))
    assert [epochs(cell.config) for cell in paper[:4]] == [200, 200, 40, 40]
    assert [epochs(cell.config) for cell in short[:4]] == [20, 20, 4, 4]
    assert {(cell.config.dataset.name, epochs(cell.config)) for cell in smoke} == {("digits", 1)}


def test_an_experiment_is_all_of_its_cells_or_one() -> None:
    overrides = ["experiment=table9", "seeds=2"]
    cells = cells_of(load(overrides), overrides)
    assert [cell.optimizer.name for cell in cells] == ["smoothout", "ada_smoothout", "sgd_salr"] * 2
    overrides.append("cell=4")
    (cell,) = cells_of(load(overrides), overrides)
    assert (cell.dataset.name, cell.optimizer.name) == ("cifar100", "ada_smoothout")
    with pytest.raises(ConfigError):
        cells_of(load([*overrides[:2], "cell=6"]), [*overrides[:2], "cell=6"])


def test_a_run_is_tagged_by_every_table_that_shows_it() -> None:
    def tags(number: int, preset: str) -> dict[tuple[str, str], list[str] | None]:
        cells = (cell.config for cell in table_cells(number, preset, ["tracker.tags=[mine]"]))
        return {(cell.model.name, cell.optimizer.name): cell.tracker.tags for cell in cells}

    assert tags(2, "paper")["allcnn_bn", "sgd"] == ["mine", "table2", "table4"]
    assert tags(4, "paper")["allcnn_bn", "sgd"] == ["mine", "table2", "table4"]
    assert tags(8, "short")["resnet56", "sgd"] == ["mine", "table8-short"]
