"""The whole state of a run after an epoch, as plain tensors and numbers."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from salr.training.parts import Parts, Progress

VERSION = 1


def save(stream: BinaryIO, run: str, parts: Parts, progress: Progress) -> None:
    """Write the state of the run named ``run``.

    Random generators are not saved: every epoch seeds them anew.
    """
    state = {
        "version": VERSION,
        "run": run,
        "progress": asdict(progress),
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "average": None if parts.average is None else parts.average.state_dict(),
    }
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        # Torch replaces an interrupt or a full disk during a write by an error about positions in the file.
        if isinstance(error.__context__, KeyboardInterrupt | OSError):
            raise error.__context__ from None
        raise


def load(path: Path, run: str, parts: Parts) -> Progress:
    """Load the state into the parts and return the progress.

    Raises:
        ValueError: the checkpoint has another version, or belongs to another run or to other parts.
    """
    state: dict[str, Any] = torch.load(path, map_location=parts.device, weights_only=True)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError(f"{path} is not a checkpoint of version {VERSION}")
    if (owner := state.get("run", run)) != run:  # the oldest checkpoints do not name their run
        raise ValueError(f"{path} belongs to another run, {owner}")
    try:
        parts.model.load_state_dict(state["model"])
        parts.optimizer.load_state_dict(state["optimizer"])
        if parts.average is not None:
            parts.average.load_state_dict(state["average"])
        return Progress(**state["progress"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} does not fit this configuration: {error}") from error
