"""Command lines from a grammar of valid and nearly valid ones: each is understood, or refused in one line."""

import io
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

import experiments.calibrate
import experiments.cell
import experiments.paper.training
import experiments.report
import experiments.sweep
import experiments.train
import scripts.download
import scripts.landscape
import scripts.report
import scripts.sharpness
import scripts.table
from experiments.cli import ExitCode, attempt
from experiments.schema.overrides import GROUPS, choices

VALUES = (
    *(
        "0",
        "1",
        "-1",
        "2.5",
        "1e-3",
        "1e400",
        "nan",
        "inf",
        "null",
        "true",
        "''",
        "[]",
        "[1,2]",
        "[0,0]",
        "{a:1}",
    ),
    *(
        "a b",
        "a&b",
        "a=b",
        "'a",
        '"',
        "[",
        "]",
        "{",
        "}",
        "(",
        "a(b)",
        "$",
        "${",
        "${x}",
        "${oc.env:NO}",
        "${results}",
    ),
    *(
        "1,2",
        "choice(1,2)",
        "range(1,3)",
        "interval(0,1)",
        "???",
        "\\",
        "ü",
        "😀",
        "~",
        "~/x",
        "\t",
        "%d",
        "-",
        "@",
        "!",
    ),
    *("{_target_:os.mkdir}", "[[1],[2]]", "9" * 400, "x" * 3000, "glob(*)", "0x10", "1_000", "01", "+1"),
)
KEYS = (
    *(
        "seeds",
        "results",
        "trainer",
        "trainer.epochs",
        "trainer.device",
        "trainer.workers",
        "trainer.precision",
    ),
    *(
        "dataset.batch_size",
        "dataset.root",
        "dataset.budget",
        "dataset.recipe.sgd_lr",
        "dataset.recipe.schedule",
    ),
    *(
        "model.dropout",
        "model.name",
        "model.arch",
        "optimizer.base.lr",
        "optimizer.base.betas",
        "optimizer.schedule",
    ),
    *("optimizer.salr", "optimizer.salr.gamma", "optimizer.salr.measure", "optimizer.local_entropy.steps"),
    *(
        "tracker.tags",
        "tracker.mode",
        "experiment",
        "preset",
        "cell",
        "hydra",
        "hydra.launcher.x",
        "hydra/launcher",
    ),
    *("optimizer.", ".optimizer", "optimizer..base", "", "a b", "x.y.z", "_target_", "dataset@model"),
)
MARKS = ("", "", "", "", "+", "++", "~", "-", "--", " ")
FLAGS = (
    "-m",
    "--multirun",
    "--cfg",
    "--cfg=job",
    "job",
    "--info",
    "-p",
    "--package=x",
    "--resolve",
    "-h",
    "--x",
    "-",
)


