"""The workspace of a table, judged by the specification that would be sent. Nothing is sent."""

import socket
import sys
from typing import NoReturn

import pytest

from experiments.cli import attempt
from experiments.paper.published import TABLES
from scripts.wandb_dashboard import main, workspace

LOGGED_BY_ALL = {"test_accuracy", "test_perplexity", "test_loss", "train_loss"}
"""By the methods of image or of text data sets."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("number", "preset", "expected"),
    [*((number, "paper", f"table{number}") for number in TABLES), (2, "short", "table2-short")],
)
def test_a_tables_runs_are_grouped_by_cell_with_mean_and_std(number: int, preset: str, expected: str) -> None:
    pytest.importorskip("wandb_workspaces", reason="needs wandb-workspaces: the extra dashboard")
    section = workspace(number, preset, "me", "salr")._to_model().spec.section
    (runs,) = section.run_sets
    (chosen,) = runs.filters["filters"]
    assert (chosen["key"], chosen["op"], chosen["value"]) == (
        {"section": "run", "name": "tags"},
        "IN",
        [expected],
    )
    assert [(key.section, key.name) for key in runs.grouping] == [("run", "group")]
    shown = section.panel_bank_config.sections[0].panels
    assert all((panel.config.group_agg, panel.config.group_area) == ("mean", "stddev") for panel in shown)
    bars = [panel for panel in shown if panel.view_type == "Bar Chart"]
    lines = [panel for panel in shown if "Line" in panel.view_type]
    assert len(bars) + len(lines) == len(shown)
    metrics = {
        4: ["ascent_descent", "keskar_percent"],
        5: ["test_perplexity", "test_loss"],
        6: ["test_perplexity"],
        7: ["test_loss"],
    }
    assert [panel.config.metrics for panel in bars] == [
        [metric] for metric in metrics.get(number, ["test_accuracy"])
    ]
    assert {panel.config.x_axis for panel in lines} == {"gradient_calls", "epoch"}
    drawn = {name for panel in lines for name in panel.config.metrics}
    curve = "test_perplexity" if number in (5, 6, 7) else "test_accuracy"
    assert drawn == {curve, "test_loss", "train_loss", "lr_factor", "median_sharpness"}
    assert drawn - {"lr_factor", "median_sharpness"} <= LOGGED_BY_ALL


def test_without_the_package_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert attempt(lambda: main(["1", "--entity", "me"])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "-e '.[dashboard]'" in error


def test_without_a_login_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("wandb_workspaces", reason="needs wandb-workspaces: the extra dashboard")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))
    assert attempt(lambda: main(["1", "--entity", "me"])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "wandb login" in error
