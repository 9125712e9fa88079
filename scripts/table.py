#!/usr/bin/env python3
"""Trains the cells of tables, says first what that costs, and makes the tables of whatever the records hold.

python scripts/table.py 1 2 --seeds 30                  train what is missing, then make the tables
python scripts/table.py all --preset smoke --seeds 2    everything end to end in minutes, on embedded data
python scripts/table.py 2 --plan                        only say what it would cost
python scripts/table.py 1 --networks lenet,mnistfc      train only these of its networks
"""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.cell import train_cell
from configs.compose import ConfigError, check_choices
from configs.plan import CellPlan, plan, text
from configs.records import folder_of, records_of
from configs.schema import Config
from configs.sweep import Sweep
from configs.tables import PRESETS, TABLES, TableCell, table_cells
from salr.records import check_writable
from scripts.command import Parser, start
from train import BAD_INPUT, FINISHED, INTERRUPTED, exit_code, worst

PROJECT = Path(__file__).resolve().parent.parent
PLUGINS = {"slurm": "hydra_plugins.hydra_submitit_launcher", "ray": "hydra_plugins.hydra_ray_launcher"}
LAUNCHERS = {
    # A job that comes to its time limit is put back into the queue, however often: its runs go on where they were.
    "slurm": ["hydra/launcher=submitit_slurm", "hydra.launcher.max_num_timeout=1000"],
    # A job whose node dies goes to another one, however often. The plugin's own size of the object store is refused by Ray
    # where a cluster is there already (hydra.launcher.ray.init.address=auto).
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.remote.max_retries=-1", "+hydra.launcher.ray.init.object_store_memory=null"],
}


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("tables", nargs="+", help="numbers from 1 to 9, or all")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--seeds", default="30", help="how many, or which: 30 or [0,3,7]")
    parser.add_argument("--networks", default="", metavar="A,B", help="only these of the paper's; all by default")
    parser.add_argument("--launcher", choices=["local", *LAUNCHERS], default="local")
    parser.add_argument("--plan", action="store_true", help="only say what it would cost")
    parser.add_argument("--override", nargs="*", default=[], metavar="NAME=VALUE", help="for every cell, as for train.py")
    chosen = parser.parse_args(arguments)
    # Hydra's own values, such as hydra.launcher.partition=gpu, are the launcher's and no cell's.
    launching = [override for override in chosen.override if override.lstrip("+").startswith("hydra")]
    overrides = [f"seeds={chosen.seeds}", *(override for override in chosen.override if override not in launching)]
    networks = [name for name in chosen.networks.split(",") if name]
    try:
        check_choices(launching)
        if launching and chosen.launcher == "local":
            raise ConfigError(f"{launching[0]}: the launcher's alone; expected --launcher {' or '.join(LAUNCHERS)} with it")
        numbers = list(TABLES) if chosen.tables == ["all"] else [_number(text) for text in chosen.tables]
        cells = {number: _chosen(number, networks, chosen.preset, overrides) for number in numbers}
        if unknown := set(networks) - {cell.published.network for each in cells.values() for cell in each.values()}:
            raise ConfigError(f"networks {', '.join(sorted(unknown))}: expected some that the tables have")
    except ConfigError as error:
        print(f"table.py: {error}", file=sys.stderr)
        return BAD_INPUT
    if lacking := _lacking(chosen.launcher):
        print(f"table.py: {lacking}", file=sys.stderr)
        return BAD_INPUT
    plans = plan(cell.config for each in cells.values() for cell in each.values())
    local = chosen.launcher == "local"
    try:
        seconds = _times(plans) if local else None  # another launcher's machines are not this one
        print(text(plans, seconds), flush=True)
        if chosen.plan:
            return FINISHED
        check_writable(Path(plans[0].config.results))
        if local:
            codes = [_train(plans, seconds or {})]
        else:
            # A node of Ray has a folder of its own, which a relative path would mean there.
            results = str(Path(plans[0].config.results).absolute()).replace("'", "\\'")
            launching = [*LAUNCHERS[chosen.launcher], *launching, f"results='{results}'"]
            codes = [_launch(number, places, launching, chosen.preset, overrides) for number, places in _left(plans, cells).items()]
        if 4 in numbers:
            codes.append(_measure_sharpness([cell.config for cell in cells[4].values()], chosen.preset))
    except KeyboardInterrupt:
        print("table.py: interrupted; the same command goes on where it was", file=sys.stderr)
        return INTERRUPTED
    from scripts.report import make_tables

    return worst([*codes, make_tables(numbers, chosen.preset, overrides, networks)])


