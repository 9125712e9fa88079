"""Configurations that try to run code are refused in one line, and the code does not run."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.schema import ConfigError
from scripts import table
from tests.helpers.commands import ROOT, SMALL, command

CALLBACK = (
    "# @package _global_\nhydra:\n  callbacks:\n    planted:\n      _target_: os.mkdir\n      path: {mark}\n"
)
HANDLER = (
    "version: 1\nhandlers:\n  planted:\n    class: os.mkdir\n    path: {mark}\nroot:\n  handlers: [planted]\n"
)

HOSTILE = [
    "hydra.launcher._target_=os.mkdir",
    "hydra.launcher={{_target_:os.mkdir,path:{mark}}}",
    "hydra.launcher.planted={{_target_:os.mkdir,path:{mark}}}",
    "hydra.sweeper._target_=os.mkdir",
    "hydra.sweeper={{_target_:os.mkdir,path:{mark}}}",
    "hydra.callbacks={{planted:{{_target_:os.mkdir,path:{mark}}}}}",
    "+hydra.callbacks.planted={{_target_:os.mkdir,path:{mark}}}",
    "++hydra.callbacks.planted={{_target_:os.mkdir,path:{mark}}}",
    'hydra.callbacks="${{oc.decode:${{oc.env:PLANTED}}}}"',
    'hydra.launcher.planted="${{oc.decode:${{oc.env:PLANTED}}}}"',
    "hydra.job_logging={{version:1,handlers:{{x:{{class:os.mkdir,path:{mark}}}}}}}",
    "hydra.job_logging.handlers.console.class=os.mkdir",
    "hydra.hydra_logging.handlers.console.class=os.mkdir",
    "hydra/job_logging={above}/hydra/job_logging/planted",
    "hydra/launcher={above}/hydra/launcher/planted",
    "hydra/launcher=planted",
    "hydra/sweeper=planted",
    "hydra/launcher@hydra.callbacks=basic",
    "hydra.searchpath=[file://{folder}] hydra/launcher=planted",
    "hydra.searchpath=[file://{folder}] hydra/job_logging=planted",
    "hydra.searchpath=[pkg://os]",
    "hydra.job.env_set={{PATH:{folder}}}",
    "hydra.run.dir={mark}",
    "hydra.sweep.dir={mark}",
    "hydra={{launcher:{{_target_:os.mkdir}}}}",
    "~hydra.launcher",
    "+model._target_=os.mkdir",
    "model={{_target_:os.mkdir,path:{mark}}}",
    "dataset={above}/hydra/launcher/planted",
    "+experiment={above}/hydra/launcher/planted",
    "seeds={{_target_:os.mkdir,path:{mark}}}",
]
FLAGS = [
    "--config-dir {folder}",
    "--config-path {folder}",
    "-cd {folder}",
    "-cp {folder}",
    "--config-name planted",
    "--run",
    "--shell-completion install=bash",
]


@pytest.fixture
def planted(tmp_path: Path) -> dict[str, str]:
    """What an attacker has laid ready, and the ways there; the mark is made when it runs."""
    mark, folder = tmp_path / "mark", tmp_path / "planted"
    for group, text in {"launcher": CALLBACK, "job_logging": HANDLER}.items():
        place = folder / "hydra" / group
        place.mkdir(parents=True)
        (place / "planted.yaml").write_text(text.format(mark=mark))
    return {"mark": str(mark), "folder": str(folder), "above": "../" * 30 + str(folder)[1:]}


def test_what_is_planted_would_run(planted: dict[str, str]) -> None:
    config = OmegaConf.load(Path(planted["folder"], "hydra", "launcher", "planted.yaml"))
    instantiate(config.hydra.callbacks.planted)
    assert Path(planted["mark"]).is_dir()


@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_train_calls_nothing_that_a_configuration_names(
    flag: list[str], planted: dict[str, str], tmp_path: Path
) -> None:
    environment = {"PLANTED": "{planted: {_target_: os.mkdir, path: %s}}" % planted["mark"]}  # noqa: UP031 - braces
    for number, line in enumerate([*HOSTILE, *FLAGS]):
        words = line.format(**planted).split()
        with command(
            tmp_path / f"here-{number}", *flag, *SMALL, "trainer.epochs=1", *words, environment=environment
        ) as run:
            assert run.wait() == 2, run.text
            assert run.text.startswith("train.py: "), run.text
            assert run.text.count("\n") == 1, run.text
        assert list((tmp_path / f"here-{number}").iterdir()) == []
        assert not Path(planted["mark"]).exists(), line


TABLE = """
import sys
sys.path.insert(0, ".")
from experiments.cli import attempt
from scripts.table import main
sys.argv = ["table.py"]
for line in sys.stdin.read().splitlines():
    for launcher in ("local", "slurm"):
        smoke = ["9", "--preset", "smoke", "--seeds", "1"]
        arguments = [*smoke, "--launcher", launcher, "--override", *line.split()]
        print(launcher, int(attempt(lambda: main(arguments))), flush=True)
"""


def test_neither_does_a_table(planted: dict[str, str]) -> None:
    lines = [line.format(**planted) for line in HOSTILE]
    done = subprocess.run(
        [sys.executable, "-c", TABLE],
        cwd=ROOT,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["local 2", "slurm 2"] * len(lines)
    refusals = done.stderr.splitlines()
    assert len(refusals) == 2 * len(lines)
    assert all(line.startswith("table.py: ") for line in refusals)
    assert not Path(planted["mark"]).exists()


def test_a_launchers_value_without_a_launcher_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"hydra\.launcher\.partition=fast: .* --launcher slurm or ray with it$"
    ):
        table.main(["9", "--override", "hydra.launcher.partition=fast"])
