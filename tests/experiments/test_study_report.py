"""The study's tables and pictures: what they show of the records, and of those that are missing."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import sharpness
from experiments.records import records_of
from experiments.study import flatness, report
from experiments.study.cells import EXAMPLES, FULL, Study
from experiments.study.report import make_report
from salr.records import State
from salr.reporting.sensitivity import Point
from salr.reporting.sheets import sheet_markdown
from tests.helpers.study import finish, search, study, table, write


def test_tables_say_what_is_measured_and_what_is_not(tmp_path: Path, capsys: Any) -> None:
    small = study(tmp_path)
    make_report(small, tmp_path)
    assert "Phase 1: 0 of 18 runs have finished, and 0 of 9 methods" in capsys.readouterr().out
    assert {row["outcome"] for row in table(tmp_path, "methods").values()} == {"", "not measured"}
    search(small, "sgd", [90.0, 80.0])
    make_report(small, tmp_path)
    assert "| SGD | 0.03* | 5 | – | not measured |" in capsys.readouterr().out

    search(small, "sgd", [90.0, 80.0])
    search(small, "sam", [80.0, 90.0])
    finish(small, small.cell(FULL, "sgd"), [97.0, 98.0])
    finish(small, small.cell(FULL, "sam"), [97.5, 98.5])
    make_report(small, tmp_path)
    rows = table(tmp_path, "methods")
    assert (rows["SGD"]["mean"], rows["SGD"]["rate"], rows["SGD"]["n"]) == ("97.5", "0.03", "2")
    assert (rows["SAM"]["difference"], rows["SAM"]["against"], rows["SAM"]["comparisons"]) == (
        "0.5",
        "SGD",
        "8",
    )
    assert rows["SWA"]["outcome"] == "not measured"
    assert rows["SWA"]["command"] == ""  # its rate is open
    assert "optimizer.base.lr=0.03" in rows["SGD"]["command"]
    page = (tmp_path / "study_smoke.html").read_text()
    assert "97.50 (0.71) n=2" in page
    assert "not measured" in page
    assert ">nan<" not in page
    assert "<td>8</td><td>float32</td>" in page  # two searches at two rates, and two full cells of two seeds
    with (tmp_path / "study_smoke" / "rates.csv").open(newline="") as stream:
        chosen = [(row["method"], row["rate"]) for row in csv.DictReader(stream) if row["chosen"] == "True"]
    assert chosen == [("sgd", "0.03"), ("sam", "0.1")]


def test_flatness_is_correlated_with_the_test_error(tmp_path: Path) -> None:
    """Sharper runs err more, in Definition 1; the other way round in SAM's sharpness. Keskar's is missing."""
    small = study(tmp_path)
    for method, accuracies in {"sgd": [97.0, 96.0], "sam": [95.0, 94.0], "swa": [93.0, 92.0]}.items():
        search(small, method, [90.0, 80.0])
        cell = small.cell(FULL, method)
        finish(small, cell, accuracies)
        assert cell is not None
        for run, accuracy in zip(records_of(cell.config), accuracies, strict=True):
            values = {"ascent_descent": 100 - accuracy, "sam": accuracy, "hessian_top": 1.0}
            measured = {name: {"examples": 200, "seconds": 1.0} for name in values}
            run.write_json("sharpness.json", {**values, "measured": measured})
    make_report(small, tmp_path)
    with (tmp_path / "study_smoke" / "correlation.csv").open(newline="") as stream:
        rows = {row["measure"]: row for row in csv.DictReader(stream)}
    assert [rows[name]["rho_runs"] for name in rows] == ["", "1", "", "-1", ""]
    assert [rows[name]["runs"] for name in rows] == ["0", "6", "0", "6", "6"]
    assert [rows[name]["cells"] for name in rows] == ["0", "3", "0", "3", "3"]
    assert {rows[name]["given_loss"] for name in rows} == {"0"}  # the training loss is missing, too
    assert "not measured" in (tmp_path / "study_smoke" / "correlation.md").read_text()


def sharpness_of(small: Study, part: str, method: str, *values: dict[str, float]) -> None:
    """Write a record of each seed's final weights, with these values."""
    cell = small.cell(part, method)
    assert cell is not None
    finish(small, cell, [97.0] * len(values))
    for run, of_run in zip(records_of(cell.config), values, strict=True):
        measured = {name: {"examples": 200, "seconds": 1.0} for name in of_run}
        run.write_json("sharpness.json", {**of_run, "measured": measured})


