"""Lightning's trainer makes the run of a plain loop, with automatic and with manual optimization."""

import copy
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from salr.optim import SALR, SAM
from salr.sharpness import AscentDescent, GradientNorm
from tests.helpers.plain_loop import PlainSALR, length, plain_sam_gradient

lightning = pytest.importorskip("lightning", reason="needs the extra `clients`")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Lightning's own advice
    pytest.mark.filterwarnings("error::UserWarning:salr"),
]
INPUTS = torch.randn(72, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGETS = (INPUTS.sum(1) > 0).long() + (INPUTS[:, 0] > 0).long()
BATCHES = 6


def network(dropout: float = 0.3, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)]
    return nn.Sequential(*layers).to(dtype)


def batches(dtype: torch.dtype = torch.float64) -> DataLoader[tuple[Tensor, ...]]:
    # Its own generator: a loader draws from torch's once an epoch otherwise.
    return DataLoader(TensorDataset(INPUTS.to(dtype), TARGETS), 12, generator=torch.Generator())


def momentum(parameters: Iterable[Tensor]) -> SGD:
    return SGD(parameters, lr=0.1, momentum=0.9)


def salr(parameters: Iterable[Tensor]) -> SALR:
    return SALR(momentum(parameters), AscentDescent(gamma=0.02))


