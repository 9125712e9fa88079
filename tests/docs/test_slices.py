"""Slices in the findings: which runs they are, and what share of the budget they had."""

import importlib
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.pages import DOCS


def run(dataset: str, model: str, optimizer: str, **values: object) -> dict[str, object]:
    """Return a row as ``load_runs`` gives it."""
    budget = 5 if dataset == "cifar10" else 10
    row = {"dataset": dataset, "model": model, "optimizer": optimizer, "state": "finished", "epochs": 5}
    row |= {"config.dataset.budget": budget, "gradient_calls": 1950, "made_by.device": "cpu X"}
    return row | values


RUNS = [
    run("cifar10", "resnet44", "sgd", test_accuracy=41.4),
    run("cifar10", "resnet44", "sgd", test_accuracy=41.6),
    run("cifar10", "resnet44", "sgd_salr", test_accuracy=10.0, state="running"),
    run("cifar10", "resnet18", "sgd", test_accuracy=10.0),
    run("mnist", "mnistfc", "sgd", test_accuracy=10.0),
    run("war_and_peace", "lstm_char", "adam_salr_first_order", test_loss=1.2519),
]


def test_a_slice_says_what_it_is_a_slice_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    extension = importlib.import_module("reference_slices")
    monkeypatch.setattr(extension, "load_runs", lambda _: (pd.DataFrame(RUNS), pd.DataFrame()))
    head, lines = extension.table(Path("results"))
    assert all(len(line) == len(head) for line in lines)
    assert [line[:3] for line in lines] == [
        ("resnet44, cifar10", "SGD", "2.5 %"),
        ("lstm_char, war_and_peace", "first-order Adam-SALR", "20 %"),
    ]
    assert [line[5:7] for line in lines] == [
        ("test accuracy (%) 41.50", "2"),
        ("test loss (nats per character) 1.252", "1"),
    ]
