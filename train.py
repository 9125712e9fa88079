#!/usr/bin/env python3
"""Trains a data set, a network and an optimizer over seeds, and leaves a record of every run."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from configs.compose import ConfigError, checked, choices, expand, load
from configs.schema import Config
from configs.tables import cells_of

FINISHED, FAILED, BAD_INPUT, DIVERGED, BUSY, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes; of several runs the worst one tells."""

HELP = """\
usage: python train.py [name=value ...]        train one cell over its seeds
       python train.py -m [name=a,b ...]       train every combination of the values

What a cell is made of (name=choice):
{groups}
What often changes:
  seeds=30                 thirty seeds, 0 to 29; seeds=[0,3,7] for these three
  trainer.epochs=3         instead of the budget: the data set's epochs over the optimizer's gradient calls an iteration
  trainer.precision=bf16   about twice as fast where the processor has bfloat16 (numbers differ: another run)
  trainer.workers=4        seeds side by side; auto by default
  results=DIR              where the records go (results/)
  optimizer.salr.gamma=0.001, dataset.batch_size=64, model.dropout=0.2, ...
                           any value of the files in configs/

Examples:
  python train.py optimizer=sgd_salr model=resnet18
  python train.py dataset=cifar10 model=resnet18 optimizer=sgd_salr seeds=5
  python train.py -m dataset=mnist model=lenet,mnistfc optimizer=sgd,sgd_salr seeds=3
  python train.py experiment=table1 seeds=3 trainer.precision=bf16
  python train.py --cfg job optimizer=sgd_salr        the whole configuration, without training

A finished run is skipped, an interrupted one goes on. Exit code: 0 all finished, 1 a run failed, 2 wrong input,
3 a run diverged, 4 a run is being trained by another process, 130 interrupted.
"""


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        width = max(map(len, GROUPS))
        print(HELP.format(groups="".join(_group(name, about, width) for name, about in GROUPS.items())))
        return FINISHED
    try:
        chosen = _flags(arguments)
        # All combinations are checked before the first one is trained.
        combinations = expand(chosen.overrides) if chosen.multirun else [chosen.overrides]
        configs = [cell for combination in combinations for cell in cells_of(load(combination), combination)]
    except ConfigError as error:
        return _refuse(str(error))
    try:
        if chosen.cfg or chosen.info:
            _with_hydra(chosen, arguments)
            return FINISHED
        if not chosen.multirun:
            return worst(train(config) for config in configs)
        # A launcher that trains elsewhere brings no codes back: then the records tell.
        return worst(_with_hydra(chosen, arguments) or map(recorded, configs))
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command goes on where it was", file=sys.stderr)
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; train.py --help explains")


def _flags(arguments: list[str]) -> argparse.Namespace:
    """Those of Hydra's flags that can do no harm; it finds them again by itself."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("-m", "--multirun", action="store_true")
    one.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    one.add_argument("-i", "--info", nargs="?", const="all", choices=("all", "config", "defaults", "defaults-tree", "plugins"))
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(arguments)


GROUPS = {
    "dataset": "default digits, which needs no download",
    "model": "default mnistfc",
    "optimizer": "default sgd",
    "trainer": "",
    "tracker": "default none",
    "experiment": "all cells of a table of the paper",
}


def _group(name: str, about: str, width: int) -> str:
    return f"  {name:<{width}}  {', '.join(choices(name))}{f' ({about})' if about else ''}\n"


def train(config: Config) -> int:
    """Trains a cell and prints what its seeds came to; returns the exit code."""
    from configs.cell import train_cell
    from configs.records import records_of
    from salr.records import RecordError
    from salr.reporting import summarise, text_table

    try:
        states = train_cell(config)
    except (RecordError, RuntimeError, ValueError) as error:
        return _refuse(" ".join(str(error).split()))
    name = f"{config.dataset.name} {config.model.name} {config.optimizer.name}"
    print(text_table([summarise(name, records_of(config))]))
    return exit_code(states)


def exit_code(states: dict[int, str]) -> int:
    """The worst of what became of the seeds."""
    codes = {"finished": FINISHED, "busy": BUSY, "running": BUSY, "diverged": DIVERGED}
    return worst(codes.get(state, FAILED) for state in states.values())


def recorded(config: Config) -> int:
    """The exit code that a cell's records tell."""
    from configs.records import records_of

    return exit_code({record.seed: record.state() for record in records_of(config)})


def worst(codes: Iterable[int]) -> int:
    """The exit code that tells of several; all are waited for."""
    present = set(codes)
    return next((code for code in (FAILED, BAD_INPUT, DIVERGED, BUSY) if code in present), FINISHED)


def _with_hydra(chosen: argparse.Namespace, arguments: Sequence[str]) -> list[int]:
    """Multirun, with whatever launcher is configured, and Hydra's other flags. Returns the exit codes of what has run here."""
    import os

    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig

    codes: list[int] = []

    @hydra.main(config_path="configs", config_name="config", version_base="1.3")
    def job(composed: DictConfig) -> int:
        cells = cells_of(checked(composed), list(HydraConfig.get().overrides.task))
        codes.append(worst(train(cell) for cell in cells))
        return codes[-1]

    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in chosen.overrides)  # Hydra wants its flags last
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here instead of being printed with a traceback
    GlobalHydra.instance().clear()  # what the checks have initialised, Hydra's own main wants to do itself
    try:
        job()
    except HydraException as error:
        codes.append(_refuse(str(error).splitlines()[0]))
    return codes


def _refuse(line: str) -> int:
    print(f"train.py: {line}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
