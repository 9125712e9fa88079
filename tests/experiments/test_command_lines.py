"""From a command line to a configuration, or to one line that says what is wrong."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.records import records_of
from experiments.request import requested
from experiments.schema import ConfigError, load
from experiments.schema.overrides import GROUPS, choices, expand
from tests.helpers.commands import ROOT, command, train

# A wrong command line, and words that its one line must have.
WRONG = {
    "optimizer=sgdm": ("unknown", "choose from", "sgd_salr", "did you mean sgd?"),
    "optimizer=": ("unknown", "choose from"),
    "optimizer=null": ("unknown", "choose from"),
    "optimizer=[sgd]": ("unknown", "choose from"),
    "optimizer=../optimizer/sgd": ("unknown", "choose from"),
    "model=resnet19": ("unknown", "resnet18", "did you mean resnet18?"),
    "dataset=minst": ("unknown", "did you mean mnist?"),
    "tracker=wandbb": ("unknown", "did you mean wandb?"),
    "experiment=table10": ("unknown", "table9"),
    "trainer=fast": ("unknown", "default"),
    "sgd": ("'sgd'", "name=value"),
    "=sgd": ("=sgd",),
    "'optimizer=sgd": ("name=value",),
    "trainer.epoch=3": ("trainer has no 'epoch'", "did you mean epochs?"),
    "epochs=3": ("no 'epochs'",),
    "optimizer.salr.gamma=0.1": ("no optimizer.salr part", "optimizer=sgd_salr"),
    "trainer.epochs=many": ("trainer.epochs", "Integer"),
    "trainer.epochs=1.5": ("trainer.epochs", "Integer"),
    "trainer.epochs=0": ("trainer.epochs = 0", ">= 1"),
    "trainer.threads=0": ("trainer.threads = 0", ">= 1"),
    "trainer.workers=0": ("trainer.workers = 0", ">= 1"),
    "trainer.workers=some": ("trainer.workers = some", "auto"),
    "trainer.device=tpu": ("trainer.device = tpu", "cuda"),
    "trainer.device=cuda:x": ("trainer.device = cuda:x", "cuda:N"),
    "trainer.precision=fp16": ("trainer.precision", "bf16"),
    "optimizer=sgd_salr optimizer.salr.descent_steps=-1": ("descent_steps = -1", ">= 0"),
    "optimizer=sgd_salr optimizer.salr.descent_steps=0 optimizer.salr.ascent_steps=0": (
        "ascent_steps = 0",
        "at least one",
    ),
    "optimizer=sgd_salr optimizer.salr.interval=0": ("optimizer.salr.interval = 0", ">= 1"),
    "optimizer=sgd_salr optimizer.salr.gamma=0": ("optimizer.salr.gamma = 0", "> 0"),
    "optimizer=adam_salr optimizer.salr.gamma=-0.1": ("optimizer.salr.gamma = -0.1", "> 0"),
    "optimizer=adam_salr optimizer.salr.gamma=nan": ("optimizer.salr.gamma = nan", "finite"),
    "optimizer.base.lr=0": ("optimizer.base.lr = 0", "> 0"),
    "optimizer.base.lr=-1": ("optimizer.base.lr = -1", "> 0"),
    "optimizer.base.lr=inf": ("optimizer.base.lr = inf", "finite"),
    "optimizer.base.lr=null": ("optimizer.base.lr",),
    "optimizer.base.lr=${oc.env:NOT_THERE}": ("optimizer.base.lr", "NOT_THERE"),
    "optimizer.base.name=rmsprop": ("optimizer.base.name", "adam"),
    "optimizer=adam optimizer.base.momentum=0.9": ("optimizer.base.momentum = 0.9", "an option of sgd"),
    "optimizer=sgd optimizer.base.betas=[0.9,0.99]": ("optimizer.base.betas", "an option of adam"),
    "optimizer=adam optimizer.base.betas=[0.9]": ("optimizer.base.betas", "two numbers"),
    "optimizer.base.momentum=1": ("optimizer.base.momentum = 1", "below 1"),
    "optimizer.schedule.every=0": ("optimizer.schedule.every = 0", ">= 1"),
    "optimizer.schedule.factor=-1": ("optimizer.schedule.factor = -1", "> 0"),
    "optimizer=smoothout optimizer.schedule.milestones=[-1]": ("optimizer.schedule.milestones = -1", ">= 0"),
    "optimizer=smoothout optimizer.schedule.start=3": ("optimizer.schedule.start=3: unused", "milestones"),
    "optimizer.schedule.milestones=[30] optimizer.schedule.every=null": ("every=null: unused", "milestones"),
    "optimizer.schedule.milestones=[30] dataset.recipe.schedule.start=3": ("start=3: unused", "milestones"),
    "optimizer.schedule={milestones:[30],start:5}": ("no optimizer.schedule.start with them",),
    "dataset.recipe.schedule.milestones=[3]": (
        "dataset.recipe.schedule.milestones",
        "optimizer.schedule.milestones",
    ),
    "optimizer=smoothout dataset.recipe.sgd_lr=3": (
        "unused by optimizer=smoothout",
        "expected optimizer.base.lr",
    ),
    "optimizer=adam dataset.recipe={sgd_lr:3}": ("sgd_lr:3}: unused by optimizer=adam", "optimizer.base.lr"),
    "optimizer.schedule=null dataset.recipe.schedule.start=3": (
        "start=3: unused",
        "expected optimizer.schedule",
    ),
    "optimizer=swa optimizer.averaging.start=1": ("optimizer.averaging.start = 1", "below 1"),
    "dataset.train_size=700 dataset.classes=5": ("a fact of the data set cannot be set", "one of cifar10"),
    "dataset.height=12": ("a fact of the data set cannot be set", "dataset="),
    "dataset=pydoc model=lstm_char dataset.vocabulary=9": ("a fact of the data set cannot be set",),
    "dataset.recipe.sum_steps=true": ("dataset.recipe.sum_steps = True", "false for images"),
    "dataset.recipe={sum_steps:true}": ("dataset.recipe.sum_steps = True", "false for images"),
    "dataset.batch_size=0": ("dataset.batch_size = 0", ">= 1"),
    "dataset.batch_size=1438": ("dataset.batch_size = 1438", "1437"),
    "dataset.batch_size=1400 dataset.validation=true": ("dataset.batch_size = 1400", "1294"),
    "dataset=ptb model=lstm_ptb dataset.batch_size=100000": ("dataset.batch_size = 100000", "streams"),
    "model.dropout=1": ("model.dropout = 1", "below 1"),
    "model=lstm_char": ("model=lstm_char on dataset=digits", "tokens"),
    "dataset=pydoc": ("model=mnistfc on dataset=pydoc", "image"),
    "dataset=cifar10 model=lenet": ("model=lenet on dataset=cifar10", "3 channels"),
    "seeds=0": ("seeds = 0", "at least one"),
    "seeds=-3": ("seeds = -3", "at least one"),
    "seeds=[]": ("seeds = []", "at least one"),
    "seeds=[3,3]": ("seeds = [3, 3]", "once"),
    "seeds=[0,-1]": ("seeds = [0, -1]", ">= 0"),
    "seeds=1.5": ("seeds = 1.5", "seeds=30"),
    "seeds=true": ("seeds = True", "seeds=30"),
    "seeds=few": ("seeds = few", "seeds=30"),
    "seeds=1000001": ("seeds = 1000001", "at most"),
    "+x=1": ("+x=1",),
    "++trainer.epochs=3": ("++trainer.epochs=3",),
    "~optimizer": ("~optimizer",),
    "~trainer.epochs": ("~trainer.epochs",),
    "optimizer=sgd,adam": ("-m",),
    "seeds=1,2": ("-m",),
    "-m optimizer=sgd,sgdm": ("optimizer=sgdm", "unknown"),
    "-m optimizer.base.lr=0.1,0": ("optimizer.base.lr = 0", "> 0"),
    "-m optimizer=sgd,adam optimizer.base.momentum=0.1": ("optimizer.base.momentum = 0.1",),
    "-m optimizer.base.lr=interval(0,1)": ("interval(0,1)", "seeds=1,2"),
    "-m hydra/launcher=teleport": ("hydra/launcher=teleport", "choose from basic"),
    "hydra.run.dir=elsewhere": ("hydra.run.dir=elsewhere", "closed"),
    "-m --cfg job": ("not allowed with",),
    "--turbo": ("--turbo", "--help"),
    "-x optimizer=sgd": ("-x", "--help"),
    "--resolve optimizer=sgd": ("--resolve", "expected --cfg"),
    "-p optimizer optimizer=sgd": ("--package", "expected --cfg"),
    "--info config --resolve": ("--resolve", "expected --cfg"),
    "--cfg everything": ("everything", "job"),
    "--config-dir elsewhere": ("--config-dir",),
    "--experimental-rerun config.pickle": ("--experimental-rerun",),
    "model._target_=os.system": ("_target_ is not allowed",),
    "model={_target_:os.system}": ("_target_ is not allowed",),
    "+optimizer._target_=os.system": ("unknown key",),
    "-m hydra.launcher._target_=os.system": ("_target_ is not allowed",),
    "-m hydra.sweeper={_target_:os.system}": ("_target_ is not allowed",),
    "optimizer@model=sgd": ("optimizer=",),
    "optimizer.name=../../escaped": ("optimizer=", "one of ada_smoothout"),
    "dataset.name=../../escaped": ("dataset=", "one of cifar10"),
    "model.name=lenet": ("model=", "one of allcnn_bn"),
    "cells=3": ("no 'cells'",),
    "cell=1": ("no 'cell'",),
    "preset=smoke": ("preset", "experiment="),
    "experiment=table1 model=lenet preset=smoke": ("model=lenet: a table sets the model",),
    "dataset.root=": ("dataset.root = ''", "the folder of the data"),
    "experiment=table1 preset=tiny": ("tiny", "smoke"),
    "experiment=table1 --cfg job": ("--cfg", "one cell"),
    "hydra/launcher=basic": ("hydra/launcher=basic", "-m"),
    "results=": ("results", "folder"),
    "results=null": ("results",),
}


def assert_refused(code: int, out: str, err: str, words: tuple[str, ...]) -> None:
    assert code == 2
    assert out == ""
    assert err.startswith("train.py: ")
    assert err.count("\n") == 1, err
    assert len(err) < 700, err
    for word in words:
        assert word in err


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = train(line.split(" "))
    assert_refused(code, *capsys.readouterr(), WRONG[line])
    assert list(tmp_path.iterdir()) == []


HEAVY = ("torch", "scipy", "pandas", "matplotlib")
COMMAND = f"""
import runpy, sys
try:
    runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