def _chosen(number: int, networks: list[str], preset: str, overrides: list[str]) -> dict[int, TableCell]:
    """A table's cells by their place in it."""
    cells = enumerate(table_cells(number, preset, overrides))
    return {place: cell for place, cell in cells if not networks or cell.published.network in networks}


def _number(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"table {text}: expected a number from {TABLES[0]} to {TABLES[-1]}, or all")
    return int(text)


def _left(plans: list[CellPlan], cells: dict[int, dict[int, TableCell]]) -> dict[int, list[int]]:
    """By table the places of the cells that have to be trained, each once, whichever tables show it."""
    left = {folder_of(cell.config) for cell in plans if cell.left}
    places: dict[int, list[int]] = {}
    for number, chosen in cells.items():
        for place, cell in chosen.items():
            if (folder := folder_of(cell.config)) in left:
                left.remove(folder)
                places.setdefault(number, []).append(place)
    return places


def _times(plans: list[CellPlan]) -> dict[tuple[str, str], float] | None:
    """Nothing is timed, and torch is not loaded, where nothing is left."""
    if not any(cell.left for cell in plans):
        return None
    from configs.calibrate import seconds_a_call

    return seconds_a_call(plans)


def _train(plans: list[CellPlan], seconds_a_call: dict[tuple[str, str], float]) -> int:
    """Trains cell after cell; one that fails does not stop the others. The worst exit code tells."""
    left = [cell for cell in plans if cell.left]
    sweep = Sweep(left, seconds_a_call)
    codes = []
    for place, cell in enumerate(left, 1):
        print(f"[{place}/{len(left)}]", end=" ", flush=True)
        codes.append(exit_code(train_cell(cell.config, sweep.watch(cell.config))))
    ended = (record.state() for cell in plans for record in records_of(cell.config))
    return worst([*codes, exit_code(dict(enumerate(ended)))])


def _lacking(launcher: str) -> str:
    """What a launcher needs and this machine lacks, in a line."""
    if launcher == "local":
        return ""
    try:
        importlib.import_module(PLUGINS[launcher])
    except ImportError:
        extra = f"python -m pip install -c constraints.txt -e '.[{launcher}]'"
        return f"the launcher {launcher} is not installed; expected its extra: .venv/bin/{extra}"
    if launcher == "slurm" and shutil.which("srun") is None:
        return "there is no srun here; expected a machine from which jobs are submitted to Slurm"
    return ""


def _launch(number: int, places: list[int], launching: list[str], preset: str, overrides: list[str]) -> int:
    """Hands cells of a table to a Hydra launcher, a job a cell, and waits for all."""
    jobs = f"cell={','.join(map(str, places))}"
    command = [sys.executable, str(PROJECT / "train.py"), "--multirun"]
    # Jobs start in the folder of this command, and find the project's modules from there.
    paths = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [*command, f"experiment=table{number}", f"preset={preset}", jobs, *overrides, *launching],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    ).returncode


def _measure_sharpness(configs: list[Config], preset: str) -> int:
    """Table 4 needs the sharpness of final weights; what a run has been measured for is not measured again."""
    runs = [record for config in configs for record in records_of(config) if record.state() == "finished"]
    if not runs:
        return FINISHED
    few = ["--examples", "500"] if preset == "smoke" else []
    return subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / "sharpness.py"), *few, *(str(record.folder) for record in runs)], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(start(main))
