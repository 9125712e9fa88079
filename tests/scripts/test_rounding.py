"""The factor in bfloat16 beside the one in float32: what is compared, the files, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.build import build_parts, load_data
from experiments.cli import attempt
from experiments.measuring import steps
from experiments.schema import load
from salr.optim import SALR
from salr.sharpness import AscentDescent
from scripts import rounding
from scripts.rounding import InBoth, Row, main, summarise

SMALL = ["dataset=digits", "model=mnistfc"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trained(noting: bool) -> tuple[list[torch.Tensor], list[float], list[tuple[int, float, float]]]:
    """Train for four iterations; return the parameters, the sharpness of each and what was noted."""
    config = load([*SMALL, "optimizer=sgd_salr", "trainer.precision=bf16"])
    device = torch.device("cpu")
    parts = build_parts(config, 0, load_data(config, device), device)
    optimizer = parts.optimizer
    assert isinstance(optimizer, SALR)
    both = InBoth(optimizer.sharpness_measure, parts.task, 1)
    if noting:
        optimizer.sharpness_measure = both
    values = []
    for _, _loss in zip(range(4), steps(parts, 0), strict=False):
        values.append(float(optimizer.last_sharpness))
    return [parameter.detach().clone() for parameter in parts.model.parameters()], values, both.noted


def test_the_run_is_the_one_in_bfloat16() -> None:
    """Bit for bit, whatever is measured beside it."""
    parameters, values, noted = trained(noting=True)
    expected, followed, _ = trained(noting=False)
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))
    assert values == followed
    assert [bf16 for _, bf16, _ in noted] == [values[0], values[2]]
    assert all(bf16 != exact for _, bf16, exact in noted)


def test_the_other_one_is_in_float32_with_the_same_masks() -> None:
    """At the first iteration it is what Definition 1 gives without autocast."""
    *_, noted = trained(noting=True)
    config = load([*SMALL, "optimizer=sgd_salr"])
    device = torch.device("cpu")
    parts = build_parts(config, 0, load_data(config, device), device)
    assert isinstance(parts.optimizer, SALR)
    assert isinstance(parts.optimizer.sharpness_measure, AscentDescent)
    next(steps(parts, 0))
    assert noted[0][2] == pytest.approx(float(parts.optimizer.last_sharpness), rel=1e-5)


def test_a_run_is_noted_and_summarised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--iterations", "24", "--every", "2", "--output", str(tmp_path)]) == 0
    name = "rounding_digits_mnistfc_sgd_salr"
    rows = rows_of(tmp_path / f"{name}.csv")
    assert [int(row["iteration"]) for row in rows] == [0, 4, 8, 12, 16, 20]
    values = [float(row["bf16"]) for row in rows]
    expected = [value / np.median(values[: end + 1]) for end, value in enumerate(values)]
    assert [float(row["factor_bf16"]) for row in rows] == pytest.approx(expected)
    whole, early, late = rows_of(tmp_path / f"{name}_summary.csv")
    assert (whole["phase"], early["phase"], late["phase"]) == ("all", "early", "late")
    assert 0 < float(whole["std_percent"]) < 10
    assert "all" in capsys.readouterr().out


def test_the_summary_is_in_percent() -> None:
    rows = [Row(at, 1.0, 1.0, factor, 2.0) for at, factor in enumerate([2.02, 1.98, 2.0, 2.0, 2.1, 2.0])]
    whole, early, late = summarise(rows, 6)
    percents = [1.0, -1.0, 0.0, 0.0, 5.0, 0.0]
    assert whole.mean_percent == pytest.approx(np.mean(percents))
    assert whole.std_percent == pytest.approx(np.std(percents, ddof=1))
    assert (early.largest_percent, late.largest_percent) == (pytest.approx(1.0), pytest.approx(5.0))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["optimizer=sgd"], "optimizer=sgd does not measure Definition 1; expected one that does"),
        (["trainer.precision=float32"], "trainer.precision: expected none, since both precisions are"),
        (["seeds=5"], "seeds=5: without effect here; expected only dataset, model, optimizer"),
        (["--iterations", "5"], "--iterations 5 with --every 1 notes 3 times; expected at least 6"),
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
    monkeypatch.setattr(rounding, "record", lambda *_: pytest.fail("it was trained"))
    assert attempt(lambda: main([*SMALL, "--output", str(tmp_path / "file")])) == 2
    said = capsys.readouterr().err
    assert f"cannot write to {tmp_path / 'file'}: it is not a folder" in said
    assert said.count("\n") == 1


def test_each_network_of_timm_has_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(at, 1.0, 1.0, 1.0, 1.0) for at in range(6)]
    monkeypatch.setattr(rounding, "record", lambda *_: rows)
    for arch in ("resnet10t", "test_resnet"):
        assert main(["dataset=digits", "model=timm", f"model.arch={arch}", "--output", str(tmp_path)]) == 0
        assert (tmp_path / f"rounding_digits_timm_{arch}_sgd_salr.csv").exists()
