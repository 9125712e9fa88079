"""The bench: it times every optimizer of the library, and its counts are those of the methods."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import salr.optim
from salr.costs import ascent_descent_cost, gradient_calls, released_cost
from scripts.bench import __main__ as bench
from scripts.bench.contestants import CONTESTANTS
from scripts.bench.subjects import Subject, multilayer


@pytest.fixture
def small() -> Subject:
    return multilayer(4, False, torch.device("cpu"))


def expected() -> dict[str, tuple[float, float]]:
    """Return the gradients and the losses per iteration, by contestant; ``c`` is 2 and ``n1 = n2 = 5``."""
    salr_gradients = gradient_calls(1, ascent_descent_cost(5, 5), 2, at_parameters=True)
    released = released_cost(5, 5)
    return {
        "plain SGD": (1, 0),
        "our SGD": (1, 0),
        "our SALR": (salr_gradients, 1),
        "our SALR on nn.Dropout": (salr_gradients, 1),
        "our first-order SALR": (1, 0),
        "our released SALR": (gradient_calls(1, released, 2, at_parameters=False), released.losses / 2),
        "literal SALR": (1 + 10 / 2, 1),
        "our Entropy-SGD": (5, 0),
        "our Entropy-SGD with two-point noise": (5, 0),
        "our SmoothOut": (1, 0),
        "our adaptive SmoothOut": (1, 0),
        "our SAM": (2, 0),
        "published SAM": (2, 0),
        "our adaptive SAM": (2, 0),
        "published adaptive SAM": (2, 0),
    }


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_contestant_makes_the_evaluations_of_its_method(name: str, small: Subject) -> None:
    assert bench._counts(small, CONTESTANTS[name]) == expected()[name]


def test_every_optimizer_of_the_library_is_timed(monkeypatch: pytest.MonkeyPatch, small: Subject) -> None:
    """A class of ``salr.optim`` that no contestant builds is a row that is missing."""
    wrappers = [
        value for value in vars(salr.optim).values() if isinstance(value, type) and _is_wrapper(value)
    ]
    built = set()
    for wrapper in wrappers:
        begin = wrapper.__init__

        def recorded(self: object, *args: object, _begin=begin, **options: object) -> None:
            built.add(type(self))
            _begin(self, *args, **options)

        monkeypatch.setattr(wrapper, "__init__", recorded)
    for build in CONTESTANTS.values():
        build(small)
    assert built == set(wrappers)
    assert len(wrappers) >= 5


def _is_wrapper(value: type) -> bool:
    return issubclass(value, salr.optim.Wrapper) and value is not salr.optim.Wrapper


def test_a_row_per_contestant_goes_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, small: Subject, tmp_path: Path
) -> None:
    def interleaved(steps: dict, _device: object, _budget: float) -> dict[str, list[float]]:
        return {name: [1e-3 * (number + 1)] for number, name in enumerate(steps)}

    monkeypatch.setattr(bench, "subject", lambda *_: small)
    monkeypatch.setattr(bench, "_interleaved", interleaved)
    monkeypatch.setattr(bench, "_memory", lambda *_: 1.0)
    assert bench.main(["--networks", "lenet", "--only-networks", "--output", str(tmp_path)]) == 0
    rows = list(_rows(tmp_path))
    assert [row["contestant"] for row in rows] == list(CONTESTANTS)
    assert [float(row["ratio_to_plain_sgd"]) for row in rows] == list(range(1, len(rows) + 1))
    assert {(row["contestant"], float(row["gradients"])) for row in rows} == {
        (name, counts[0]) for name, counts in expected().items()
    }
    assert all(row["threads"] == "1" and row["torch"] == torch.__version__.split("+")[0] for row in rows)


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    (path,) = folder.glob("step_*_float32.csv")
    with path.open(newline="") as stream:
        yield from csv.DictReader(stream)
