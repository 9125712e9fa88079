"""Ŝ beside its first-order term while a cell trains: the numbers, the files, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import attempt
from scripts import expansion
from scripts.expansion import Row, main, summarise

SMALL = ["dataset=digits", "model=mnistfc", "model.dropout=0.1"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_is_noted_summarised_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        *SMALL,
        "--iterations",
        "9",
        "--gammas",
        "1e-4",
        "0.05",
        "--rates",
        "0.01",
        "0.05",
        "--every",
        "2",
    ]
    assert main([*line, "--output", str(tmp_path)]) == 0
    name = "expansion_digits_mnistfc_sgd_salr"
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
    rows = rows_of(tmp_path / f"{name}.csv")
    assert len(rows) == 2 * 3 * 3  # rates, γ, and iterations 0, 4 and 8
    assert sorted({int(row["iteration"]) for row in rows}) == [0, 4, 8]
    small = [row for row in rows if row["gamma"] == "0.0001"]
    # Far from a minimum and with small γ the first order is all there is.
    assert all(float(row["ratio"]) == pytest.approx(1, abs=0.02) for row in small)
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(float(row["sharpness"]) / float(row["first_order"]))
    one = [row for row in rows if (row["gamma"], row["rate"]) == ("0.002", "0.05")]
    values = [float(row["sharpness"]) for row in one]
    expected = [value / np.median(values[: end + 1]) for end, value in enumerate(values)]
    assert [float(row["factor"]) for row in one] == pytest.approx(expected)
    # At the first iteration all runs are at the same parameters.
    starts = {row["first_order"] for row in rows if (row["gamma"], row["iteration"]) == ("0.002", "0")}
    assert len(starts) == 1
    summary = rows_of(tmp_path / f"{name}_summary.csv")
    assert {row["phase"] for row in summary} == {"all", "early", "late"}
    assert name in capsys.readouterr().out


def test_the_summary_takes_quantiles_and_the_correlation_of_the_factors() -> None:
    ratios = [1.0, 1.2, 0.8, 1.4, 1.0, 1.1]
    factors = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    rows = [
        Row(0.1, 0.01, at, 1.0, ratio, 1.0, ratio, factor, 2 * factor + (at == 5))
        for at, (ratio, factor) in enumerate(zip(ratios, factors, strict=True))
    ]
    whole, early, late = summarise(rows)
    assert (whole.phase, whole.measurements) == ("all", 6)
    assert whole.ratio == pytest.approx(np.median(ratios))
    assert (whole.ratio_low, whole.ratio_high) == pytest.approx(np.quantile(ratios, (0.05, 0.95)))
    others = [2 * factor + (at == 5) for at, factor in enumerate(factors)]
    assert whole.correlation == pytest.approx(np.corrcoef(factors, others)[0, 1])
    assert (early.ratio, late.ratio) == pytest.approx((1.1, 1.05))
    assert early.correlation == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["optimizer=sgd"], "optimizer=sgd does not measure Definition 1; expected one that does"),
        (["optimizer=sgd_salr_first_order"], "does not measure Definition 1"),
        (
            ["optimizer=entropy_sgd_salr"],
            "takes several batches an iteration or decays its rate; expected one",
        ),
        (["--gammas", "-1"], "-1: expected a number > 0"),
        (["--gammas", "small"], "small: expected a number > 0"),
        (["--iterations", "12", "--every", "100"], "--every 100 notes 1 times; expected at least 3"),
        (["seeds=5"], "seeds=5: without effect here; expected only dataset, model, optimizer"),
        (["results=elsewhere"], "results=elsewhere: without effect here"),
        (["trainer.epochs=1"], "trainer.epochs=1: without effect here"),
        (["dataset.budget=1"], "dataset.budget=1: without effect here"),
        (["dataset.recipe.schedule.start=1"], "dataset.recipe.schedule.start=1: without effect here"),
        (["model=nothing"], "model=nothing: unknown; choose from"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    words: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attempt(lambda: main([*words, "--output", str(tmp_path)])) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(expansion, "record", lambda *_: pytest.fail("it was trained"))
    assert attempt(lambda: main([*SMALL, "--output", str(tmp_path / "file")])) == 2
    said = capsys.readouterr().err
    assert f"cannot write to {tmp_path / 'file'}: it is not a folder" in said
    assert said.count("\n") == 1


def test_each_network_of_timm_has_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(0.1, 0.002, at, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0) for at in range(3)]
    monkeypatch.setattr(expansion, "record", lambda *_: rows)
    monkeypatch.setattr(expansion, "draw", lambda *_: None)
    for arch in ("resnet10t", "test_resnet"):
        assert main(["dataset=digits", "model=timm", f"model.arch={arch}", "--output", str(tmp_path)]) == 0
        assert (tmp_path / f"expansion_digits_timm_{arch}_sgd_salr.csv").exists()
