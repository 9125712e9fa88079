"""What the trainer counts, schedules, evaluates and records, on a tiny network."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import salr.training.trainer
from data import load as load_data
from experiments.build import build_parts
from experiments.schema.compose import choices, load
from experiments.schema.optimizer import MeasureName
from salr.optim import SALR, WeightAverage
from salr.records import Run
from salr.training import (
    Classification,
    Event,
    Parts,
    Trainer,
    constant,
    generator,
    multi_step_decay,
    step_decay,
    then_cyclic,
)
from tests.helpers.trainer import WRAPPERS, Batch, Points, network, of, trainer

# What is counted and recorded.


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_gradient_calls_are_those_that_the_budget_is_divided_by(optimizer: str, tmp_path: Path) -> None:
    """Losses: 2 per measurement, 0 of the gradient's norm, 1 of the released code; 1 in all for SmoothOut."""
    config = load([f"optimizer={optimizer}", "model=lenet", "dataset.batch_size=143", "trainer.epochs=1"])
    device = torch.device("cpu")
    digits = load_data("digits", tmp_path, device, batch_size=143)
    run = Run(tmp_path, "digits", "lenet", optimizer, "0123456789", 0)
    trained = Trainer(
        run, 1, lambda: build_parts(config, 0, digits, device), {}, _Silent(), lambda event: None
    )
    assert trained.train() == "finished"
    parts = config.optimizer
    losses = 5 * (parts.released is not None) + (parts.smoothout is not None)
    if parts.salr is not None and parts.salr.chosen is not MeasureName.gradient_norm:
        losses += 2 * 5
    (row,) = run.read_metrics()
    assert row["iteration"] == 10
    assert row["gradient_calls"] == parts.gradient_calls * 10
    assert row["loss_calls"] == losses


class _Silent:
    def start(self, *_: object) -> None: ...
    def log(self, *_: object) -> None: ...
    def finish(self, *_: object) -> None: ...


EVERY = {
    *("epoch", "iteration", "train_loss", "test_loss", "test_accuracy", "lr", "lr_effective"),
    *("gradient_calls", "loss_calls", "seconds", "evaluation_seconds"),
}


@pytest.mark.parametrize("passes", [1, 3])
def test_an_epoch_reports_its_speed(passes: int, tmp_path: Path) -> None:
    events: list[Event] = []
    trained = trainer(tmp_path, epochs=1, listen=events.append, batches_per_iteration=passes)
    trained.train()
    (row,) = trained.run.read_metrics()
    (told,) = [event.text for event in events if event.kind == "epoch"]
    assert told == f"{passes * 32 / row['seconds']:,.0f} images/s"


@pytest.mark.parametrize("splits", [("test",), ("validation", "test")])
@pytest.mark.parametrize("name", WRAPPERS)
def test_each_epoch_has_every_metric(name: str, splits: tuple[str, ...], tmp_path: Path) -> None:
    trained = trainer(tmp_path, splits=splits, **of(name))
    assert trained.train() == "finished"
    rows = trained.run.read_metrics()
    expected = EVERY | {f"{split}_{metric}" for split in splits for metric in ("loss", "accuracy")}
    if "SALR" in name:
        expected |= {"sharpness", "median_sharpness", "lr_factor", "lr_factor_low", "lr_factor_high"}
        expected |= {"lr_factor_mean"}
    assert [set(row) for row in rows] == [expected] * 3
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["iteration"] for row in rows] == [4, 8, 12]
    for counted in ("gradient_calls", "seconds", "evaluation_seconds"):
        assert sorted(row[counted] for row in rows) == [row[counted] for row in rows]
        assert rows[0][counted] > 0
    summary = trained.run.read_json("summary.json")
    assert summary is not None
    assert {key: summary[key] for key in rows[-1]} == rows[-1]
    assert summary["epochs"] == 3
    assert summary["parameters"] == 2 * 6 + 6 + 6 * 2 + 2
    assert set(summary["made_by"]) == {"versions", "commit", "device", "threads"}
    assert torch.__version__.startswith(summary["made_by"]["versions"]["torch"])
    assert trained.run.state() == "finished"


