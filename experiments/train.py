"""The command ``python train.py``: train cells over their seeds, and keep a record of every run."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from experiments.cell import results_table, train_and_print
from experiments.cli import ExitCode, attempt, code_of, worst
from experiments.records import records_of
from experiments.request import requested
from experiments.schema import Config, ConfigError
from experiments.schema.overrides import GROUPS, check_overrides, choices, hydra, is_launching

HELP = """\
usage: python train.py [name=value ...]        train one cell over its seeds
       python train.py -m [name=a,b ...]       train every combination of the values

A cell is made of (name=choice):
{groups}
What often changes:
  seeds=30                 thirty seeds, 0 to 29; seeds=[0,3,7] for these three
  trainer.epochs=3         by default the data set's budget over the optimizer's gradient calls per iteration
  trainer.precision=bf16   about twice as fast if the processor has bfloat16 (other numbers: another run)
  trainer.workers=4        seeds in parallel; auto by default
  trainer.device=cuda:1    or cpu; auto by default, which takes an accelerator if there is one
  results=DIR              the folder of the records (results/)
  preset=short             with experiment=: a tenth of the budget; smoke: one epoch on embedded data
  optimizer.salr.gamma=0.001, dataset.batch_size=64, model.dropout=0.2, ...
                           any value of the files in configs/

Examples:
  python train.py optimizer=sgd_salr model=resnet18
  python train.py dataset=cifar10 model=resnet18 optimizer=sgd_salr seeds=5
  python train.py -m dataset=mnist model=lenet,mnistfc optimizer=sgd,sgd_salr seeds=3
  python train.py experiment=table1 seeds=3 trainer.precision=bf16
  python train.py --cfg job --resolve optimizer=sgd_salr    print the configuration, train nothing

A finished run is skipped, an interrupted one is resumed. Exit code: 0 all finished, 1 a run failed, 2 wrong
input, 3 a run diverged, 4 another process trains a run, 130 interrupted.
"""

_ABOUT = {
    "dataset": "default digits, which needs no download",
    "model": "default mnistfc",
    "optimizer": "default sgd",
    "tracker": "default none",
    "experiment": "all cells of a table of the paper or of the study, in place of the first three",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code. Raises what :func:`experiments.cli.attempt` catches."""
    if {"-h", "--help"} & set(arguments):
        print(_help())
        return ExitCode.FINISHED
    chosen = _flags(arguments)
    launching = [word for word in chosen.overrides if is_launching(word)]
    words = [word for word in chosen.overrides if word not in launching]
    check_overrides(launching)
    cells = requested(words, chosen.multirun)  # all are checked before the first one is trained
    if chosen.cfg or chosen.info:
        _show(chosen)
        return ExitCode.FINISHED
    configs = [cell.config for cell in cells]
    if launching and not chosen.multirun:
        raise ConfigError(f"{launching[0]}: a launcher needs -m")
    if launching:
        from experiments.launch import launch

        launch([[cell.words()] for cell in cells], configs[0].results, launching)
        codes = list(map(recorded, configs))
    else:
        codes = [attempt(partial(train_and_print, config)) for config in configs]
    if launching or len(configs) > 1:
        print(f"\n{results_table(configs)}")
    return worst(codes)


def recorded(config: Config) -> ExitCode:
    """Return the exit code that follows from a cell's records."""
    return code_of(record.state() for record in records_of(config))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; train.py --help explains")


def _flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the flags: those of Hydra's that only show something, and ``-m``."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("-m", "--multirun", action="store_true")
    one.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    infos = ("all", "config", "defaults", "defaults-tree", "plugins")
    one.add_argument("-i", "--info", nargs="?", const="all", choices=infos)
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("overrides", nargs="*")
    chosen = parser.parse_intermixed_args(arguments)
    if (chosen.resolve or chosen.package is not None) and chosen.cfg is None:
        parser.error("--resolve and --package say what --cfg shows: expected --cfg with them")
    return chosen


def _show(chosen: argparse.Namespace) -> None:
    """Print what Hydra knows of the one cell that is asked for."""
    if any(word.startswith(("experiment=", "preset=")) for word in chosen.overrides):
        raise ConfigError("--cfg and --info show one cell; expected none of experiment= and preset=")
    shown = hydra().hydra
    assert shown is not None
    if chosen.cfg:
        shown.show_cfg("config", chosen.overrides, chosen.cfg, chosen.package, chosen.resolve)
    else:
        shown.show_info(chosen.info, "config", chosen.overrides)


def _help() -> str:
    groups = (*GROUPS, "experiment")
    width = max(map(len, groups))
    lines = []
    for name in groups:
        about = f" ({_ABOUT[name]})" if name in _ABOUT else ""
        lines.append(f"  {name:<{width}}  {', '.join(choices(name))}{about}\n")
    return HELP.format(groups="".join(lines))
