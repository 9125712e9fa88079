"""transformers' Trainer, with the few lines that measure, makes the run of a plain loop."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from salr.optim import SALR
from salr.sharpness import AscentDescent, GradientNorm, Measure
from tests.helpers.plain_loop import PlainSALR, length

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="needs the extra `clients`")
pytest.importorskip("accelerate", reason="needs the extra `clients`")

RATE, CLIP, BATCH, STEPS = 0.05, 0.5, 4, 8


def language_model() -> Any:
    torch.manual_seed(3)
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    off = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends, **off))


def sentences(count: int) -> list[dict[str, Tensor]]:
    """Of different lengths in tokens that count, so that the mean over a window is none over its batches."""
    words = torch.randint(11, (count, 8), generator=torch.Generator().manual_seed(1))
    labels = words.clone()
    for row, label in enumerate(labels):
        label[: row % 5] = -100
    return [{"input_ids": row, "labels": label} for row, label in zip(words, labels, strict=True)]


def momentum(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=RATE, momentum=0.9)


class Trainer(transformers.Trainer):
    """What a user writes: ``measure`` before each training step, or after it from its gradients."""

    measure: type[Measure] | None = None

    def create_optimizer(self, *arguments: Any) -> Any:
        if self.optimizer is None:
            measure = AscentDescent(gamma=0.02) if self.measure is None else self.measure()
            self.optimizer = SALR(momentum(self.model), measure)
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: Any, *arguments: Any, **options: Any) -> Tensor:
        def closure() -> Tensor:
            with self.compute_loss_context_manager():
                return self.compute_loss(model, self._prepare_inputs(inputs))

        model.train()
        if self.measure is None:
            self.salr.measure(closure)
        loss = super().training_step(model, inputs, *arguments, **options)
        if self.measure is not None and self.accelerator.sync_gradients:
            self.salr.measure()
        return loss

    @property
    def salr(self) -> SALR:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it once more


def trainer(folder: Path, accumulation: int = 1, **options: Any) -> Trainer:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulation,
        max_steps=STEPS,
        max_grad_norm=CLIP,
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **{"save_strategy": "no", **options},
    )
    # Two epochs.
    return Trainer(language_model(), arguments, train_dataset=sentences(BATCH * accumulation * STEPS // 2))


def plain(accumulation: int, measures: bool = True) -> tuple[nn.Module, PlainSALR]:
    model = language_model()
    base = momentum(model)
    optimizer, scheduler = PlainSALR(base), LambdaLR(base, lambda step: max(0.0, 1 - step / STEPS))
    examples = sentences(BATCH * accumulation * STEPS // 2) * 2
    batches = [
        {name: torch.stack([example[name] for example in examples[i : i + BATCH]]) for name in examples[i]}
        for i in range(0, len(examples), BATCH)
    ]
    for step in range(STEPS):
        window = batches[step * accumulation : (step + 1) * accumulation]
        if measures:
            optimizer.measure(model, lambda model, batch=window[0]: model(**batch).loss)
        base.zero_grad()
        # Each token that counts weighs the same over the whole window. The trainer divides by a number that
        # includes the first token of a row, which nothing predicts.
        tokens = [int((batch["labels"][:, 1:] != -100).sum()) for batch in window]
        divisor = sum(int((batch["labels"] != -100).sum()) for batch in window)
        for batch, count in zip(window, tokens, strict=True):
            (model(**batch).loss * count / divisor).backward()
        if not measures:
            optimizer.take(length([p.grad for p in model.parameters() if p.grad is not None]))
        clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        scheduler.step()
    return model, optimizer


def assert_same(left: nn.Module, right: nn.Module) -> None:
    torch.testing.assert_close(left.state_dict(), right.state_dict(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_trainer(accumulation: int, tmp_path: Path) -> None:
    ours = trainer(tmp_path, accumulation)
    ours.train()
    model, twin = plain(accumulation)
    assert_same(ours.model, model)
    assert abs(twin.factor - 1) > 1e-3
    assert float(ours.salr.last_sharpness) == pytest.approx(twin.measured[-1], rel=1e-3)
    assert float(ours.salr.lr_factor) == pytest.approx(twin.factor, rel=1e-3)


def test_a_resumed_run_is_one_that_never_stopped(tmp_path: Path) -> None:
    trainer(tmp_path, save_strategy="steps", save_steps=3).train()
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    model, twin = plain(1)
    assert_same(resumed.model, model)
    assert float(resumed.salr.lr_factor) == pytest.approx(twin.factor, rel=1e-3)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_norm_needs_no_closure_and_is_that_before_clipping(
    accumulation: int, tmp_path: Path
) -> None:
    ours = trainer(tmp_path, accumulation)
    ours.measure = GradientNorm
    ours.train()
    model, twin = plain(accumulation, measures=False)
    assert max(twin.measured) > CLIP
    assert_same(ours.model, model)
    assert float(ours.salr.last_sharpness) == pytest.approx(twin.measured[-1], rel=1e-3)
