"""What a gradient call takes is timed for what is left, and for that alone."""

from pathlib import Path

import pytest

from experiments import calibrate
from experiments.plan import plan, text
from experiments.records import records_of
from experiments.schema import load


def test_a_finished_cell_does_not_make_the_others_of_its_network_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_measure", lambda config, device: 0.5)
    cells = [
        [f"optimizer={name}", "seeds=1", f"results={tmp_path / 'results'}"] for name in ("sgd", "adam", "sam")
    ]
    for run in records_of(load(cells[0])):
        run.write_status("diverged", 1)
    plans = plan(map(load, cells))
    assert [cell.done for cell in plans] == [1, 0, 0]
    seconds = calibrate.seconds_a_call(plans)
    assert seconds == {("digits", "mnistfc"): 0.5}
    assert "on 1" in text(plans, seconds)
    assert calibrate.seconds_a_call(plans[:1]) == {}
