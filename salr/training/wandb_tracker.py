"""Weights & Biases: one run per seed, grouped by cell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandbTracker:
    """Show every metric over the gradient calls. Epochs are logged too.

    Raises whatever W&B raises; the trainer then continues without it.

    Args:
        project, entity, mode, tags: as in ``wandb.init``. The mode "offline" needs no login.
        directory: where W&B keeps its files. It is created if it does not exist.
    """

    def __init__(
        self, project: str, entity: str | None, mode: str, directory: Path, tags: list[str] | None = None
    ) -> None:
        self.project, self.entity, self.mode = project, entity, mode
        self.directory, self.tags = directory, tags
        self._run: Any = None

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        self._run = self._open(
            identity, name=name, group=group, tags=self.tags, config={**config, "seed": seed}
        )
        self._run.define_metric("gradient_calls")
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="gradient_calls")

    def log(self, row: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.log(
                dict(row), step=row["epoch"]
            )  # W&B's own step counter would restart in a resumed run

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.summary.update({**summary, "state": str(state)})  # W&B would write an enumeration by its name
            run.finish(exit_code=0 if state == "finished" else 1)

    def add_measures(self, identity: str, measures: Mapping[str, Any]) -> None:
        run = self._open(identity)
        run.summary.update(dict(measures))
        run.finish(exit_code=0)

    def _open(self, identity: str, **options: Any) -> Any:
        import wandb

        self.directory.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(self.directory),
            id=identity,
            resume="allow",
            reinit="create_new",  # otherwise the runs of one process would merge into the first one
            settings=wandb.Settings(silent=True, console="off"),
            **options,
        )
