"""timm's schedulers, Mixup, scaler and optimizers around SALR."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from salr.optim import SALR
from salr.sharpness import AscentDescent
from tests.helpers.optim import Problem
from tests.helpers.plain_loop import PlainSALR

pytest.importorskip("timm", reason="needs the extra `clients`")
from timm.data import Mixup
from timm.scheduler import create_scheduler_v2
from timm.utils import NativeScaler

OPTIONS: dict[str, Any] = {"num_epochs": 4, "warmup_epochs": 1, "warmup_lr": 0.01, "min_lr": 0.001}


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
@pytest.mark.parametrize("name", ["cosine", "tanh", "step", "multistep", "poly", "plateau"])
@pytest.mark.parametrize("by_updates", [False, True])
def test_schedulers(name: str, by_updates: bool) -> None:
    """The scheduler sets the base rate, which SALR multiplies."""
    if name == "plateau" and by_updates:
        pytest.skip("it changes the rate once an epoch")
    problem, plain = Problem(), Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1), AscentDescent(gamma=0.02))
    twin = PlainSALR(SGD(plain.parameters, lr=0.1))
    options = {**OPTIONS, "step_on_epochs": not by_updates, "updates_per_epoch": 3}
    options |= {"decay_epochs": 1, "decay_milestones": [1, 2], "patience_epochs": 0}
    schedulers = [create_scheduler_v2(each, sched=name, **options)[0] for each in (optimizer, twin.base)]
    rates = []
    for which, scheduler in enumerate(schedulers):
        torch.manual_seed(5)
        for epoch in range(4):
            for index, batch in enumerate((plain if which else problem).batches):
                if which == 0:
                    optimizer.step(lambda batch=batch: loss_of(problem.model, batch))
                else:
                    twin.measure(plain.model, lambda model, batch=batch: loss_of(model, batch))
                    twin.base.zero_grad()
                    loss_of(plain.model, batch).backward()
                    twin.step()
                scheduler.step_update(epoch * 3 + index + 1)
                rates.append((twin.base if which else optimizer).param_groups[0]["lr"])
            scheduler.step(epoch + 1, metric=1.0)
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)
    assert rates[:12] == rates[12:]
    assert len(set(rates)) > 1


def test_mixup_before_the_step() -> None:
    """Its noise is NumPy's, so it is drawn outside the closure."""
    ends = []
    for ours in (True, False):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3)).double()
        batches = [(torch.randn(4, 1, 8, 8).double(), torch.randint(3, (4,))) for _ in range(6)]
        mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=3)
        np.random.seed(7)  # noqa: NPY002 - the generator that Mixup draws from
        base = SGD(model.parameters(), lr=0.1)
        optimizer, twin = SALR(base, AscentDescent(gamma=0.02)), PlainSALR(base)
        for images, targets in batches:
            batch = mixup(images.clone(), targets)
            if ours:
                optimizer.step(lambda model=model, batch=batch: loss_of(model, batch))
            else:
                twin.measure(model, lambda model, batch=batch: loss_of(model, batch))
                base.zero_grad()
                loss_of(model, batch).backward()
                twin.step()
        ends.append([*model.state_dict().values(), torch.tensor(np.random.rand())])  # noqa: NPY002
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-11)


def test_its_scaler() -> None:
    """timm's training loop hands loss and optimizer to it; it clips."""
    problem, plain = Problem(), Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1), AscentDescent(gamma=0.02))
    twin = PlainSALR(SGD(plain.parameters, lr=0.1))
    scaler = NativeScaler(device="cpu")
    torch.manual_seed(5)
    for batch in problem.batches * 2:
        optimizer.measure(lambda batch=batch: loss_of(problem.model, batch))
        scaler(loss_of(problem.model, batch), optimizer, clip_grad=0.3, parameters=problem.parameters)
        optimizer.zero_grad()
    torch.manual_seed(5)
    for batch in plain.batches * 2:
        twin.measure(plain.model, lambda model, batch=batch: loss_of(model, batch))
        loss_of(plain.model, batch).backward()
        nn.utils.clip_grad_norm_(plain.parameters, 0.3)
        twin.step()
        twin.base.zero_grad()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)
