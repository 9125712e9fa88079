"""What the tables cost: runs and calls are counted, times follow from the committed calibration only."""

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from experiments.plan import duration
from tests.helpers.pages import DOCS

SECONDS = 0.01


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))
        return importlib.import_module("reference_costs")


@pytest.fixture
def calibrated(costs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets every call last the same on some devices, and on no others."""

    def calibrate(*devices: str) -> None:
        networks = [each.network for plans in costs.plans_of_tables().values() for each in plans]
        times = {
            f"{device} / {dataset} / {network} / float32 / batch 1 / 1 threads / torch 9": SECONDS
            for dataset, network in networks
            for device in devices
        }
        path = tmp_path / "calibration.json"
        path.write_text(json.dumps(times), encoding="utf-8")
        monkeypatch.setattr(costs, "CALIBRATION", path)

    return calibrate


def test_the_committed_times_are_of_every_network(costs: ModuleType) -> None:
    networks = {each.network for plans in costs.plans_of_tables().values() for each in plans}
    assert set(costs.timed("cpu").seconds) == networks


def test_one_device_takes_the_calls_times_the_time_of_one(
    costs: ModuleType, calibrated: Callable[..., None]
) -> None:
    calibrated("cpu Some Processor", "cuda Some GPU")
    head, lines = costs.costs()
    places = {name: place for place, name in enumerate(head)}
    for line, plans in zip(lines, costs.plans_of_tables().values(), strict=True):
        calls = sum(each.runs * each.gradient_calls for each in plans)
        assert float(line[places["gradient calls"]].split()[0]) == pytest.approx(calls / 1e6, abs=0.05)
        assert int(line[places["runs"]]) == costs.SEEDS * len(plans)
        assert line[places["1 CPU core"]] == line[places["1 GPU"]] == duration(calls * SECONDS)
    assert (
        costs.devices() == "CPU: Some Processor, one core, float32, torch 9. GPU: Some GPU, float32, torch 9."
    )


def test_many_devices_need_the_longest_run_and_their_share(
    costs: ModuleType, calibrated: Callable[..., None]
) -> None:
    calibrated("cpu Some Processor")
    timed = costs.timed("cpu")
    for plans in costs.plans_of_tables().values():
        calls = sum(each.left for each in plans)
        longest = max(each.gradient_calls for each in plans)
        seconds = _seconds(timed.duration(plans, costs.CLUSTER))
        least = max(longest, calls / costs.CLUSTER) * SECONDS
        assert 0.95 * least <= seconds <= 1.05 * (calls / costs.CLUSTER + longest) * SECONDS


def test_what_is_not_measured_is_said(costs: ModuleType, calibrated: Callable[..., None]) -> None:
    calibrated("cpu Some Processor")
    head, lines = costs.costs()
    assert {line[head.index("1 GPU")] for line in lines} == {costs.NOT_MEASURED}
    assert {line[head.index("GPU (ms)")] for head, lines in [costs.call_times()] for line in lines} == {
        costs.NOT_MEASURED
    }


def test_two_devices_of_a_kind_are_refused(costs: ModuleType, calibrated: Callable[..., None]) -> None:
    calibrated("cpu One", "cpu Two")
    with pytest.raises(ValueError, match="expected one device of the kind cpu"):
        costs.timed("cpu")


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+) (\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "min": 60, "h": 3600, "days": 86400, "years": 365 * 86400}[unit]
