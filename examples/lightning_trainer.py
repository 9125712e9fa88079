"""Train with SALR in Lightning (``pip install lightning``), with automatic and with manual optimization."""

import tempfile

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from salr.optim import SALR


class Automatic(lightning.LightningModule):
    """Lightning hands the optimizer a closure, so nothing changes but the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))
        self.losses: list[Tensor] = []

    def loss(self, batch: list[Tensor]) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.model(inputs), targets)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = self.loss(batch)
        if not self.optimizers().measuring:  # a measurement evaluates more losses; log one for each batch
            self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return SALR(torch.optim.SGD(self.parameters(), lr=0.1))


class Manual(Automatic):
    """The module calls ``backward`` itself, so that only the measurement needs a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], index: int) -> None:
        optimizer = self.optimizers()
        optimizer.measure(lambda: self.loss(batch))  # does nothing unless a measurement is due
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        self.losses.append(loss.detach())


torch.manual_seed(0)
inputs = torch.randn(512, 20)
targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
for kind in (Automatic, Manual):
    module = kind()
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=5,
            accelerator="cpu",
            default_root_dir=folder,
            enable_model_summary=False,
            **quiet,
        )
        trainer.fit(module, DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=True))
    loss = torch.stack(module.losses[-8:]).mean()
    factor = float(module.optimizers().lr_factor)
    print(f"{kind.__name__}: {len(module.losses)} steps, loss {loss:.3f}, factor {factor:.3f}")