except SystemExit as end:
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    sys.exit(f"loaded {{heavy}}" if heavy else end.code)
"""


def light_command(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python train.py`` in a process of its own, which fails if it loads what takes seconds to load."""
    script = f"import sys; sys.argv = {['train.py', *line.split()]!r}{COMMAND}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", script]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "line",
    ["optimizer=sgdm", "trainer.epochs=many", "-m optimizer=sgd,adam optimizer.base.momentum=0.9", "--turbo"],
)
def test_a_refusal_loads_nothing_heavy(line: str, tmp_path: Path) -> None:
    done = light_command(line, tmp_path)
    assert_refused(done.returncode, done.stdout, done.stderr, WRONG.get(line, ()))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=3), st.booleans())
def test_any_text_is_refused_or_understood(arguments: list[str], several: bool) -> None:
    with suppress(ConfigError):
        for combination in expand(arguments) if several else [arguments]:
            load(combination)


@settings(max_examples=10)
@given(st.sampled_from(["optimizer.base.lr", "dataset.batch_size", "model.dropout", "seeds"]), st.floats())
def test_any_number_is_refused_or_within_its_range(name: str, value: float) -> None:
    with suppress(ConfigError):
        config = load([f"{name}={value}"])
        assert 0 < config.optimizer.base.lr < float("inf")
        assert 1 <= config.dataset.batch_size <= 1437
        assert 0 <= config.model.dropout < 1
        assert config.seed_list


