"""Tables from records: what is finished is averaged, what is not is said."""

import csv
import io
import logging
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.paper.published import (
    CAPTIONS,
    FEW_SEEDS,
    SPREAD,
    TABLES,
    optimizer_of,
    published,
    remarks,
    table_rows,
)
from salr.records import Run
from salr.reporting.cells import Wanted
from salr.reporting.csv_files import csv_text, differences_csv, runs_csv
from salr.reporting.files import write_table
from salr.reporting.latex import latex
from salr.reporting.render import markdown
from salr.reporting.tables import Table, make_table
from tests.helpers.tables import MADE, judged, record, table

KEPT = Path(__file__).parents[2] / "results" / "reference" / "tables"


def two_methods(results: Path) -> Table:
    plain = [record(results, "sgd", seed, 98.0 + 0.1 * seed, epochs=100) for seed in range(3)]
    salr = [record(results, "sgd_salr", seed, 99.0 + 0.11 * seed) for seed in range(3)]
    return judged(table(results, {"sgd": plain, "sgd_salr": salr})).tables[0]


def test_a_cell_is_the_mean_of_its_finished_runs(tmp_path: Path) -> None:
    made = two_methods(tmp_path)
    value = made.cells[0].estimate
    assert (value.mean, value.std, value.n) == pytest.approx((98.1, 0.1, 3))
    assert all(cell.complete for cell in made.cells)
    (gap,) = made.comparisons
    assert (gap.pair.method, gap.pair.against, gap.outcome) == ("sgd_salr", "sgd", "better")
    assert gap.difference.mean == pytest.approx(1.01)


def test_what_has_not_finished_is_counted_and_never_averaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [
        record(tmp_path, "sgd", 0, 98.0),
        record(tmp_path, "sgd", 1, 10.0, state="diverged"),
        record(tmp_path, "sgd", 2, 20.0, state="failed"),
        record(tmp_path, "sgd", 3, None, state="running"),
        record(tmp_path, "sgd", 4, None, state="absent"),
        record(tmp_path, "sgd", 5, 30.0),
    ]
    summary = runs[5].folder / "summary.json"
    summary.write_bytes(summary.read_bytes().replace(b"30.0", b"31.0"))
    with caplog.at_level(logging.WARNING, logger="salr.records"):
        made = table(tmp_path, {"sgd": runs})
    cell = made.cells[0]
    assert cell.values == {0: 98.0}
    assert cell.states == {"diverged": 1, "failed": 1, "interrupted": 2, "missing": 1}
    assert not cell.complete
    assert "summary.json" in caplog.text
    assert "n=1 [1 diverged, 1 failed, 2 interrupted, 1 missing]" in markdown(made)


def test_diverged_runs_are_shown_beside_missing_ones(tmp_path: Path) -> None:
    runs = [
        record(tmp_path, "sgd", 0, 10.0, state="diverged"),
        record(tmp_path, "sgd", 1, None, state="absent"),
    ]
    assert "– [1 diverged, 1 missing]" in markdown(table(tmp_path, {"sgd": runs}))


def test_what_no_cell_asks_for_is_no_part_of_the_table(tmp_path: Path) -> None:
    """The same seeds, trained with another configuration, whose key is another."""
    wanted = [record(tmp_path, "sgd", seed, 98.0) for seed in range(2)]
    for seed in range(2):
        stranger = replace(wanted[seed], key="def")
        stranger.write_json(
            "summary.json", {**(wanted[seed].read_json("summary.json") or {}), "test_accuracy": 10.0}
        )
        stranger.write_status("finished", 20)
    (cell,) = table(tmp_path, {"sgd": wanted}).cells
    assert cell.values == {0: 98.0, 1: 98.0}


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    empty = {"sgd": [record(tmp_path, "sgd", 0, None, state="absent")], "sgd_salr": []}
    (made,) = judged(table(tmp_path, empty)).tables
    assert "| missing |" in markdown(made)
    assert made.comparisons[0].difference.n == 0
    assert "1 of 1 comparisons with this table's cells are not measured." in markdown(made)
    assert runs_csv(made).startswith("dataset,network,method,seed,value")
    rows = list(csv.DictReader(io.StringIO(csv_text(made))))
    assert (rows[0]["mean"], rows[0]["n"], rows[0]["others"]) == ("", "0", "1 missing")


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_table(two_methods(tmp_path), tmp_path / "a")]
    second = [path.read_bytes() for path in write_table(two_methods(tmp_path), tmp_path / "b")]
    assert first == second