def test_a_training_loss_is_the_mean_of_the_iterations(tmp_path: Path) -> None:
    losses = []

    class Listening(Classification):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:  # type: ignore[override]
            loss = super().loss(model, batch)
            losses.append(loss.item())
            return loss

    trained = trainer(tmp_path, epochs=1, task=Listening())
    trained.train()
    (row,) = trained.run.read_metrics()
    assert len(losses) == 4
    assert row["train_loss"] == pytest.approx(sum(losses) / 4, rel=1e-6)
    assert (
        row["test_loss"]
        == trained.parts.task.evaluate(trained.parts.model, Points().evaluation("test"))["loss"]
    )


def test_the_last_epoch_is_kept_iteration_by_iteration(tmp_path: Path) -> None:
    trained = trainer(tmp_path, SALR, schedule=step_decay(2, None, 0.5))
    trained.train()
    trace = trained.run.read_json("iterations.json")
    last = trained.run.read_metrics()[-1]
    assert trace is not None
    assert trace["epoch"] == 3
    for name in ("sharpness", "median_sharpness", "lr_factor", "lr", "lr_effective"):
        assert len(trace[name]) == 4
    assert trace["median_sharpness"][-1] == last["median_sharpness"]
    assert last["lr"] == 0.1 * 0.5
    assert trace["lr"] == [0.1 * 0.5] * 4
    assert trace["lr_effective"] == pytest.approx([0.05 * factor for factor in trace["lr_factor"]], rel=1e-6)
    # Measured every second iteration, and held in between.
    assert trace["sharpness"][0] == trace["sharpness"][1] != trace["sharpness"][2] == trace["sharpness"][3]
    plain = trainer(tmp_path, seed=1)
    plain.train()
    assert plain.run.read_json("iterations.json") is None


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant, [1] * 16),
        (step_decay(1, 2, 0.1), [1] * 4 + [0.1] * 8 + [0.01] * 4),
        (step_decay(3, None, 0.1), [1] * 12 + [0.1] * 4),
        (multi_step_decay([1, 3], 0.5), [1] * 4 + [0.5] * 8 + [0.25] * 4),
        (then_cyclic(step_decay(1, 1, 0.5), 2, 4, 1), [1] * 4 + [0.5] * 4 + [4, 3, 2, 1] * 2),
    ],
)
@pytest.mark.parametrize("name", ["SGD", "SALR", "SALR(LocalEntropy)"])
def test_the_schedule_is_of_the_base_rate(name: str, schedule, expected: list[float], tmp_path: Path) -> None:
    """SALR multiplies it by its factor only within a step."""
    rates = []

    def watch(parts: Parts) -> None:
        step = parts.optimizer.step

        def stepping(*arguments: object) -> object:
            rates.append(parts.optimizer.param_groups[0]["lr"])
            return step(*arguments)

        parts.optimizer.step = stepping  # type: ignore[method-assign]

    trainer(tmp_path, epochs=4, schedule=schedule, prepare=watch, **of(name)).train()
    assert rates == pytest.approx([0.1 * factor for factor in expected], rel=1e-12)