def test_help_names_every_group_and_choice(tmp_path: Path) -> None:
    done = light_command("--help", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    for group in (*GROUPS, "experiment"):
        assert choices(group)
        for choice in choices(group):
            assert choice in lines[group]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["", "optimizer=sgd_salr model=resnet18", "experiment=table1 seeds=3"])
def test_a_right_configuration_is_checked_without_torch(line: str) -> None:
    script = (
        "import sys; from experiments.request import requested; from experiments.records import records_of;"
        f"[records_of(cell.config) for cell in requested({line.split()!r})]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cfg", "job", "--resolve", "optimizer=adam_salr"], ("name: adam_salr", "gamma: 0.002")),
        (["optimizer=adam_salr", "-c", "job", "seeds=7"], ("name: adam_salr", "seeds: 7")),
        (["--cfg", "job", "--package", "optimizer", "optimizer=sam"], ("rho: 0.05",)),
        (["--cfg=job", "--resolve"], ("lr: 0.01",)),
        (["optimizer=sam", "--info", "defaults"], ("optimizer/sam",)),
        (["--info"], ("Hydra",)),
    ],
)
def test_hydras_flags_show_and_train_nothing(
    flags: list[str], words: tuple[str, ...], tmp_path: Path
) -> None:
    with command(tmp_path / "here", *flags) as shown:
        assert shown.wait() == 0
        for word in words:
            assert word in shown.text
        assert "test accuracy" not in shown.text
    assert list((tmp_path / "here").iterdir()) == []


