"""Training from CUDA graphs: the same numbers as without, for every optimizer. On a CPU they are emulated."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data import load as load_data
from experiments.build import build_parts
from experiments.schema.compose import choices, load
from models import Dropout
from salr.optim import SALR
from salr.records import Run
from salr.training import Classification, NoTracker, Parts, Trainer, parts
from salr.training.captured import CapturedLoss, training_loss
from tests.helpers.graphs import emulate
from tests.helpers.trainer import Batch


@pytest.fixture
def graphs(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Each device in turn, with graphs: real ones, or emulated ones on the CPU."""
    if device.type == "cpu":
        emulate(monkeypatch)
    return device


def small(device: torch.device, last: Callable[[], nn.Module] = nn.Identity) -> nn.Module:
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), Dropout(0.5), nn.Linear(8, 3), last()]
    return nn.Sequential(*layers).to(device).train()


def batch(device: torch.device, size: int = 16) -> Batch:
    return Batch(torch.randn(size, 6, device=device), torch.randint(3, (size,), device=device))


def train(
    optimizer: str, model: str, folder: Path, device: torch.device, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, Any]], list[Tensor], Parts]:
    """Train an epoch on digits. Return the metrics but for times, and the weights and buffers."""
    monkeypatch.setattr(parts, "training_loss", loss)
    config = load([f"optimizer={optimizer}", f"model={model}", "dataset.batch_size=143", "trainer.epochs=1"])
    digits = load_data("digits", folder, device, batch_size=143)
    run = Run(folder, "digits", model, optimizer, "0123456789", 0)
    trainer = Trainer(
        run, 1, lambda: build_parts(config, 0, digits, device), {}, NoTracker(), lambda event: None
    )
    assert trainer.train() == "finished"
    rows = [
        {name: value for name, value in row.items() if "seconds" not in name} for row in run.read_metrics()
    ]
    return rows, list(trainer.parts.model.state_dict().values()), trainer.parts


def captured_loss(task: Classification, model: nn.Module, device: torch.device) -> CapturedLoss:
    return CapturedLoss(task, model)


def plain_loss(task: Classification, model: nn.Module, device: torch.device) -> Callable[[Batch], Tensor]:
    return lambda batch: task.loss(model, batch)


CASES = [("lenet", optimizer) for optimizer in choices("optimizer")]
CASES += [(model, optimizer) for model in ("mnistfc", "resnet18") for optimizer in ("sgd_salr", "sam")]


@pytest.mark.parametrize(("model", "optimizer"), CASES)
def test_a_run_is_bit_for_bit_the_same(
    model: str, optimizer: str, tmp_path: Path, graphs: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, weights, _ = train(optimizer, model, tmp_path / "a", graphs, plain_loss, monkeypatch)
    others, theirs, built = train(optimizer, model, tmp_path / "b", graphs, captured_loss, monkeypatch)
    assert built.loss._captured  # type: ignore[attr-defined]
    assert others == rows
    for mine, its in zip(weights, theirs, strict=True):
        assert torch.equal(mine, its)


def test_a_replay_reads_the_present_parameters_and_batch(graphs: torch.device) -> None:
    model, task = small(graphs), Classification()
    model[3].p = 0.0
    loss, parameters = CapturedLoss(task, model), list(model.parameters())
    for _ in range(3):
        some = batch(graphs)
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(torch.randn_like(parameter))
        value = loss(some)
        taken = [parameter.grad for parameter in parameters]
        model.zero_grad()
        expected = task.loss(model, some)
        expected.backward()
        assert torch.equal(value, expected.detach())
        for parameter, gradient in zip(parameters, taken, strict=True):
            assert gradient is not None
            assert torch.equal(gradient, parameter.grad)


def test_a_gradient_outlives_the_next_replay(graphs: torch.device) -> None:
    model = small(graphs)
    loss = CapturedLoss(Classification(), model)
    value = loss(batch(graphs))
    gradient = model[0].weight.grad
    kept = value.clone(), gradient.clone()
    loss(batch(graphs))
    assert torch.equal(value, kept[0])
    assert torch.equal(gradient, kept[1])


def test_a_capture_changes_neither_buffers_nor_gradients_nor_noise(graphs: torch.device) -> None:
    """It evaluates several times; only the replay that follows counts."""
    model, some = small(graphs), batch(graphs)
    loss = CapturedLoss(Classification(), model)
    torch.manual_seed(1)
    loss(some)
    assert int(model[1].num_batches_tracked) == 1
    after = torch.rand(3, device=graphs)
    torch.manual_seed(1)
    Classification().loss(model, some)
    assert torch.equal(after, torch.rand(3, device=graphs))


def test_each_replay_draws_new_masks(graphs: torch.device) -> None:
    model, some = small(graphs), batch(graphs)
    loss = CapturedLoss(Classification(), model)
    with torch.no_grad():
        assert len({float(loss(some)) for _ in range(5)}) == 5


def test_a_batch_of_another_shape_is_run(graphs: torch.device) -> None:
    model = small(graphs)
    loss = CapturedLoss(Classification(), model)
    assert not loss(batch(graphs)).requires_grad
    assert loss(batch(graphs, 5)).requires_grad
    assert not loss(batch(graphs)).requires_grad


def test_a_frozen_or_unused_parameter_has_no_gradient(graphs: torch.device) -> None:
    model = small(graphs)
    model[0].weight.requires_grad_(False)
    model.unused = nn.Linear(1, 1, device=graphs)
    model.forward = lambda x: model[4](model[:4](x))
    CapturedLoss(Classification(), model)(batch(graphs))
    assert model[0].weight.grad is None
    assert model.unused.weight.grad is None
    assert model[4].weight.grad is not None


class _Reading(nn.Module):
    """A layer whose forward pass reads a value, so that the host waits for the device."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.detach().sum()) > 0 else -x


def test_a_network_that_cannot_be_captured_is_run_with_one_warning(graphs: torch.device) -> None:
    model, some = small(graphs, _Reading), batch(graphs)
    model[3].p = 0.0
    loss = CapturedLoss(Classification(), model)
    with pytest.warns(UserWarning, match="cannot be captured in a CUDA graph") as caught:
        first = loss(some)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = loss(some)
    assert len(caught) == 1
    assert first.requires_grad
    assert torch.equal(first, second)


def test_only_what_can_be_captured_is(device: torch.device) -> None:
    model = small(device)
    is_captured = isinstance(training_loss(Classification(), model, device), CapturedLoss)
    assert is_captured == (device.type == "cuda")
    model.reset_state = lambda: None
    assert not isinstance(training_loss(Classification(), model, torch.device("cuda")), CapturedLoss)


def test_steps_from_graphs_do_not_wait_for_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: an emulated graph cannot wait for one")
    device = torch.device("cuda")
    model = small(device)
    loss, batches = CapturedLoss(Classification(), model), [batch(device) for _ in range(4)]
    optimizer: Any = SALR(torch.optim.SGD(model.parameters(), lr=0.1, fused=True))
    for some in batches:  # captures
        optimizer.step(lambda some=some: loss(some))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for some in batches:
            optimizer.step(lambda some=some: loss(some))
    finally:
        torch.cuda.set_sync_debug_mode("default")
