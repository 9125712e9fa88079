"""The one trainer: it trains a run from its first epoch, or from its last complete one, to its end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salr.closures import Clipped
from salr.optim import recompute_batch_statistics
from salr.records import Run, State
from salr.training.captured import CapturedSteps, can_capture
from salr.training.checkpoint import load, save
from salr.training.events import Event, Kind, Listener
from salr.training.failure import reason
from salr.training.parts import Parts, Progress
from salr.training.provenance import provenance
from salr.training.randomness import full_precision, generator, seed_default
from salr.training.stepping import take_step
from salr.training.task import Batch, reset_if_asked
from salr.training.trace import Trace
from salr.training.tracker import Guarded, Tracker

REPORT_SECONDS = 0.5
"""The least time between two reports within an epoch."""


class _Stream:
    """The current batch of a sequence of batches."""

    def __init__(self, batches: Iterator[Batch], model: nn.Module) -> None:
        self._batches, self._model = batches, model
        self.batch: Batch

    def advance(self) -> None:
        self.batch = next(self._batches)
        reset_if_asked(self._model, self.batch)


@dataclass
class Trainer:
    """Train one run and keep its record.

    Args:
        run: the record. The caller holds its claim.
        epochs: the budget.
        build: builds the parts from the run's seed, the same ones each time.
        config: written to the record before the first epoch.
        tracker: shows the run elsewhere.
        listen: called with every event.
    """

    run: Run
    epochs: int
    build: Callable[[], Parts]
    config: Mapping[str, Any]
    tracker: Tracker
    listen: Listener
    progress: Progress = field(default_factory=Progress)
    parts: Parts = field(init=False)
    _captured: CapturedSteps | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.tracker = Guarded(self.tracker)

    def train(self) -> State:
        """Train to the end and return ``FINISHED`` or ``DIVERGED``.

        If the run is stopped (an exception, a signal, a power cut), the next call resumes it after its last
        complete epoch. The result is that of a run that was never stopped: bit for bit, unless a kernel of
        the device adds in an order that changes from run to run.
        """
        with full_precision():
            return self._train()

    def _train(self) -> State:
        state = State.FAILED
        summary: dict[str, Any] = {}
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
            if state != State.FAILED:  # the caller receives the error and reports it
                self._tell("ended", state=state, row=summary)
        return state

    def _begin(self) -> dict[str, Any]:
        """Build or restore the parts and announce the run. Returns the metrics of the last complete epoch."""
        row, run = self._restore(), self.run
        run.write_config(self.config)
        run.write_status(State.RUNNING, self.progress.epoch)
        shown = {**self.config, "epochs": self.epochs}  # the budget, which the configuration may leave open
        self.tracker.start(run.seed, run.name, run.cell, run.identity, shown)
        self._tell("begun")
        return row

    def _restore(self) -> dict[str, Any]:
        """Load the newest usable checkpoint, or start anew. Returns the metrics of its epoch."""
        rows = {row["epoch"]: row for row in self.run.read_metrics()}

        def read(path: Path) -> Progress:
            self.parts = self.build()  # anew for every attempt: a checkpoint may fail half-way
            progress = load(path, self.run.name, self.parts)
            if progress.epoch not in rows:
                raise ValueError(f"the metrics of its epoch, {progress.epoch}, are not there")
            return progress

        restored = self.run.read_checkpoint(read)
        if restored is None:
            self.parts = self.build()
        else:
            self.progress = restored
        self.run.keep_metrics(self.progress.epoch)
        return rows.get(self.progress.epoch, {})

    def _epoch(self) -> dict[str, Any]:
        """Train and evaluate one epoch, record it, and return its metrics."""
        parts, progress = self.parts, self.progress
        epoch, iterations = progress.epoch, parts.data.iterations
        trace = Trace(parts.optimizer, detailed=epoch + 1 == self.epochs)
        begun = time.perf_counter()
        stream = self._stream(epoch)
        loss = self._iterate(epoch, stream, trace)
        seconds = time.perf_counter() - begun
        progress.seconds += seconds
        row: dict[str, Any] = {"epoch": epoch + 1, "iteration": (epoch + 1) * iterations, "train_loss": loss}
        row |= self._evaluate(epoch)
        row |= trace.metrics()
        progress.epoch += 1
        row |= asdict(progress)
        self._record(row, trace)
        targets = iterations * parts.batches_per_iteration * stream.batch.targets.numel()
        self._tell("epoch", row=row, text=f"{targets / seconds:,.0f} {parts.task.unit}/s")
        return row

    def _stream(self, epoch: int) -> _Stream:
        """Seed everything that is random in the epoch, and return its batches."""
        parts, seed = self.parts, self.run.seed
        seed_default(seed, "noise", epoch)
        order, augmentation = generator(seed, "order", epoch), generator(seed, "augmentation", epoch)
        return _Stream(parts.data.batches(order, augmentation, parts.batches_per_iteration), parts.model)

    def _iterate(self, epoch: int, stream: _Stream, trace: Trace) -> float:
        """Run the iterations of an epoch and return their mean loss."""
        parts, iterations = self.parts, self.parts.data.iterations
        step = self._stepper(stream)
        parts.model.train()
        total = torch.zeros((), device=parts.device)
        reported = time.perf_counter()
        for iteration in range(iterations):
            stream.advance()
            rates = self._set_rates(epoch, iteration / max(1, iterations - 1))
            total += step()
            trace.add(rates[0])
            if (now := time.perf_counter()) - reported > REPORT_SECONDS:
                reported = now
                self._tell("running", epoch + (iteration + 1) / iterations)
        if self._captured is not None:
            self._captured.release()
        if parts.average is not None and epoch >= parts.average_from:
            parts.average.update()
        return float(total) / iterations  # waits for the device, and so does the clock

    def _stepper(self, stream: _Stream) -> Callable[[], Tensor]:
        """Return a function that takes one optimizer step on the current batch and returns its loss."""
        parts = self.parts
        if self._captured is None and can_capture(parts.optimizer, parts.task, parts.model, parts.device):
            self._captured = CapturedSteps(
                parts.optimizer,
                parts.task,
                parts.model,
                parts.batches_per_iteration,
                self.epochs * parts.data.iterations,
                self.progress,
            )
        if self._captured is not None:
            self._captured.begin()
            return partial(self._captured, stream)
        parameters: list[Tensor] = [each for each in parts.model.parameters() if each.requires_grad]
        closure = self._closure(stream, parameters)
        return partial(take_step, parts.optimizer, closure, parameters, stream.advance)

    def _closure(self, stream: _Stream, parameters: list[Tensor]) -> Callable[[], Tensor]:
        """Return a closure that computes the loss of the current batch. It clips as the task says."""
        parts, progress = self.parts, self.progress

        def closure() -> Tensor:
            if torch.is_grad_enabled():
                progress.gradient_calls += 1
            else:
                progress.loss_calls += 1
            return parts.task.loss(parts.model, stream.batch)

        return closure if parts.task.clip is None else Clipped(closure, parameters, parts.task.clip)

    def _set_rates(self, epoch: int, fraction: float) -> list[float]:
        """Set the rate of each parameter group, and return them."""
        factor = self.parts.schedule(epoch, fraction)
        rates = [rate * factor for rate in self.parts.base_rates]
        if self._captured is not None:
            self._captured.set_rates(rates)
        else:
            for group, rate in zip(self.parts.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        return rates

    def _evaluate(self, epoch: int) -> dict[str, float]:
        """Return the metrics of each split, of the averaged weights if there are any."""
        begun = time.perf_counter()
        parts = self.parts
        average = parts.average if epoch >= parts.average_from else None
        model = parts.model if average is None else average.model
        if average is not None or parts.recompute_statistics:
            recompute_batch_statistics(model, parts.data.evaluation("train"), parts.task.forward)
        row: dict[str, float] = {}
        for split in parts.splits:
            metrics = parts.task.evaluate(model, parts.data.evaluation(split))
            row |= {f"{split}_{name}": value for name, value in metrics.items()}
        self.progress.evaluation_seconds += time.perf_counter() - begun
        return row

    def _record(self, row: dict[str, Any], trace: Trace) -> None:
        if (iterations := trace.iterations()) is not None:
            self.run.write_json("iterations.json", {"epoch": row["epoch"], **iterations})
        self.run.append_metrics(row)
        self.run.write_checkpoint(lambda stream: save(stream, self.run.name, self.parts, self.progress))
        self.run.write_status(State.RUNNING, self.progress.epoch)
        self.tracker.log(row)

    def _end(self, row: dict[str, Any], state: State) -> dict[str, Any]:
        """Write the summary and the final status. Returns the summary."""
        summary = {
            **row,
            "epochs": self.epochs,
            "parameters": sum(parameter.numel() for parameter in self.parts.model.parameters()),
            "made_by": provenance(self.parts.device),
        }
        self.run.write_json("summary.json", summary)
        self.run.write_status(state, self.progress.epoch)
        return summary

    def _tell(self, kind: Kind, epoch: float | None = None, **facts: Any) -> None:
        at = self.progress.epoch if epoch is None else epoch
        self.listen(Event(self.run.seed, kind, at, self.epochs, **facts))


def _finite(row: Mapping[str, Any]) -> bool:
    """Return whether all losses are finite. A run with another loss has diverged."""
    return all(math.isfinite(value) for name, value in row.items() if name.endswith("_loss"))
