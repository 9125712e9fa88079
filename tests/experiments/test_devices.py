"""The devices that a cell's runs are trained on."""

import pytest
import torch

from experiments.build import devices_of
from experiments.schema import load


@pytest.fixture
def three_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's answers on a machine with three; nothing is computed on them."""
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 3)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("auto", ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", ["cuda:1"]),
        ("cpu", ["cpu"]),
    ],
)
def test_runs_are_spread_over_all_accelerators_unless_one_is_named(
    chosen: str, expected: list[str], three_accelerators: None
) -> None:
    assert [str(device) for device in devices_of(load([f"trainer.device={chosen}"]))] == expected


def test_a_machine_without_an_accelerator_has_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert devices_of(load([])) == [torch.device("cpu")]
