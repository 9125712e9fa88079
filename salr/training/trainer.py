"""The one trainer: a run from its first epoch, or from where it was, to its end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salr.closures import Evaluation
from salr.optim import Wrapper, recompute_batch_statistics
from salr.records import Run, State
from salr.training.checkpoint import load, save
from salr.training.events import Event, Listener
from salr.training.failure import reason
from salr.training.parts import Parts, Progress
from salr.training.provenance import provenance
from salr.training.randomness import generator, seed_default
from salr.training.task import Batch
from salr.training.tracker import Guarded, Tracker

REPORT_SECONDS = 0.5
"""How often, at most, a run says how far it is within an epoch."""


class _Stream:
    """The current batch of a sequence; a carried state is forgotten where a batch says so."""

    def __init__(self, batches: Iterator[Batch], model: nn.Module) -> None:
        self._batches, self._model = batches, model
        self.batch: Batch

    def advance(self) -> None:
        self.batch = next(self._batches)
        if self.batch.restart:
            self._model.reset_state()  # type: ignore[operator]


@dataclass
class Trainer:
    """Trains one run and keeps its record.

    Args:
        run: the record; the caller holds its claim.
        build: makes the parts from the run's seed, the same ones each time.
        config: written to the record before the first epoch.
        listen: is told how far the run is.
    """

    run: Run
    epochs: int
    build: Callable[[], Parts]
    config: Mapping[str, Any]
    tracker: Tracker
    listen: Listener
    progress: Progress = field(default_factory=Progress)
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        self.tracker = Guarded(self.tracker)

    def train(self) -> State:
        """Trains to the end. Returns the run's state: "finished" or "diverged".

        Interrupted at any moment (an exception, a signal, a power cut), the run goes on from its last whole epoch the next time,
        and on a CPU ends bit for bit as if it had never stopped.
        """
        state, summary = State.FAILED, {}
        try:
            row = self._begin()
            while self.progress.epoch < self.epochs and _finite(row):
                row = self._epoch()
            state = State.FINISHED if _finite(row) else State.DIVERGED
            summary = self._end(row, state)
        except KeyboardInterrupt:
            state = State.INTERRUPTED
            self.run.write_status(state, self.progress.epoch)
            raise
        except Exception as error:
            state = State.FAILED
            self.run.write_status(state, self.progress.epoch, reason=reason(error))
            raise
        finally:
            self.tracker.finish(summary, state)
            if state != State.FAILED:  # of a failure the caller tells, who is handed the error
                self._tell("ended", state=state, row=summary)
        return state

    def _begin(self) -> dict[str, Any]:
        """Goes to where the run is. Returns the last epoch's metrics."""
        row = self._restore()
        self.run.write_config(self.config)
        self.run.write_status(State.RUNNING, self.progress.epoch)
        run = self.run
        self.tracker.start(run.seed, run.name, run.cell, f"{run.key}-{run.seed}", self.config)
        self._tell("begun")
        return row

    def _epoch(self) -> dict[str, Any]:
        """One epoch, its evaluation and its record."""
        parts, progress, seed = self.parts, self.progress, self.run.seed
        epoch, iterations = progress.epoch, parts.data.iterations
        begun = time.perf_counter()
        seed_default(seed, "noise", epoch)
        order, augmentation = generator(seed, "order", epoch), generator(seed, "augmentation", epoch)
        stream = _Stream(parts.data.batches(order, augmentation, parts.batches_per_iteration), parts.model)
        step = self._stepper(stream)
        parts.model.train()
        total = torch.zeros((), device=parts.device)
        trace: list[list[Tensor]] = []
        last, told = epoch + 1 == self.epochs, begun
        for iteration in range(iterations):
            stream.advance()
            self._set_rate(epoch, iteration / max(1, iterations - 1))
            total += step()
            if last and hasattr(parts.optimizer, "lr_factor"):
                trace.append(self._sharpness_now())
            if (now := time.perf_counter()) - told > REPORT_SECONDS:
                told = now
                self._tell("running", epoch + (iteration + 1) / iterations)
        if parts.average is not None and epoch >= parts.average_from:
            parts.average.update()
        row: dict[str, Any] = {"epoch": epoch + 1, "iteration": (epoch + 1) * iterations}
        row["train_loss"] = float(total) / iterations  # waits for the device: the epoch's seconds are whole
        taken = time.perf_counter() - begun
        progress.seconds += taken
        read = iterations * parts.batches_per_iteration * stream.batch.targets.numel()
        row |= self._evaluate(epoch) | self._state_of_optimizer()
        progress.epoch += 1
        row |= {
            name: getattr(progress, name)
            for name in ("gradient_calls", "loss_calls", "seconds", "evaluation_seconds")
        }
        self._record(row, trace)
        self._tell("epoch", row=row, text=f"{read / taken:,.0f} {parts.task.unit}/s")
        return row

    def _stepper(self, stream: _Stream) -> Callable[[], Tensor]:
        """One iteration of the optimizer on the stream's current batch; returns its loss."""
        parts, progress = self.parts, self.progress
        parameters: list[Tensor] = [
            parameter for parameter in parts.model.parameters() if parameter.requires_grad
        ]

        def closure() -> Tensor:
            loss = parts.task.loss(parts.model, stream.batch)
            if not torch.is_grad_enabled():
                progress.loss_calls += 1
                return loss
            progress.gradient_calls += 1
            if parts.task.clip is not None:
                loss.backward()
                parts.task.clip(parameters)
            return loss

        if isinstance(parts.optimizer, Wrapper):
            wrapper = parts.optimizer
            return lambda: wrapper.step(closure, stream.advance)
        plain: Any = parts.optimizer  # torch's own optimizers take a closure that has called backward
        return lambda: plain.step(Evaluation(closure, parameters))

    def _set_rate(self, epoch: int, fraction: float) -> None:
        factor = self.parts.schedule(epoch, fraction)
        for group, rate in zip(self.parts.optimizer.param_groups, self.parts.base_rates, strict=True):
            group["lr"] = rate * factor

    def _evaluate(self, epoch: int) -> dict[str, float]:
        begun = time.perf_counter()
        parts = self.parts
        averaged = parts.average is not None and epoch >= parts.average_from
        model = parts.average.model if averaged and parts.average is not None else parts.model
        if averaged or parts.recompute_statistics:
            recompute_batch_statistics(model, parts.data.evaluation("train"), parts.task.forward)
        row: dict[str, float] = {}
        for split in parts.splits:
            metrics = parts.task.evaluate(model, parts.data.evaluation(split))
            row |= {f"{split}_{name}": value for name, value in metrics.items()}
        self.progress.evaluation_seconds += time.perf_counter() - begun
        return row

    def _state_of_optimizer(self) -> dict[str, float]:
        row = {"lr": float(self.parts.optimizer.param_groups[0]["lr"])}
        if hasattr(self.parts.optimizer, "lr_factor"):
            sharpness, median, factor, _ = self._sharpness_now()
            row |= {
                "sharpness": float(sharpness),
                "median_sharpness": float(median),
                "lr_factor": float(factor),
            }
        return row

    def _sharpness_now(self) -> list[Tensor]:
        """Ŝ, its median, the factor and the rate of the last iteration."""
        optimizer: Any = self.parts.optimizer
        factor = optimizer.lr_factor
        return [
            optimizer.last_sharpness,
            optimizer.median_sharpness,
            factor,
            factor * optimizer.param_groups[0]["lr"],
        ]

    def _record(self, row: dict[str, Any], trace: list[list[Tensor]]) -> None:
        if trace:
            columns = torch.stack(
                [torch.stack([value.double() for value in values]) for values in trace]
            ).T.tolist()
            names = ("sharpness", "median_sharpness", "lr_factor", "lr")
            self.run.write_json(
                "iterations.json", {"epoch": row["epoch"], **dict(zip(names, columns, strict=True))}
            )
        self.run.append_metrics(row)
        self.run.write_checkpoint(lambda stream: save(stream, self.run.name, self.parts, self.progress))
        self.run.write_status(State.RUNNING, self.progress.epoch)
        self.tracker.log(row)

    def _restore(self) -> dict[str, Any]:
        """Goes back to the last whole epoch, if there is one; a checkpoint that does not fit leaves nothing behind."""
        rows = {row["epoch"]: row for row in self.run.read_metrics()}

        def read(path: Path) -> Progress:
            self.parts = self.build()
            progress = load(path, self.run.name, self.parts)
            if progress.epoch not in rows:
                raise ValueError(f"the metrics of its epoch, {progress.epoch}, are not there")
            return progress

        done = self.run.read_checkpoint(read)
        if done is None:
            self.parts = self.build()
        else:
            self.progress = done
        self.run.keep_metrics(self.progress.epoch)
        return rows.get(self.progress.epoch, {})

    def _end(self, row: dict[str, Any], state: State) -> dict[str, Any]:
        summary = {
            **row,
            "epochs": self.epochs,
            "parameters": sum(parameter.numel() for parameter in self.parts.model.parameters()),
            "made_by": provenance(self.parts.device),
        }
        self.run.write_json("summary.json", summary)
        self.run.write_status(state, self.progress.epoch)
        return summary

    def _tell(self, kind: str, epoch: float | None = None, **facts: Any) -> None:
        at = self.progress.epoch if epoch is None else epoch
        self.listen(Event(self.run.seed, kind, at, self.epochs, **facts))


def _finite(row: Mapping[str, Any]) -> bool:
    """Whether the losses are numbers; a run whose losses are not has diverged."""
    return all(math.isfinite(value) for name, value in row.items() if name.endswith("_loss"))
