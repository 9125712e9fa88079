"""The script that makes tables, figures and the page."""

from pathlib import Path

import pytest

from experiments.cli import ExitCode, attempt
from experiments.report import make_report
from scripts.report import main
from tests.helpers.tables import synthetic_records


def test_what_is_missing_is_said_and_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """An incomplete table is no failure of ``make report``."""
    synthetic_records(tmp_path, [9], ["seeds=1"], epochs=1)
    assert main(["8", "9", "--seeds", "1", "--override", f"results={tmp_path}"]) == ExitCode.FINISHED
    output = capsys.readouterr().out
    assert "incomplete: table 8: 0 of 8 runs, 0 of 8 cells complete" in output
    assert "incomplete: table 9" not in output
    assert "6 of 130 published cells are measured" in output
    assert "(e) SGD-SALR beats SmoothOut. Open: supported in 0 of 4 comparisons" in output
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "report.html", "runs", "tables"}


@pytest.mark.parametrize("word", ["accuracy=1", "accuracy_percent=0", "accuracy_percent=nan", "nats"])
def test_an_impossible_margin_is_refused(word: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--margin", word])
    assert refusal.value.code == ExitCode.BAD_INPUT
    assert "expected METRIC=VALUE > 0" in capsys.readouterr().err


def test_an_impossible_table_is_refused(tmp_path: Path) -> None:
    assert attempt(lambda: main(["10", "--override", f"results={tmp_path}"])) == ExitCode.BAD_INPUT
    assert not list(tmp_path.iterdir())


def test_only_tables_with_a_chosen_network_are_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    overrides = ["seeds=1", f"results={tmp_path}"]
    missing = make_report([1, 9], "smoke", overrides, tmp_path, ["lenet"])
    assert missing == ["table 1: 0 of 5 runs, 0 of 5 cells complete"]
    assert "incomplete: table 9" not in capsys.readouterr().out
    assert not list((tmp_path / "tables").glob("table9*"))