def word(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.35:
        group = chance.choice((*GROUPS, "experiment"))
        name = chance.choice(choices(group))
        if chance.random() < 0.3:
            place = chance.randrange(len(name))
            name = name[:place] + chance.choice("x_,./'") + name[place + chance.randrange(2) :]
        return f"{group}={name}"
    if kind < 0.9:
        equals = "=" if chance.random() < 0.95 else chance.choice(("", "==", " = ", ":"))
        return f"{chance.choice(MARKS)}{chance.choice(KEYS)}{equals}{chance.choice(VALUES)}"
    return chance.choice(FLAGS)


def outcome(main: Callable[[list[str]], int | None], arguments: list[str], name: str) -> tuple[int, str, str]:
    """Run a script's main in this process, as its file does."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", [name, *arguments]):
        try:
            code: int = attempt(lambda: main(arguments))
        except SystemExit as end:  # argparse's way
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def assert_understood_or_refused(result: tuple[int, str, str], name: str, arguments: list[str]) -> None:
    code, _, err = result
    assert code in (ExitCode.FINISHED, ExitCode.BAD_INPUT), (arguments, result)
    if code == ExitCode.BAD_INPUT:
        lines = err.splitlines()
        assert all(line.startswith(f"{name}: ") for line in lines), (arguments, err)
        assert len(lines) == 1 or name == "sharpness.py", (arguments, err)  # one line per folder
        assert err, arguments
    else:
        assert err == "", (arguments, err)


def fuzz_train(seed: int, lines: int, folder: Path) -> tuple[int, int]:
    """Return how many lines were understood, and how many were refused."""
    chance = random.Random(seed)
    understood = 0
    for _ in range(lines):
        arguments = [word(chance) for _ in range(chance.randrange(6))]
        result = outcome(experiments.train.main, arguments, "train.py")
        assert_understood_or_refused(result, "train.py", arguments)
        understood += result[0] == ExitCode.FINISHED
        assert not list(folder.iterdir()), arguments
    return understood, lines - understood


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Replace what a command does once its arguments are accepted, and work in an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(experiments.train, "train_and_print", lambda config: ExitCode.FINISHED)
    monkeypatch.setattr("experiments.launch.launch", lambda *_: None)
    monkeypatch.setattr(experiments.train, "recorded", lambda config: ExitCode.FINISHED)
    return folder


def test_lines_of_train(nothing_is_trained: Path) -> None:
    understood, refused = fuzz_train(0, 150, nothing_is_trained)
    assert understood > 10
    assert refused > 50


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", range(1, 5))
def test_thousands_of_lines_of_train(seed: int, nothing_is_trained: Path) -> None:
    fuzz_train(seed, 1500, nothing_is_trained)


SCRIPTS: dict[str, tuple[Callable[[list[str]], int | None], str]] = {
    "table.py": (
        scripts.table.main,
        "1 9 all 0 x --seeds 2 [0,1] --preset smoke --plan --networks lenet --launcher local slurm --jobs 4 "
        "--override trainer.epochs=1 results=/dev/null/x",
    ),
    "report.py": (
        scripts.report.main,
        "1 4 10 x --seeds 2 none --preset short tiny --override seeds=0 a ~x",
    ),
    "sharpness.py": (
        scripts.sharpness.main,
        "nothing . --examples 0 5 --hessian-top --device tpu --sam --ball -x",
    ),
    "landscape.py": (
        scripts.landscape.main,
        "nothing . --line 2 3 --plane 0 --reach nan 1e9 --examples -1 --x",
    ),
    "download.py": (scripts.download.main, "digits mnist imagenet --root /dev/null/x -- -r pydoc"),
}
"""By script: its main function, and the words of its lines."""


@pytest.fixture
def nothing_is_done(nothing_is_trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the work of the scripts, too."""
    sweep, training = experiments.sweep, experiments.paper.training
    monkeypatch.setattr(sweep, "check_devices", lambda plans: None)
    monkeypatch.setattr(sweep, "train_here", lambda plans: [])
    monkeypatch.setattr(sweep, "launch_all", lambda *_: None)
    monkeypatch.setattr(sweep, "check_writable", lambda results: None)
    monkeypatch.setattr(training, "records_of", lambda config: [])
    monkeypatch.setattr(training, "seconds_a_call", lambda plans: {plan.network: 1.0 for plan in plans})
    monkeypatch.setattr(experiments.report, "make_report", lambda *_: [])
    monkeypatch.setattr(scripts.report, "make_report", lambda *_, **__: [])
    monkeypatch.setattr("data.fetch", lambda name, root: None)
    return nothing_is_trained


def fuzz_scripts(seed: int, lines: int, folder: Path) -> None:
    chance = random.Random(seed)
    for _ in range(lines):
        name = chance.choice(list(SCRIPTS))
        main, words = SCRIPTS[name]
        arguments = [chance.choice(words.split()) for _ in range(chance.randrange(6))]
        result = outcome(main, arguments, name)
        assert_understood_or_refused(result, name, arguments)
        assert not list(folder.iterdir()), arguments


def test_lines_of_scripts(nothing_is_done: Path) -> None:
    fuzz_scripts(0, 60, nothing_is_done)


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", range(1, 3))
def test_hundreds_of_lines_of_scripts(seed: int, nothing_is_done: Path) -> None:
    fuzz_scripts(seed, 600, nothing_is_done)