def test_seeds_and_epochs_do_what_they_say() -> None:
    assert load([]).seed_list == [0]
    assert load(["seeds=30"]).seed_list == list(range(30))
    assert load(["seeds=[0,3,7]"]).seed_list == [0, 3, 7]
    assert [run.seed for run in records_of(load(["seeds=[7,3]"]))] == [7, 3]
    assert load(["trainer.epochs=3"]).epochs == 3
    assert load(["trainer.epochs=3", "optimizer=sgd_salr"]).epochs == 3


@pytest.mark.parametrize(
    ("dataset", "model", "plain", "salr"),
    [
        ("digits", "mnistfc", 50, 10),
        ("mnist", "lenet", 100, 20),
        ("cifar10", "resnet18", 200, 40),
        ("cifar100", "resnet18", 200, 40),
        ("ptb", "lstm_ptb", 55, 11),
        ("war_and_peace", "lstm_char", 50, 10),
    ],
)
def test_the_budget_is_counted_in_gradient_calls(dataset: str, model: str, plain: int, salr: int) -> None:
    chosen = (f"dataset={dataset}", f"model={model}")
    assert load([*chosen, "optimizer=sgd"]).epochs == plain
    assert load([*chosen, "optimizer=sgd_salr"]).epochs == salr


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        *((name, 50) for name in ("sgd", "adam", "swa", "swa_adam", "smoothout")),
        *(
            (name, 10)
            for name in ("sgd_salr", "adam_salr", "entropy_sgd", "entropy_sgd_salr", "entropy_adam_salr")
        ),
        ("sam", 25),
        # 1 + (n1 - 1 + n2 - 1) / c gradients an iteration: 9, or 3
        ("sgd_salr optimizer.salr.interval=1", 6),
        (
            "sgd_salr optimizer.salr.descent_steps=3 optimizer.salr.ascent_steps=1 optimizer.salr.interval=1",
            17,
        ),
    ],
)
def test_an_optimizers_gradient_calls_divide_the_budget(optimizer: str, expected: int) -> None:
    assert load(f"optimizer={optimizer}".split()).epochs == expected


def test_combinations_multiply() -> None:
    assert expand(["optimizer=sgd,sgd_salr", "seeds=[0,3]", "model=lenet,mnistfc"]) == [
        ["optimizer=sgd", "seeds=[0,3]", "model=lenet"],
        ["optimizer=sgd", "seeds=[0,3]", "model=mnistfc"],
        ["optimizer=sgd_salr", "seeds=[0,3]", "model=lenet"],
        ["optimizer=sgd_salr", "seeds=[0,3]", "model=mnistfc"],
    ]
    assert expand(["trainer.epochs=range(1,4)"]) == [
        ["trainer.epochs=1"],
        ["trainer.epochs=2"],
        ["trainer.epochs=3"],
    ]
    assert expand(["optimizer=glob(sa*)"]) == [["optimizer=sam"]]


FOLDERS = ["my runs", "a=b", "für & wider", "it's", "50 %", "a,b", "(x) {y}", "#1", "[1]"]


@pytest.mark.parametrize("name", FOLDERS)
def test_any_folder_can_hold_the_results(name: str, tmp_path: Path) -> None:
    assert load([f"results={tmp_path / name}"]).results == str(tmp_path / name)
    (cell,) = requested([f"results={tmp_path / name}", "seeds=2"], multirun=True)
    assert cell.config.results == str(tmp_path / name)
    assert load(cell.overrides).results == str(tmp_path / name)


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for word in ("results=~/x", "results='~/x'", "results=${oc.env:HOME}/x"):
        assert load([word]).results == str(tmp_path / "x")


def test_a_value_that_needs_quotes_is_shown_with_them() -> None:
    with pytest.raises(ConfigError, match=r"as in \"tracker\.project='a&b'\"$"):
        load(["tracker.project=a&b"])
    assert load(["tracker.project='a&b'"]).tracker.project == "a&b"
