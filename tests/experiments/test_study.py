"""The study: its cells, how a rate is chosen, when phase 2 is planned, and what it costs."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import scripts.study
from experiments.cli import ExitCode
from experiments.records import folder_of, records_of
from experiments.request import requested
from experiments.schema import Config, ConfigError, load, plain
from experiments.study.cells import FULL, SEARCH, Study
from experiments.study.training import costs
from salr.records import State, find_runs
from tests.helpers.commands import run_script
from tests.helpers.study import finish, search, study, table, write


@pytest.mark.parametrize("preset", ["paper", "smoke"])
def test_cells_are_what_their_overrides_compose(preset: str, tmp_path: Path) -> None:
    cells = study(tmp_path, preset).everything()
    for cell in cells[::5]:
        composed = load([word for word in cell.overrides if not word.startswith("tracker")])
        expected = plain(cell.config) | {"tracker": plain(composed)["tracker"]}
        assert plain(composed) == expected
    searched = [folder_of(cell.config) for cell in cells if cell.part == SEARCH]
    assert len(set(searched)) == len(searched)


def test_every_method_makes_the_same_number_of_gradient_calls(tmp_path: Path) -> None:
    budgets: dict[str, set[float]] = {}
    for cell in study(tmp_path, "paper").everything():
        calls = round(cell.config.epochs * cell.config.optimizer.gradient_calls, 6)
        fifth = "a fifth" if calls <= 20 else "full"
        budgets.setdefault(fifth, set()).add(calls)
        short = (SEARCH, "fifth", "constant_for_salr", "first_order")
        assert (cell.part in short) == (fifth == "a fifth"), cell
    # c = 1, c = 10 and the released code take numbers of gradients that do not divide the budget.
    assert budgets == {"a fifth": {20.0}, "full": {100.0, 99.0, 100.8, 102.0}}


def test_seeds_of_phase_2_are_fresh(tmp_path: Path) -> None:
    cells = study(tmp_path, "paper").everything()
    searched = {seed for cell in cells if cell.part == SEARCH for seed in cell.config.seed_list}
    later = {seed for cell in cells if cell.part != SEARCH for seed in cell.config.seed_list}
    assert searched == {100, 101}
    assert later == set(range(5))
    assert all(cell.config.dataset.validation == (cell.part == SEARCH) for cell in cells)


def test_the_rate_with_the_highest_validation_accuracy_is_chosen_and_the_smaller_of_equal_ones(
    tmp_path: Path,
) -> None:
    small = study(tmp_path, "paper")
    search(small, "sgd", [10.0, 30.0, 70.0, 50.0, 70.0, 20.0, 10.0])
    assert small.best_rate("sgd") == 0.03
    assert not small.at_edge("sgd")
    search(small, "sam", [60.0, 50.0, 40.0, 30.0, 20.0, 10.0, 5.0])
    assert small.best_rate("sam") == 0.003
    assert small.at_edge("sam")


def test_means_of_as_many_images_are_equal_whatever_their_rounding(tmp_path: Path) -> None:
    """97.1 + 97.3 is a bit less than 97.2 + 97.2 in floating point."""
    small = study(tmp_path, "paper")
    search(small, "sgd", [10.0, 97.2, 97.2, 97.2, 10.0, 10.0, 10.0])
    for run, accuracy in zip(records_of(small.search_cell("sgd", 0.01).config), (97.1, 97.3), strict=True):
        write(run, validation_accuracy=accuracy)
    assert (97.1 + 97.3) / 2 != 97.2
    assert small.best_rate("sgd") == 0.01


def test_a_rate_at_which_one_run_diverged_is_not_chosen(tmp_path: Path) -> None:
    small = study(tmp_path, "paper")
    search(small, "sgd", [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 10.0])
    write(records_of(small.search_cell("sgd", 1.0).config)[0], State.DIVERGED, validation_accuracy=99.0)
    assert small.best_rate("sgd") == 0.3
    for rate in small.plan.search.rates:
        write(records_of(small.search_cell("sgd", rate).config)[1], State.DIVERGED)
    assert small.best_rate("sgd") is None


@pytest.mark.parametrize("state", [State.INTERRUPTED, State.FAILED])
def test_phase_2_of_a_method_waits_for_every_run_of_its_search(state: State, tmp_path: Path) -> None:
    small = study(tmp_path)
    search(small, "sgd", [80.0, 90.0])
    last = records_of(small.search_cell("sgd", 0.1).config)[-1]
    write(last, state, validation_accuracy=90.0)
    assert {cell.part for cell in small.planned()} == {SEARCH}
    write(last, validation_accuracy=90.0)
    planned = {(cell.part, cell.method, cell.rate) for cell in small.planned() if cell.part != SEARCH}
    assert planned == {
        (FULL, "sgd", 0.1),
        ("fifth", "sgd", 0.1),
        ("batch_1024", "sgd", 0.2),
        ("batch_8192", "sgd", 0.8),
        ("lenet", "sgd", 0.1),
    }


def test_the_constant_rate_is_the_best_rate_times_the_mean_factor_of_the_full_runs(tmp_path: Path) -> None:
    small = study(tmp_path)
    search(small, "sgd_salr", [95.0, 90.0])
    assert small.rate("constant_for_salr", "sgd") is None
    full = small.cell(FULL, "sgd_salr")
    finish(small, full, [97.0, 98.0])
    cell = small.cell("constant_for_salr", "sgd")
    assert cell is not None
    assert cell.config.optimizer.base.lr == pytest.approx(0.03 * 0.7)
    assert full is not None
    assert cell.config.epochs == full.config.epochs
    assert cell.config.optimizer.salr is None
    assert small.rate("constant_for_first_order", "sgd") is None


def test_cycles_of_swa_follow_its_rate(tmp_path: Path) -> None:
    averaging = study(tmp_path, "paper").search_cell("swa", 0.3).config.optimizer.averaging
    assert averaging is not None
    assert (averaging.lr_start, averaging.lr_end) == (0.15, 0.003)


def test_an_experiment_is_what_can_be_trained_now(tmp_path: Path) -> None:
    cells = requested(["experiment=study", "preset=smoke", f"results={tmp_path}"])
    assert len(cells) == 18
    search(study(tmp_path), "sgd", [80.0, 90.0])
    assert len(requested(["experiment=study", "preset=smoke", f"results={tmp_path}"])) == 23


@pytest.mark.parametrize(
    ("preset", "word"), [("short", "results=x"), ("paper", "seeds=3"), ("paper", "optimizer.base.lt=1")]
)
def test_what_the_study_cannot_have_is_refused(preset: str, word: str) -> None:
    with pytest.raises(ConfigError, match=r"expected|has no|leave it out"):
        Study(preset, [word])


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("optimizer.base.lr=0.5", "optimizer.base.lr"),
        ("optimizer.base={lr:0.5}", "optimizer.base.lr"),
        ("dataset.recipe.sgd_lr=0.5", "dataset.recipe.sgd_lr"),
        ("optimizer.averaging.lr_end=0.1", "optimizer.averaging.lr_end"),
        ("optimizer=adam", "optimizer"),
        ("optimizer.schedule.start=3", "optimizer.schedule"),
        ("model=lenet", "model"),
        ("dataset.batch_size=64", "dataset.batch_size"),
        ("dataset.budget=7", "dataset.budget"),
        ("dataset.validation=false", "dataset.validation"),
        ("trainer.epochs=1", "trainer.epochs"),
        ("optimizer.salr.gamma=0.1", "optimizer.salr.gamma"),
    ],
)
def test_what_the_study_sets_itself_is_refused(word: str, name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{word}: the study sets {name} itself; leave it out")):
        Study("paper", [word])


def test_what_all_cells_share_can_be_changed(tmp_path: Path) -> None:
    words = ["dataset=digits", "optimizer.base.weight_decay=0.1", "model.dropout=0.2", "trainer.threads=1"]
    for cell in study(tmp_path, "smoke", *words).search_cells():
        config = cell.config
        assert (config.dataset.name, config.optimizer.base.weight_decay) == ("digits", 0.1)
        assert (config.model.dropout, config.trainer.threads) == (0.2, 1)


def test_the_plan_counts_what_is_left_at_the_chosen_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.study.training.seconds_a_call", lambda plans: {})
    small = study(tmp_path)

    def left(part: str, method: str) -> list[str]:
        lines = {tuple(line.split()[:2]): line.split() for line in costs(small).splitlines()}
        return lines[part, method][2:4]

    assert left(FULL, "sgd_salr") == ["2", "2"]
    search(small, "sgd_salr", [95.0, 90.0])
    finish(small, small.cell(FULL, "sgd_salr"), [97.0, 98.0])
    finish(small, small.cell("constant_for_salr", "sgd"), [97.0])
    assert left(SEARCH, "sgd_salr") == ["2", "0"]
    assert left(FULL, "sgd_salr") == ["2", "0"]
    assert left("constant_for_salr", "sgd") == ["1", "0"]
    assert left("batch_1024", "sgd_salr") == ["1", "1"]
    finish(small, small.cell_at(FULL, "sgd", 1.0), [97.0, 98.0])  # all of a cell whose rate is open is left
    assert left("constant_for_first_order", "sgd") == ["1", "1"]


def test_costs_count_large_batches_by_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {("mnist", "mnistfc"): 0.01, ("mnist", "lenet"): 0.02}
    monkeypatch.setattr("experiments.study.training.seconds_a_call", lambda plans: seconds)
    lines = {tuple(line.split()[:2]): line.split() for line in costs(study(tmp_path, "paper")).splitlines()}
    assert lines[SEARCH, "sgd"][2:] == ["14", "14", "8,420", "117,880", "19.6", "min"]
    assert lines[FULL, "sgd"][2:] == ["5", "5", "46,800", "234,000", "39.0", "min"]
    assert lines["batch_8192", "sgd"][2:] == ["3", "3", "44,800", "134,400", "22.4", "min"]
    assert lines["lenet", "sgd"][-2:] == ["78.0", "min"]


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[Config]]:
    """A launcher whose jobs write records at once: the cells of each launch."""
    launches: list[list[Config]] = []

    def launch(jobs: Sequence[Sequence[Sequence[str]]], results: str, launching: Sequence[str]) -> None:
        configs = [load(list(words)) for job in jobs for words in job]
        launches.append(configs)
        for run in (run for config in configs for run in records_of(config)):
            write(run, validation_accuracy=90.0, test_accuracy=95.0)

    monkeypatch.setattr("experiments.sweep.launch", launch)
    monkeypatch.setattr("experiments.sweep.check_launcher", lambda launcher: None)
    seconds = {("digits", "lenet"): 0.01}
    monkeypatch.setattr("experiments.sweep.seconds_a_call", lambda plans: seconds)
    return launches


def test_a_launcher_is_handed_phase_after_phase(tmp_path: Path, launched: list[list[Config]]) -> None:
    words = ["--preset", "smoke", "--launcher", "slurm", "--skip-sharpness", "--jobs", "7"]
    assert run_script(scripts.study, [*words, "--override", f"results={tmp_path}"]) == 0
    first, second, third = launched
    assert all(config.dataset.validation for config in first)
    assert not any(config.dataset.validation for config in [*second, *third])
    assert sum(len(config.seed_list) for config in first) == 18
    # What needs the mean factor of the full runs comes last.
    assert [config.optimizer.base.lr for config in third] == [pytest.approx(0.03 * 0.7)] * 2
    rows = table(tmp_path, "methods").values()
    assert {row["n"] for row in rows} == {"2"}
    assert {row["rate"] for row in rows} == {"0.03"}  # all rates are equally good
    assert run_script(scripts.study, [*words, "--override", f"results={tmp_path}"]) == 0
    assert len(launched) == 3


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(("seed", "code"), [(100, ExitCode.FINISHED), (1, ExitCode.DIVERGED)])
def test_only_phase_2_must_not_diverge(seed: int, code: ExitCode, tmp_path: Path) -> None:
    words = ["--preset", "smoke", "--launcher", "slurm", "--skip-sharpness", "--override"]
    assert run_script(scripts.study, [*words, f"results={tmp_path}"]) == 0
    run = next(run for run in find_runs(tmp_path) if run.seed == seed)
    write(run, State.DIVERGED)
    assert run_script(scripts.study, [*words, f"results={tmp_path}"]) == code


@pytest.mark.usefixtures("launched")
def test_runs_that_fail_are_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[int] = []

    def launch(jobs: Sequence[Sequence[Sequence[str]]], results: str, launching: Sequence[str]) -> None:
        failed.append(len(jobs))
        for run in (run for job in jobs for words in job for run in records_of(load(list(words)))):
            run.write_status(State.FAILED, 0)

    monkeypatch.setattr("experiments.sweep.launch", launch)
    words = [
        "--preset",
        "smoke",
        "--launcher",
        "slurm",
        "--skip-sharpness",
        "--override",
        f"results={tmp_path}",
    ]
    assert run_script(scripts.study, words) == ExitCode.FAILED
    assert len(failed) == 1