class Module(lightning.LightningModule):
    """What a user of Lightning writes."""

    def __init__(
        self,
        model: nn.Module,
        build: Callable[[Iterable[Tensor]], Optimizer] = salr,
        skipped: tuple[int, ...] = (),
        schedule: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.build, self.skipped, self.schedule = model, build, skipped, schedule
        self.logged: list[float] = []
        self.evaluations = 0

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor | None:
        if index in self.skipped:
            return None
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.model(inputs), targets)
        self.evaluations += 1
        optimizer = self.optimizers()
        if not optimizer.measuring:
            self.logged.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.build(self.model.parameters())
        if not self.schedule:
            return optimizer
        scheduler = {"scheduler": CosineAnnealingLR(optimizer, 20), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class Manual(Module):
    def __init__(self, *arguments: Any, measured: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.automatic_optimization = False
        self.measured = measured

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        inputs, targets = batch

        def closure() -> Tensor:
            return nn.functional.cross_entropy(self.model(inputs), targets)

        optimizer = self.optimizers()
        optimizer.zero_grad()
        if self.measured:
            optimizer.measure(closure)
        self.manual_backward(closure())
        optimizer.step()


def fit(module: Module, folder: Path, epochs: int = 2, checkpoint: Path | None = None, **options: Any) -> Any:
    options = {"precision": "64-true", "logger": False, "enable_checkpointing": False, **options}
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    torch.manual_seed(5)
    dtype = torch.float64 if options["precision"] == "64-true" else torch.float32
    trainer.fit(module, batches(dtype), ckpt_path=checkpoint)
    return trainer


def plain(
    model: nn.Module,
    base: Optimizer,
    epochs: int = 2,
    every: int = 1,
    clip: float | None = None,
    skipped: tuple[int, ...] = (),
    schedule: bool = False,
    autocast: bool = False,
    dtype: torch.dtype = torch.float64,
) -> PlainSALR:
    """Lightning's loop, written out."""
    optimizer = PlainSALR(base)
    scheduler = CosineAnnealingLR(base, 20) if schedule else None
    torch.manual_seed(5)
    for _ in range(epochs):
        for index, (inputs, targets) in enumerate(batches(dtype)):
            if index in skipped:
                continue

            def loss(model: nn.Module, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    return nn.functional.cross_entropy(model(inputs), targets) / every

            if index % every == 0:
                base.zero_grad()
            last = (index + 1) % every == 0 or index + 1 == BATCHES
            if last:
                optimizer.measure(model, loss)
            loss(model).backward()
            if not last:
                continue
            if clip is not None:
                clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    return optimizer


def plain_sam(model: nn.Module) -> None:
    base = momentum(model.parameters())
    torch.manual_seed(5)
    for _ in range(2):
        for inputs, targets in batches():
            plain_sam_gradient(
                model, lambda model, x=inputs, y=targets: nn.functional.cross_entropy(model(x), y), rho=0.1
            )
            base.step()


def assert_same(left: nn.Module, right: nn.Module, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    torch.testing.assert_close(left.state_dict(), right.state_dict(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_automatic_optimization(every: int, clip: float | None, tmp_path: Path) -> None:
    """Also with accumulation (the last window of an epoch is shorter) and with clipping."""
    module, model = Module(network()), network()
    fit(module, tmp_path, accumulate_grad_batches=every, gradient_clip_val=clip)
    twin = plain(model, momentum(model.parameters()), every=every, clip=clip)
    assert_same(module.model, model)
    assert abs(twin.factor - 1) > 1e-3
    assert float(module.optimizers().lr_factor) == pytest.approx(twin.factor, rel=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_the_flag_lets_each_batch_be_logged_once(tmp_path: Path) -> None:
    module = Module(network())
    fit(module, tmp_path, epochs=1)
    assert module.evaluations > BATCHES
    assert len(module.logged) == BATCHES
    model = network()
    torch.manual_seed(5)
    inputs, targets = next(iter(batches()))
    assert module.logged[0] == float(nn.functional.cross_entropy(model(inputs), targets).detach())


def test_sam(tmp_path: Path) -> None:
    module, model = Module(network(), lambda parameters: SAM(momentum(parameters), rho=0.1)), network()
    fit(module, tmp_path)
    plain_sam(model)
    assert_same(module.model, model)


def test_a_batch_that_is_skipped_is_no_iteration(tmp_path: Path) -> None:
    skipped = (1, 2, 4)
    module, model = Module(network(), skipped=skipped), network()
    fit(module, tmp_path)
    plain(model, momentum(model.parameters()), skipped=skipped)
    assert_same(module.model, model)


def test_bfloat16(tmp_path: Path) -> None:
    module = Module(network(0.0, torch.float32))
    model, without = network(0.0, torch.float32), network(0.0, torch.float32)
    fit(module, tmp_path, epochs=1, precision="bf16-mixed")
    twin = plain(model, momentum(model.parameters()), epochs=1, autocast=True, dtype=torch.float32)
    assert all(value.dtype != torch.bfloat16 for value in module.state_dict().values())
    assert float(module.optimizers().lr_factor) == pytest.approx(twin.factor, rel=1e-2)
    assert_same(module.model, model, rtol=1e-3, atol=1e-4)
    plain(without, momentum(without.parameters()), epochs=1, dtype=torch.float32)
    with pytest.raises(AssertionError):
        assert_same(module.model, without, rtol=1e-3, atol=1e-4)


def test_a_resumed_fit_is_one_that_never_stopped(tmp_path: Path) -> None:
    """With a scheduler, from a file that holds no pickled objects of this library."""
    model, first, second = (
        network(0.0),
        Module(network(0.0), schedule=True),
        Module(network(0.0), schedule=True),
    )
    # The first epoch ends between two measurements.
    for module in (first, second):
        module.build = lambda parameters: SALR(momentum(parameters), AscentDescent(gamma=0.02), interval=4)
    path = tmp_path / "end-of-first.ckpt"
    fit(first, tmp_path, epochs=1).save_checkpoint(path)
    assert "SALR" in torch.load(path, weights_only=True)["optimizer_states"][0]["param_groups"][0]
    fit(second, tmp_path, epochs=3, checkpoint=path)
    base = momentum(model.parameters())
    twin, scheduler = PlainSALR(base, interval=4), CosineAnnealingLR(base, 20)
    for _ in range(3):
        for inputs, targets in batches():

            def loss(model: nn.Module, x: Tensor = inputs, y: Tensor = targets) -> Tensor:
                return nn.functional.cross_entropy(model(x), y)

            twin.measure(model, loss)
            base.zero_grad()
            loss(model).backward()
            twin.step()
            scheduler.step()
    assert_same(second.model, model)
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_manual_optimization(tmp_path: Path) -> None:
    module, model = Manual(network()), network()
    fit(module, tmp_path)
    plain(model, momentum(model.parameters()))
    assert_same(module.model, model)


class TwoPhases(Manual):
    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        for step in (optimizer.first_step, optimizer.second_step):
            self.manual_backward(nn.functional.cross_entropy(self.model(batch[0]), batch[1]))
            step()


def test_sam_by_hand(tmp_path: Path) -> None:
    module, model = TwoPhases(network(), lambda parameters: SAM(momentum(parameters), rho=0.1)), network()
    fit(module, tmp_path)
    plain_sam(model)
    assert_same(module.model, model)


def test_what_a_method_sets_is_set_on_the_optimizer_itself(tmp_path: Path) -> None:
    """``self.optimizers()`` is Lightning's stand-in, whose class inherits from SALR."""
    module, other = Module(network()), network()
    fit(module, tmp_path)
    stand_in = module.optimizers()
    optimizer = stand_in.optimizer
    assert type(stand_in) is not SALR
    assert type(optimizer) is SALR
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.step(lambda: module.model(INPUTS).square().mean())
    assert optimizer.state_dict()["param_groups"][0]["SALR"] != saved["param_groups"][0]["SALR"]
    stand_in.load_state_dict(saved)
    assert optimizer.state_dict()["param_groups"][0]["SALR"] == saved["param_groups"][0]["SALR"]
    stand_in.add_param_group({"params": list(other.parameters())})
    assert len(optimizer.param_groups) == 2
    assert not {"_side", "_factor", "_measured"} & set(vars(stand_in))


def test_manual_optimization_without_measure(tmp_path: Path) -> None:
    """Lightning passes a closure that returns None; the norm is that of the gradients that are there."""
    module = Manual(
        network(),
        lambda parameters: SALR(momentum(parameters), GradientNorm()),
        measured=False,
    )
    model = network()
    fit(module, tmp_path)
    base = momentum(model.parameters())
    twin = PlainSALR(base)
    torch.manual_seed(5)
    for _ in range(2):
        for inputs, targets in batches():
            base.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            twin.take(length([p.grad for p in model.parameters() if p.grad is not None]))
            twin.step()
    assert_same(module.model, model)


def test_manual_optimization_warns_of_a_measurement_that_was_not_taken(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # also what this file otherwise ignores
        fit(Manual(network(), measured=False), tmp_path, epochs=1)
    assert sum("a measurement was due and has not been taken" in str(each.message) for each in said) == 1