def test_sharpness_is_compared_as_a_ratio_over_the_shared_seeds(tmp_path: Path) -> None:
    """Ratios 2 and 8 have the geometric mean 4; Student's t has one degree of freedom, 12.7062 at 95 %."""
    small = study(tmp_path)
    for method in ("sgd", "sgd_salr"):
        search(small, method, [90.0, 80.0])
    sharpness_of(small, FULL, "sgd", {"sam": 1.0, "hessian_top": 2.0}, {"sam": 3.0, "hessian_top": -1.0})
    sharpness_of(small, FULL, "sgd_salr", {"sam": 2.0, "hessian_top": 1.0}, {"sam": 24.0, "hessian_top": 1.0})
    sharpness_of(small, "fifth", "sgd", {"sam": 4.0}, {"sam": 48.0})
    make_report(small, tmp_path)
    with (tmp_path / "study_smoke" / "ratios.csv").open(newline="") as stream:
        rows = {row["against"]: row for row in csv.DictReader(stream) if row["first"] == "SGD-SALR"}
    row = rows["SGD"]
    assert float(row["sam"]) == pytest.approx(4)
    reach = math.exp(12.7062 * math.log(2))  # the deviation of log 2 and log 8 is √2 log 2
    assert float(row["sam_low_95"]) == pytest.approx(4 / reach, rel=1e-3)
    assert float(row["sam_high_95"]) == pytest.approx(4 * reach, rel=1e-3)
    assert row["sam_n"] == "2"
    as_short = rows["SGD, a fifth of the calls"]
    assert [float(as_short[name]) for name in ("sam", "sam_low_95")] == pytest.approx([0.5, 0.5])
    text = (tmp_path / "study_smoke" / "ratios.md").read_text()
    assert "| SGD-SALR / SGD | not measured | not measured | not measured | 4 [" in text
    assert "n = 2 | not defined, n = 2 |" in text


