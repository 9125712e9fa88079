"""Weights & Biases: one run a seed, grouped by cell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandbTracker:
    """Every metric stands against gradient calls, and the epoch is logged with it.

    Raises whatever W&B raises (the trainer goes on without it).

    Args:
        project, entity, mode, tags: W&B's own words; mode "offline" needs no login.
        directory: where W&B keeps its files; made where absent.
    """

    def __init__(
        self, project: str, entity: str | None, mode: str, directory: Path, tags: list[str] | None = None
    ) -> None:
        self.project, self.entity, self.mode, self.directory, self.tags = (
            project,
            entity,
            mode,
            directory,
            tags,
        )
        self._run: Any = None

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        import wandb

        self.directory.mkdir(parents=True, exist_ok=True)
        # "create_new" and an identity of its own: else runs of one process merge into the first one.
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(self.directory),
            tags=self.tags,
            id=identity,
            name=name,
            group=group,
            resume="allow",
            reinit="create_new",
            config={**config, "seed": seed},
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("gradient_calls")
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="gradient_calls")

    def log(self, row: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.log(dict(row), step=row["epoch"])  # its own count would start anew where a run goes on

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.summary.update({**summary, "state": state})
            run.finish(exit_code=0 if state == "finished" else 1)
