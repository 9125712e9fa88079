"""Train with SALR in transformers' Trainer (``pip install transformers accelerate``).

The trainer calls ``backward`` itself. Only the measurement is missing, and an overridden ``training_step``
takes it.
"""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from salr.optim import SALR


class SALRTrainer(Trainer):
    def create_optimizer(self, *arguments: Any) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = SALR(torch.optim.AdamW(self.model.parameters(), lr=self.args.learning_rate))
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: Any, *arguments: Any, **options: Any) -> Tensor:
        def closure() -> Tensor:
            with self.compute_loss_context_manager():
                return self.compute_loss(model, self._prepare_inputs(inputs))

        model.train()
        self.salr.measure(closure)  # does nothing unless a measurement is due
        return super().training_step(model, inputs, *arguments, **options)

    @property
    def salr(self) -> SALR:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it once more


torch.manual_seed(0)
sizes = {"vocab_size": 20, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 2}
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
starts = torch.randint(20, (128, 1))
sentences = [{"input_ids": row, "labels": row} for row in (starts + torch.arange(16)) % 20]  # it has to count
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=3,
        learning_rate=0.01,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SALRTrainer(model, arguments, train_dataset=sentences)
    result = trainer.train()
factor = float(trainer.salr.lr_factor)
print(f"{trainer.state.global_step} steps, mean loss {result.training_loss:.3f}, factor {factor:.3f}")
