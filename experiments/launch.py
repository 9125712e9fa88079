"""Hand cells to a Hydra launcher, which trains them in its own processes, here or on a cluster."""

import importlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from experiments.cell import train_and_print
from experiments.request import Cell
from experiments.schema import ConfigError
from experiments.schema.compose import checked
from experiments.schema.overrides import hydra, quoted
from experiments.schema.paths import PROJECT

LAUNCHERS = {
    # A job that reaches its time limit is requeued, however often; its runs are resumed.
    "slurm": ["hydra/launcher=submitit_slurm", "hydra.launcher.max_num_timeout=1000"],
    # A job whose node dies is sent to another node, however often. Ray refuses the plugin's size of the
    # object store if a cluster is already there (hydra.launcher.ray.init.address=auto).
    "ray": [
        "hydra/launcher=ray",
        "+hydra.launcher.ray.remote.max_retries=-1",
        "+hydra.launcher.ray.init.object_store_memory=null",
    ],
}
_PLUGINS = {"slurm": "hydra_plugins.hydra_submitit_launcher", "ray": "hydra_plugins.hydra_ray_launcher"}


def check_launcher(launcher: str) -> None:
    """Raise ConfigError with one line if this machine lacks what a launcher of :data:`LAUNCHERS` needs."""
    try:
        importlib.import_module(_PLUGINS[launcher])
    except ImportError as error:
        extra = f".venv/bin/python -m pip install -c constraints.txt -e '.[{launcher}]'"
        raise ConfigError(f"the launcher {launcher} is not installed; expected its extra: {extra}") from error
    if launcher == "slurm" and shutil.which("srun") is None:
        raise ConfigError("there is no srun here; expected a machine from which jobs are submitted to Slurm")


def launch(cells: Sequence[Cell], launching: Sequence[str]) -> None:
    """Train each cell as one job of the launcher, and wait for all jobs. The records say what became of them.

    Args:
        cells: at least one, all with the same results folder.
        launching: ``hydra/launcher=...`` and its values.

    Raises:
        ConfigError: the launcher refuses its values.
    """
    # A node may have another working folder, in which a relative path means another place.
    results = f"results={quoted(str(Path(cells[0].config.results).absolute()))}"
    # Jobs start in the folder of this command, and must find the project's packages.
    paths = (str(PROJECT), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    loader = hydra().config_loader()
    try:
        config = loader.load_configuration("config", [*launching, results], run_mode=RunMode.MULTIRUN)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
            task_function=train_job,
            config=config,
        )
        launcher.launch([[*cell.overrides, *_tags(cell), results] for cell in cells], initial_job_idx=0)
    except HydraException as error:
        raise ConfigError(str(error).splitlines()[0]) from error


def train_job(composed: DictConfig) -> int:
    """Train the cell that a launcher has composed in the job's process. Returns the exit code."""
    return train_and_print(checked(composed))


def _tags(cell: Cell) -> list[str]:
    """Return the override for tags that the cell's own overrides do not have."""
    tags = cell.config.tracker.tags
    return [f"tracker.tags=[{','.join(tags)}]"] if tags else []