def test_csv_numbers_are_the_records(tmp_path: Path) -> None:
    made = two_methods(tmp_path)
    row = list(csv.DictReader(io.StringIO(csv_text(made))))[1]
    assert (float(row["mean"]), int(row["n"]), float(row["epochs"])) == (pytest.approx(99.11), 3, 20)
    assert float(row["mean_minus_published"]) == pytest.approx(0.11)
    gap = next(csv.DictReader(io.StringIO(differences_csv(made))))
    assert float(gap["p_holm"]) == pytest.approx(min(1, 68 * float(gap["p"])), rel=1e-4)
    assert (gap["paired"], gap["comparisons"], gap["claims"], gap["outcome"]) == (
        "True",
        "68",
        "a b",
        "better",
    )


def test_a_preset_says_on_its_face_that_it_reproduces_nothing(tmp_path: Path) -> None:
    made = table(tmp_path, {"sgd": [record(tmp_path, "sgd", 0, 98.0)]}, preset="smoke")
    assert "preset smoke: no reproduction" in markdown(made)
    assert "no reproduction" in latex(made)
    assert next(path.name for path in write_table(made, tmp_path)) == "table1_smoke.csv"
    assert all(each.measured == 0 for each in judged(made).verdicts)


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="there is no pdflatex here (Debian's package texlive-latex-recommended)",
)
@pytest.mark.parametrize("source", ["made", *(path.name for path in sorted(KEPT.glob("*.tex")))])
def test_latex_compiles_as_it_is(source: str, tmp_path: Path) -> None:
    """A made table, and every one that the project keeps."""
    if source == "made":
        write_table(two_methods(tmp_path), tmp_path)
        source = "table1.tex"
    else:
        shutil.copy(KEPT / source, tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", source]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    assert (tmp_path / source).with_suffix(".pdf").exists()


def test_every_finished_run_is_listed_with_its_value(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(runs_csv(two_methods(tmp_path)))))
    assert [(row["method"], row["seed"], float(row["value"])) for row in rows[:2]] == [
        ("sgd", "0", 98.0),
        ("sgd", "1", 98.1),
    ]
    assert len(rows) == 6
    assert {row["commit"] for row in rows} == {MADE["commit"]}


def test_what_was_changed_stands_in_every_file(tmp_path: Path) -> None:
    """Overrides are in the caption and in the CSV, and a changed budget gives no verdict."""
    made = replace(two_methods(tmp_path), overrides=("trainer.precision=bf16",))
    assert "changed: trainer.precision=bf16" in markdown(made)
    budget = replace(two_methods(tmp_path), overrides=("trainer.epochs=1",), budget_changed=True)
    for text in (markdown(budget), latex(budget)):
        assert "budget changed, no verdict: trainer.epochs=1" in text
    row = next(csv.DictReader(io.StringIO(csv_text(budget))))
    assert row["overrides"] == "trainer.epochs=1"


def test_latex_carries_the_tables_number_and_its_differences(tmp_path: Path) -> None:
    made = replace(two_methods(tmp_path), number=7)
    assert r"\setcounter{table}{6}" in latex(made)
    assert "SGD-SALR $-$ SGD & +1.01" in latex(made)


def test_the_footnote_on_deviations_stands_where_it_is_true() -> None:
    """Table 9 averages five runs, and texts and sharpnesses have large deviations."""
    assert [number for number in TABLES if SPREAD in remarks(number)] == [1, 2, 3, 8]
    assert FEW_SEEDS in remarks(9)
    assert {cell.seeds for cell in table_rows(9)} == {5}


def test_the_papers_numbers_are_all_there() -> None:
    assert len(published()) == 130
    assert {cell.table for cell in published()} == set(range(1, 10))
    assert [optimizer_of(cell) for cell in table_rows(7)] == ["adam", "swa_adam", "entropy_adam", "adam_salr"]
    assert "ada_smoothout" in {optimizer_of(cell) for cell in table_rows(9)}


def test_war_and_peace_is_in_nats_and_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path, "war_and_peace", "lstm_char", "adam", "abc", 0)
    run.write_json(
        "summary.json", {"test_loss": 1.25, "test_perplexity": 3.49, "epochs": 50, "made_by": MADE}
    )
    run.write_status("finished", 50)
    wanted = Wanted(table_rows(7)[0], "war_and_peace", "lstm_char", "adam", (run,))
    text = markdown(make_table(7, [wanted], caption=CAPTIONS[7], remarks=remarks(7)))
    assert "1.250 n=1" in text
    assert "Nats per character" in text
    assert "nats per character" in text


def test_ten_thousand_records_are_read_in_seconds(tmp_path: Path) -> None:
    """Here it is a tenth of them. The time is not asserted."""
    runs = [record(tmp_path, "sgd", seed, 98.0) for seed in range(1000)]
    assert table(tmp_path, {"sgd": runs}).cells[0].estimate.n == 1000
