"""Hand jobs to a Hydra launcher, which trains them in its own processes, here or on a cluster."""

import importlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from experiments.cell import train_and_print
from experiments.cli import attempt, worst
from experiments.schema import ConfigError, load
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


def launch(jobs: Sequence[Sequence[Sequence[str]]], results: str, launching: Sequence[str]) -> None:
    """Train jobs on a launcher's machines, and wait for all of them. The records say what became of the runs.

    Args:
        jobs: of each the cells that it trains, as overrides.
        results: the folder of the records.
        launching: ``hydra/launcher=...`` and its values.

    Raises:
        ConfigError: the launcher refuses its values.
    """
    # A node may have another working folder, in which a relative path means another place.
    folder = str(Path(results).absolute())
    # Jobs start in the folder of this command, and must find the project's packages.
    paths = (str(PROJECT), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    loader = hydra().config_loader()
    try:
        config = loader.load_configuration(
            "job", [*launching, _override("results", folder)], RunMode.MULTIRUN
        )
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
            task_function=train_job,
            config=config,
        )
        cells = [[[*overrides, _override("results", folder)] for overrides in job] for job in jobs]
        launcher.launch([[f"cells={_literal(job)}"] for job in cells], initial_job_idx=0)
    except HydraException as error:
        raise ConfigError(str(error).splitlines()[0]) from error


def train_job(job: DictConfig) -> int:
    """Train the cells of a job, in the job's process. Returns the most severe exit code."""
    return worst(attempt(partial(train_and_print, load(list(overrides)))) for overrides in job.cells)


def _override(name: str, value: str) -> str:
    return f"{name}={quoted(value)}"


def _literal(cells: Sequence[Sequence[str]]) -> str:
    """Return lists of words as Hydra reads them literally."""
    lists = (f"[{','.join(map(quoted, words))}]" for words in cells)
    return f"[{','.join(lists)}]"
