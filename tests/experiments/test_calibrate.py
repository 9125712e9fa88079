"""A gradient call is timed only for networks that have something left."""

from pathlib import Path

import pytest

from experiments import calibrate
from experiments.plan import plan
from experiments.records import records_of
from experiments.schema import Cell, load
from salr.records import State


def test_a_network_is_timed_once_if_one_of_its_cells_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate, "_measure", lambda config, device: 0.5)
    words = [
        (f"optimizer={name}", "seeds=1", f"results={tmp_path / 'results'}") for name in ("sgd", "adam", "sam")
    ]
    cells = [Cell(load(each), each) for each in words]
    for run in records_of(cells[0].config):
        run.write_status(State.DIVERGED, 1)
    plans = plan(cells)
    assert [cell.done for cell in plans] == [1, 0, 0]
    assert calibrate.seconds_a_call(plans) == {("digits", "mnistfc"): 0.5}
    assert capsys.readouterr().out == "timing digits mnistfc (1 of 1)\n"
    assert calibrate.seconds_a_call(plans[:1]) == {}
    # It is kept.
    monkeypatch.setattr(calibrate, "_measure", lambda config, device: 7.0)
    assert calibrate.seconds_a_call(plans) == {("digits", "mnistfc"): 0.5}


def test_real_iterations_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "BUDGET", 0.05)
    words = ("seeds=1", f"results={tmp_path}")
    (seconds,) = calibrate.seconds_a_call(plan([Cell(load(words), words)])).values()
    assert seconds > 0