def test_the_average_of_the_weights_is_evaluated(tmp_path: Path) -> None:
    ends = []

    def keep(event: Event) -> None:
        if event.kind == "epoch":
            ends.append([parameter.detach().clone() for parameter in trained.parts.model.parameters()])

    def averaged(parts: Parts) -> None:
        parts.average = WeightAverage(parts.model)

    trained = trainer(tmp_path, epochs=4, listen=keep, prepare=averaged, average_from=2)
    trained.train()
    mean = network()
    for parameter, *values in zip(mean.parameters(), *ends[2:], strict=True):
        parameter.data = torch.stack(values).mean(0)
    rows = trained.run.read_metrics()
    assert rows[-1]["test_loss"] == pytest.approx(
        Classification().evaluate(mean, Points().evaluation("test"))["loss"], rel=1e-6
    )
    assert trained.parts.average is not None
    for ours, theirs in zip(trained.parts.average.model.parameters(), mean.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    plain = trainer(tmp_path, epochs=4, seed=0)
    assert [row["test_loss"] for row in rows[:2]] != [row["test_loss"] for row in rows[2:]]
    assert plain.run.folder == trained.run.folder


@pytest.mark.parametrize("averaged", [False, True])
def test_batch_statistics_are_recomputed_on_request_and_for_an_average(
    averaged: bool, tmp_path: Path
) -> None:
    """The statistics of the evaluated network are the mean over those of the training batches."""

    def normalised() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))

    def prepare(parts: Parts) -> None:
        parts.average = WeightAverage(parts.model) if averaged else None

    def expected(model: nn.Module) -> Tensor:
        means = [model[:2](batch.inputs).mean(0) for batch in Points().evaluation("train")]
        return torch.stack(means).mean(0).detach()

    trained = trainer(tmp_path / "anew", model=normalised, prepare=prepare, recompute_statistics=not averaged)
    trained.train()
    model = trained.parts.average.model if trained.parts.average is not None else trained.parts.model
    torch.testing.assert_close(model[2].running_mean, expected(model))
    plain = trainer(tmp_path / "plain", model=normalised)
    plain.train()
    assert not torch.allclose(plain.parts.model[2].running_mean, expected(plain.parts.model), rtol=1e-3)


def test_batches_an_iteration_are_as_many_passes(tmp_path: Path) -> None:
    points = Points()
    trainer(tmp_path, epochs=2, data=points, **of("SALR(LocalEntropy)")).train()
    assert len(points.orders) == 4
    assert len({tuple(order) for order in points.orders}) == 4


# Randomness.


def test_generators_are_keyed_by_seed_purpose_and_epoch() -> None:
    """Finished records depend on these numbers: they must never change."""
    assert generator(0, "order", 0).initial_seed() == 3955691223199900983
    keys = {
        generator(seed, purpose, epoch).initial_seed()
        for seed in range(3)
        for purpose in ("order", "augmentation", "noise", "initialisation")
        for epoch in range(3)
    }
    assert len(keys) == 36


def test_the_order_is_the_seeds_whatever_is_trained(tmp_path: Path) -> None:
    orders = {}
    for place, options in enumerate(
        [
            of("SGD"),
            of("SALR"),
            of("SAM"),
            {"seed": 1},
            {"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(2, 2))},
        ]
    ):
        points = Points()
        trainer(tmp_path / str(place), data=points, **options).train()
        orders[place] = points.orders
    assert orders[0] == orders[1] == orders[2] == orders[4] != orders[3]
    assert orders[0][0] != orders[0][1]


# Events and files.


def test_the_events_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salr.training.trainer, "REPORT_SECONDS", -1)
    events: list[Event] = []
    trained = trainer(tmp_path, epochs=2, seed=5, listen=events.append)
    trained.train()
    assert {(event.seed, event.epochs) for event in events} == {(5, 2)}
    assert [event.epoch for event in events] == [0, 0.25, 0.5, 0.75, 1, 1, 1.25, 1.5, 1.75, 2, 2, 2]
    assert [event.row for event in events if event.kind == "epoch"] == trained.run.read_metrics()
    assert events[-1].state == "finished"


def test_records_are_plain_data(tmp_path: Path) -> None:
    trained = trainer(tmp_path, SALR)
    trained.train()
    assert json.loads((trained.run.folder / "summary.json").read_text())["epoch"] == 3
    assert trained.run.read_config() == {"dataset": {"name": "points"}, "seeds": [0]}


def test_kernels_are_exact_while_a_run_is_trained(tmp_path: Path) -> None:
    """float32 is float32, and convolutions add in a fixed order. Afterwards the user's choice is back."""
    cudnn, seen = torch.backends.cudnn, []

    class Looking(Classification):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:  # type: ignore[override]
            seen.append((cudnn.allow_tf32, cudnn.deterministic))
            return super().loss(model, batch)

    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = True, False
    try:
        trainer(tmp_path, epochs=1, task=Looking()).train()
        assert set(seen) == {(False, True)}
        assert (cudnn.allow_tf32, cudnn.deterministic) == (True, False)
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before
