"""The list of cells: what is done, and in which options cells differ."""

import csv
import io
import json
from pathlib import Path

import pytest

from experiments.cli import attempt
from experiments.records import record_of
from experiments.schema import load
from experiments.schema.compose import plain
from salr.records import Run
from scripts.runs import main
from tests.helpers.tables import MADE


def run(results: Path, accuracy: float | None, seed: int, *overrides: str) -> Run:
    """A run of LeNet on MNIST, finished if it has an accuracy."""
    config = load(["dataset=mnist", "model=lenet", f"results={results}", *overrides])
    made = record_of(config, seed)
    made.write_config(plain(config))
    if accuracy is not None:
        made.write_json("summary.json", {"test_accuracy": accuracy, "epochs": 1, "made_by": MADE})
    made.write_status("finished" if accuracy is not None else "interrupted", 1)
    return made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed, accuracy in enumerate((98.0, 98.2, None)):
        run(tmp_path, accuracy, seed, "optimizer=sgd")
    run(tmp_path, 97.0, 0, "optimizer=sgd", "optimizer.base.lr=0.1")
    run(tmp_path, 99.0, 0, "optimizer=sgd_salr", "trainer.workers=1")
    return tmp_path


def listed(capsys: pytest.CaptureFixture, *arguments: str) -> list[dict]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cells_are_listed_with_mean_deviation_n_and_state(
    results: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = {(row["optimizer"], row["options"]): row for row in listed(capsys, f"results={results}")}
    assert set(rows) == {
        ("sgd", "optimizer.base.lr=0.01"),
        ("sgd", "optimizer.base.lr=0.1"),
        ("sgd_salr", ""),  # no other cell to differ from
    }
    plain_sgd = rows["sgd", "optimizer.base.lr=0.01"]
    assert (plain_sgd["mean"], plain_sgd["std"]) == pytest.approx((98.1, 0.1414), abs=1e-4)
    assert (plain_sgd["n"], plain_sgd["states"]) == (2, "2 finished, 1 interrupted")
    assert rows["sgd_salr", ""]["std"] is None


def test_a_seed_without_a_readable_configuration_gives_no_option(
    results: Path, capsys: pytest.CaptureFixture
) -> None:
    """The options are those of the next seed; a cell without any has none."""
    for harmed in (
        run(results, 98.0, 0, "optimizer=sgd"),
        run(results, 97.0, 0, "optimizer=sgd", "optimizer.base.lr=0.2"),
    ):
        (harmed.folder / "config.yaml").write_text("half a fi")
    lost = run(results, 97.0, 0, "optimizer=sgd", "optimizer.base.lr=0.3")
    (lost.folder / "config.yaml").unlink()
    rows = [row for row in listed(capsys, f"results={results}") if row["optimizer"] == "sgd"]
    assert sorted((row["states"], row["options"]) for row in rows) == [
        ("1 damaged", ""),
        ("1 damaged, 1 finished, 1 interrupted", "optimizer.base.lr=0.01"),
        ("1 finished", ""),
        ("1 finished", "optimizer.base.lr=0.1"),
    ]


def test_filters_choose_runs(results: Path, capsys: pytest.CaptureFixture) -> None:
    folder = f"results={results}"
    assert [row["optimizer"] for row in listed(capsys, folder, "optimizer=sgd_salr")] == ["sgd_salr"]
    assert [row["mean"] for row in listed(capsys, folder, "optimizer.base.lr=0.1")] == [97.0]
    assert [row["states"] for row in listed(capsys, folder, "state=interrupted")] == ["1 interrupted"]
    assert listed(capsys, folder, "dataset=cifar10") == []


def test_a_filter_that_nothing_matches_leaves_nothing_for_the_next(
    results: Path, capsys: pytest.CaptureFixture
) -> None:
    assert listed(capsys, f"results={results}", "dataset=mnsit", "state=finished", "optimizer=sgd") == []
    assert attempt(lambda: main([f"results={results}", "dataset=mnsit", "optimiser=sgd"])) == 2
    assert "optimiser: no run has it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "means"),
    [("0.1", [97.0]), ("1e-1", [97.0]), ("0.10", [97.0]), ("1e-2", [98.1, 99.0]), ("0.2", []), ("fast", [])],
)
def test_numbers_are_compared_as_numbers(
    text: str, means: list[float], results: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = listed(capsys, f"results={results}", f"optimizer.base.lr={text}")
    assert sorted(row["mean"] for row in rows) == pytest.approx(means)


def test_whole_numbers_truth_and_nothing_have_their_texts(
    results: Path, capsys: pytest.CaptureFixture
) -> None:
    """Truth is no number, though Python counts with it. Only SALR's runs have a number of SALR's."""

    def found(word: str) -> int:
        return len(listed(capsys, f"results={results}", word))

    assert found("seed=0") == found("seed=0.0") == 3
    assert found("dataset.validation=false") == 3
    assert found("dataset.validation=0") == 0
    assert found("optimizer.salr.interval=2") == found("optimizer.salr.interval=2.0") == 1
    assert found("optimizer.salr.interval=null") == 2


def test_the_text_and_the_csv_have_the_same_cells(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([f"results={results}", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert main([f"results={results}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows) == 4
    assert all(row["key"] in text for row, text in zip(rows, lines[1:], strict=True))
    assert "98.10" in lines[1] + lines[2]


def test_what_cannot_be_listed_is_refused_in_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wrong = {
        "sgd": "expected name=value",
        f"results={tmp_path / 'nowhere'}": "no such folder",
        f"results={results} optimiser=sgd": "no run has it",
        f"results={results} dataset=mnist dataset=digits": "dataset is given twice",
        f"results={results} results={results}": "results is given twice",
    }
    for words, expected in wrong.items():
        assert attempt(lambda words=words: main(words.split())) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([f"results={empty}"]) == 0
    assert "no such runs" in capsys.readouterr().out