def test_the_n_of_a_measure_that_some_runs_lack_is_its_own(tmp_path: Path) -> None:
    small = study(tmp_path)
    search(small, "sgd", [90.0, 80.0])
    sharpness_of(small, FULL, "sgd", {"sam": 0.5, "ascent_descent": 0.5}, {"sam": 0.5})
    make_report(small, tmp_path)
    with (tmp_path / "study_smoke" / "flatness.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["name"] == "SGD")
    assert [row[name] for name in ("n", "sam_n", "ascent_descent_n", "hessian_top_n")] == ["2", "2", "1", "0"]
    text = (tmp_path / "study_smoke" / "flatness.md").read_text()
    assert "| SGD | 2 | 3 (0) | not measured | 0.5 n=1 | not measured | 0.5 (0) | not measured |" in text


def test_flatness_is_never_measured_on_the_test_set_whose_error_it_is_held_against() -> None:
    """The closures are asked for the training split only."""
    for name in EXAMPLES:
        splits: list[str] = []
        x = torch.ones(2, requires_grad=True)

        def loss(split: str, x: Any = x, splits: Any = splits) -> Any:
            splits.append(split)
            return lambda: (x**2).sum()

        sharpness.MEASURES[name][2](loss, [x])
        assert set(splits) == {"train"}, name
    assert {name for _, name in flatness.MEASURES.values()} == EXAMPLES.keys()


def test_tables_show_what_they_compare_with(tmp_path: Path) -> None:
    small = study(tmp_path)
    search(small, "sgd", [80.0, 90.0])
    search(small, "sgd_salr", [80.0, 90.0])
    finish(small, small.cell("fifth", "sgd"), [97.0, 97.2])
    finish(small, small.cell(FULL, "sgd_salr"), [98.0, 98.2])
    make_report(small, tmp_path)
    fifth, factor = table(tmp_path, "fifth"), table(tmp_path, "factor")
    assert fifth["SGD, a fifth of the calls"]["mean"] == "97.1"
    assert (fifth["SGD-SALR"]["difference"], fifth["SGD-SALR"]["seeds_compared"]) == ("-1", "2")
    assert factor["SGD-SALR"]["mean"] == "98.1"
    assert {row["comparisons"] for row in factor.values() if row["first"]} == {"2"}


def test_a_diverged_run_of_phase_2_decides_nothing_for_its_method(tmp_path: Path) -> None:
    full = study(tmp_path, "paper")
    for method, accuracies in {
        "sgd": [97.0, 97.1, 97.2, 97.1, 97.0],
        "sam": [98.0, 98.1, 98.2, 98.1, 98.0],
    }.items():
        search(full, method, [10.0, 20.0, 30.0, 40.0, 50.0, 20.0, 10.0])
        finish(full, full.cell(FULL, method), accuracies)
    cell = full.cell(FULL, "sam")
    assert cell is not None

    def methods() -> str:
        sgd, sam = (report._row(full, FULL, method) for method in ("sgd", "sam"))
        lines = [report.Line(sgd), report.Line(sam, sam, sgd)]
        return sheet_markdown(report._table("methods", "", lines, full))

    assert "| SAM better |" in methods()
    write(records_of(cell.config)[2], State.DIVERGED, test_accuracy=10.0)
    assert "98.05 (0.06) n=4 [1 diverged]" in methods()
    assert "| undecided: runs of SAM diverged |" in methods()


def test_a_rate_at_which_one_run_diverged_is_shown_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other run has a good accuracy, and the rate is not chosen all the same."""
    drawn: list[dict[str, list[Point]]] = []
    monkeypatch.setattr(report, "write_sheets", lambda *_: None)
    monkeypatch.setattr(report, "sensitivity", lambda curves, *_: drawn.append(curves))
    full = study(tmp_path, "paper")
    search(full, "sgd", [10.0, 20.0, 30.0, 40.0, 50.0, 99.9, 20.0])
    write(records_of(full.search_cell("sgd", 1.0).config)[0], State.DIVERGED)
    make_report(full, tmp_path)
    (curves,) = drawn
    assert full.score("sgd", 1.0) == 0
    assert curves["sgd"][-3:-1] == [Point(0.3, (50.0, 50.0)), Point(1.0, (99.9,), diverged=1)]


def test_a_rate_that_will_not_be_chosen_says_why(tmp_path: Path) -> None:
    small = study(tmp_path)
    assert small.why_no_rate("constant_for_salr", "sgd") == "not chosen yet"
    for rate in small.plan.search.rates:
        for run in records_of(small.search_cell("sam", rate).config):
            write(run, State.DIVERGED)
    assert small.why_no_rate(FULL, "sam") == "diverged at every rate"
    search(small, "sgd_salr", [95.0, 90.0])
    assert small.why_no_rate("constant_for_salr", "sgd") == "not chosen yet"
    cell = small.cell(FULL, "sgd_salr")
    assert cell is not None
    write(records_of(cell.config)[0], State.DIVERGED)
    assert small.why_no_rate("constant_for_salr", "sgd") == "no mean factor: a run diverged"


def test_what_is_changed_in_all_cells_is_in_the_headline(tmp_path: Path, capsys: Any) -> None:
    make_report(study(tmp_path), tmp_path)
    assert "Changed" not in capsys.readouterr().out
    make_report(Study("smoke", [f"results={tmp_path}", "trainer.precision=float32"]), tmp_path)
    assert "Changed in all cells: trainer.precision=float32. Phase 1" in capsys.readouterr().out


def test_only_a_rate_that_the_search_has_chosen_can_be_at_its_edge(tmp_path: Path) -> None:
    """SGD's is the smallest one; its rates for SALR's factor and for large batches are other ones."""
    small = study(tmp_path)
    search(small, "sgd", [90.0, 80.0])
    search(small, "sgd_salr", [95.0, 90.0])
    finish(small, small.cell(FULL, "sgd_salr"), [97.0, 98.0])
    make_report(small, tmp_path)
    edges = {
        (row["part"], row["method"]): (row["rate"], row["at_edge"])
        for name in ("methods", "fifth", "factor", "batches")
        for row in table(tmp_path, name).values()
    }
    assert edges[FULL, "sgd"] == ("0.03", "True")
    assert edges["constant_for_salr", "sgd"] == ("0.021", "False")
    assert edges["batch_1024", "sgd"] == ("0.06", "False")
    assert edges["constant_for_first_order", "sgd"] == ("", "False")
