"""The scripts that measure finished runs: values against plain twins, records, refusals."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import data
import experiments.sharpness
import models
from experiments.cell import train_cell
from experiments.cli import start
from experiments.finished import Batches, Finished, NotMeasurable, finished_run, open_finished
from experiments.records import record_of
from experiments.schema import ConfigError, load, plain, recorded
from experiments.schema.overrides import choices
from experiments.study import flatness, training
from salr.records import Run
from salr.sharpness import box_sharpness
from scripts import landscape, sharpness
from tests.helpers.commands import run_script

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Train LeNet on the embedded digits, with and without weight averaging."""
    results = tmp_path_factory.mktemp("trained")
    runs = {}
    for optimizer, more in (("sgd_salr", []), ("swa", ["optimizer.averaging.start=0"])):
        overrides = [
            f"optimizer={optimizer}",
            *more,
            "model=lenet",
            "trainer.epochs=2",
            "trainer.device=cpu",
            "trainer.threads=1",
        ]
        config = load([*overrides, f"results={results}"])
        assert train_cell(config) == {0: "finished"}
        runs[optimizer] = record_of(config, 0)
    return runs


@pytest.fixture
def run(trained: dict[str, Run], tmp_path: Path) -> Run:
    """Copy the finished runs, to write into them."""
    return copied(trained["sgd_salr"], tmp_path)


def copied(run: Run, results: Path) -> Run:
    copy = Run(results, run.dataset, run.model, run.optimizer, run.key, run.seed)
    shutil.copytree(run.folder, copy.folder)
    return copy


def refuse_to_open(*_: object) -> Finished:
    raise AssertionError("the network was built, but there is nothing to measure")


# Values


def definition_1(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Compute Definition 1 as the paper writes it, in double precision and one batch."""

    def after(direction: int) -> float:
        moved = copy.deepcopy(model)
        for _ in range(5):
            gradients = torch.autograd.grad(cross_entropy(moved(inputs), targets), list(moved.parameters()))
            norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
            with torch.no_grad():
                for parameter, gradient in zip(moved.parameters(), gradients, strict=True):
                    parameter += direction * 2e-3 * gradient / norm
        return float(cross_entropy(moved(inputs), targets).detach())

    return after(1) - after(-1)


@pytest.mark.parametrize("optimizer", ["sgd_salr", "swa"])
def test_values_are_those_of_a_plain_twin(optimizer: str, trained: dict[str, Run], tmp_path: Path) -> None:
    run = copied(trained[optimizer], tmp_path)
    assert run_script(sharpness, [str(run.folder)]) == 0
    record = run.read_json("sharpness.json")
    assert record is not None

    saved = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    model = models.build("lenet", (1, 8, 8), 10, dropout=0.5)
    state = saved["average"]["model"] if optimizer == "swa" else saved["model"]
    assert optimizer != "swa" or any(
        not torch.equal(value, saved["model"][name]) for name, value in state.items()
    )
    model.load_state_dict(state)
    model.double().eval()
    digits = data.load("digits", tmp_path, CPU, batch_size=128)
    whole = {
        split: (
            torch.cat([batch.inputs for batch in digits.evaluation(split)]).double(),
            torch.cat([batch.targets for batch in digits.evaluation(split)]),
        )
        for split in ("train", "test")
    }
    assert record["ascent_descent"] == pytest.approx(definition_1(model, *whole["train"]), rel=1e-3)
    inputs, targets = whole["test"]
    expected = box_sharpness(lambda: cross_entropy(model(inputs), targets), model.parameters())
    assert record["keskar_percent"] == pytest.approx(float(expected), rel=0.02)
    assert record["weights"] == ("average" if optimizer == "swa" else "last")
    assert record["settings"]["gamma"] == 2e-3
    assert {"versions", "commit", "device"} <= record["made_by"].keys()


def test_a_stream_of_tokens_is_measured_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = data.load("pydoc", tmp_path, CPU, batch_size=8, sequence_length=10)
    model = models.build(
        "lstm_char", text.input_shape, text.outputs, embedding=5, hidden=6, layers=1, dropout=0.0, init=None
    ).eval()
    parts = {"run": None, "config": load([]), "model": model, "data": text, "device": CPU, "weights": "last"}
    finished = Finished(**parts)  # type: ignore[arg-type]
    closure = finished.loss("train", 2300, lambda number, batch: None)
    assert closure.targets == 2300
    logits, targets = [], []
    for inputs, wanted, _ in list(text.evaluation("train"))[:3]:
        logits.append(model(inputs).detach())
        targets.append(wanted)
    model.reset_state()
    expected = cross_entropy(torch.cat(logits, 1)[0, :2300], torch.cat(targets, 1)[0, :2300])
    with torch.no_grad():
        torch.testing.assert_close(closure(), expected)


def test_batches_tell_how_far_they_are(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    batches = Batches(
        data.load("digits", tmp_path, CPU, batch_size=128), "train", 700, lambda *at: told.append(at)
    )
    for _ in range(2):
        assert [len(targets) for _, targets in batches] == [500, 200]
    assert told == [(0, 0), (0, 1), (1, 0), (1, 1)]


# Records


def test_a_record_grows_and_nothing_is_measured_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = str(run.folder)
    assert run_script(sharpness, [folder, "--examples", "60"]) == 0
    first = run.read_json("sharpness.json")
    assert first["measured"].keys() == {"ascent_descent", "keskar"}
    assert f"ascent_descent {first['ascent_descent']:.6g}, keskar_percent" in capsys.readouterr().out

    measures = ["--sam", "--hessian-top", "--hessian-trace"]
    assert run_script(sharpness, [folder, "--examples", "40", *measures]) == 0
    second = run.read_json("sharpness.json")
    assert {name: second["measured"][name]["examples"] for name in second["measured"]} == {
        "ascent_descent": 60, "keskar": 60, "sam": 40, "hessian_top": 40, "hessian_trace": 40,
    }  # fmt: skip
    assert second["ascent_descent"] == first["ascent_descent"]
    assert second["hessian_top"] > 0
    assert second["hessian_trace_error"] > 0

    monkeypatch.setattr(experiments.sharpness, "open_finished", refuse_to_open)
    assert run_script(sharpness, [folder, "--examples", "30", "--sam"]) == 0
    assert run.read_json("sharpness.json") == second
    monkeypatch.undo()

    assert run_script(sharpness, [folder]) == 0  # all the data: what was measured on some is measured again
    third = run.read_json("sharpness.json")
    assert third["measured"]["ascent_descent"]["examples"] is None
    assert third["measured"]["sam"]["examples"] == 40
    assert third["ascent_descent"] != first["ascent_descent"]


def test_the_study_shows_what_it_measures(run: Run) -> None:
    """A value on all the data is not the value on the first 40 examples, and is measured again."""
    assert run_script(sharpness, [str(run.folder), "--examples", "60", "--sam"]) == 0
    examples = {"ascent_descent": None, "keskar_train": 60, "sam": 40}
    config = recorded(run.read_config() or {})
    config.results = str(run.results)
    for _ in range(2):
        codes = training._measure([config], examples)
    assert codes == [0, 0, 0]
    values = flatness._values(run, {**examples, "hessian_top": None})
    assert values.keys() == {"ascent_descent", "keskar_train_percent", "sam"}


def test_values_of_other_settings_are_dropped(run: Run) -> None:
    old = {"settings": {"gamma": 1.0}, "ascent_descent": 1e9, "ball": 1e9}
    run.write_json("sharpness.json", old)
    assert run_script(sharpness, [str(run.folder), "--examples", "50"]) == 0
    record = run.read_json("sharpness.json")
    assert record["ascent_descent"] < 10
    assert "ball" not in record


def test_an_interrupt_keeps_what_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    title, entries, _ = sharpness.MEASURES["keskar"]
    monkeypatch.setitem(sharpness.MEASURES, "keskar", (title, entries, interrupted))
    monkeypatch.setattr(sys, "argv", ["sharpness.py", str(run.folder), "--examples", "50"])
    with pytest.raises(SystemExit) as end:
        start(sharpness.main)
    assert end.value.code == 130
    assert capsys.readouterr().err == "sharpness.py: interrupted; run the same command again to resume\n"
    assert run.read_json("sharpness.json")["measured"].keys() == {"ascent_descent"}


# What cannot be measured


def not_a_run(run: Run) -> Path:
    return run.results


def missing(run: Run) -> Path:
    return run.folder.with_name("seed-7")


def unfinished(run: Run) -> Path:
    run.write_status("interrupted", 1)
    return run.folder


def without_weights(run: Run) -> Path:
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run.folder / name).write_bytes(b"nothing")
    return run.folder


def without_configuration(run: Run) -> Path:
    (run.folder / "config.yaml").unlink()
    return run.folder


def of_another_version(run: Run) -> Path:
    run.write_config({**run.read_config(), "colour": "blue"})  # type: ignore[dict-item]
    return run.folder


def of_another_network(run: Run) -> Path:
    values: Any = run.read_config()
    values["model"] = plain(load(["model=mnistfc"]))["model"]
    run.write_config(values)
    return run.folder


@pytest.mark.parametrize("script", [sharpness, landscape])
@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (not_a_run, "not a run's folder; expected .../runs/<dataset>/<model>/<optimizer>-<key>/seed-<n>"),
        (missing, "no such folder; expected"),
        (unfinished, "the run is interrupted; expected a finished one"),
        (without_weights, "checkpoint.pt is missing or damaged; expected the finished run's weights"),
        (
            without_configuration,
            "config.yaml is missing or damaged; expected the one that the training wrote",
        ),
        (
            of_another_version,
            "the recorded configuration is not one of this version: Key 'colour' not in 'Config'",
        ),
        (of_another_network, "does not fit this configuration"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    script: Any, harm: Callable[[Run], Path], line: str, run: Run, capsys: Any
) -> None:
    folder = harm(run)
    assert run_script(script, [str(folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    (refusal,) = [text for text in said if text.startswith(f"{Path(script.__file__).name}: ")]
    assert line in refusal


def test_weights_of_another_version_stay_where_they_are(run: Run) -> None:
    of_another_network(run)
    before = (run.folder / "checkpoint.pt").read_bytes()
    with pytest.raises(NotMeasurable, match="does not fit this configuration"):
        open_finished(run, "cpu")
    assert (run.folder / "checkpoint.pt").read_bytes() == before


def test_the_others_are_measured_all_the_same(run: Run, capsys: Any) -> None:
    assert run_script(sharpness, [str(run.results / "nothing"), str(run.folder), "--examples", "30"]) == 2
    assert run.read_json("sharpness.json") is not None
    captured = capsys.readouterr()
    assert captured.err.startswith("sharpness.py: ")
    assert captured.out.startswith("digits lenet sgd_salr seed 0: ascent_descent ")


@pytest.mark.parametrize("script", [sharpness, landscape])
def test_a_run_that_somebody_holds_is_left_alone(script: Any, run: Run, capsys: Any) -> None:
    with run.claim():
        assert run_script(script, [str(run.folder)]) == 4
    assert "is held by process" in capsys.readouterr().err
    assert not (run.folder / "sharpness.json").exists()


def test_a_measurement_that_fails_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert run_script(sharpness, [str(run.folder), "--examples", "30"]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("box_sharpness needs SciPy for L-BFGS-B: pip install scipy")
    )


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "many"])
def test_examples_out_of_range(text: str, run: Run, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(sharpness, [str(run.folder), f"--examples={text}"])
    assert stop.value.code == 2
    assert f"{text}: expected a whole number >= 1" in capsys.readouterr().err


def test_only_a_whole_name_is_a_run(run: Run) -> None:
    assert finished_run(run.folder).folder == run.folder
    for part in (run.folder.parent, run.folder / "..", run.results):
        with pytest.raises(NotMeasurable, match="not a run's folder"):
            finished_run(part)


# Recorded configurations


PLACES = [("cifar10", "resnet18"), ("cifar100", "resnet44"), ("cifar10", "allcnn_bn"), ("ptb", "lstm_ptb")]


@pytest.mark.parametrize(
    "parts",
    [{"optimizer": name} for name in choices("optimizer")]
    + [{"dataset": dataset, "model": model} for dataset, model in PLACES],
    ids=lambda parts: " ".join(parts.values()),
)
def test_a_recorded_configuration_comes_back(parts: dict[str, str]) -> None:
    overrides = [f"{group}={choice}" for group, choice in parts.items()]
    config = load(
        [*overrides, "trainer.precision=bf16", "seeds=[3,5]", "dataset.root=/elsewhere", "tracker.tags=[a,b]"]
    )
    assert recorded(plain(config)) == config


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"model": None}, "names no dataset or no model; expected what train.py records"),
        ({"dataset": {"name": "chess"}}, "dataset=chess: unknown; choose from"),
        (
            {"dataset": {"name": "digits", "batch_size": 0}},
            "dataset.batch_size = 0; expected a whole number >= 1",
        ),
        ({"optimizer": 3}, "is not one of this version: "),
        (
            {"model": {"name": "lenet", "dropout": "much"}},
            "is not one of this version: model.dropout: Value 'much'",
        ),
        (
            {"model": {"name": "lenet", "dropout": 2.0}},
            "model.dropout = 2.0; expected a number from 0 to below 1",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        recorded({**plain(load(["model=lenet"])), **change})


# Slices


GRID = ["--line", "5", "--plane", "7", "--examples", "20"]
KILLED = """
import os, signal, sys
from salr.records import Run
from scripts import landscape
write, left = Run.write_json, [23]
def counted(run, name, value):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    write(run, name, value)
Run.write_json = counted
landscape.main(sys.argv[1:])
"""


def test_a_killed_grid_goes_on_and_ends_with_the_same_picture(
    trained: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole, killed = (copied(trained["sgd_salr"], tmp_path / name) for name in ("whole", "killed"))
    assert run_script(landscape, [str(whole.folder), *GRID]) == 0
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed.folder), *GRID], cwd=ROOT, capture_output=True, check=False
    )
    assert process.returncode == -9, process.stderr
    losses = killed.read_json("landscape_2d.json")["losses"]
    assert sum(loss is not None for row in losses for loss in row) == 22 - 5
    assert not (killed.folder / "landscape_2d.png").exists()

    writes: list[str] = []
    write = Run.write_json
    monkeypatch.setattr(
        Run, "write_json", lambda run, name, value: (writes.append(name), write(run, name, value))
    )
    assert run_script(landscape, [str(killed.folder), *GRID]) == 0
    assert writes == ["landscape_2d.json"] * (49 - 17)
    assert "seed-0, 2-D: 49 points, 17 of them found before" in capsys.readouterr().err
    for name in ("landscape_1d.json", "landscape_2d.json", "landscape_1d.png", "landscape_2d.png"):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_whole_grid_is_only_drawn_and_another_one_replaces_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(run.folder)
    assert run_script(landscape, [folder, "--line", "3", "--plane", "0", "--examples", "20"]) == 0
    assert not (run.folder / "landscape_2d.json").exists()
    line = run.read_json("landscape_1d.json")["losses"]
    (run.folder / "landscape_1d.png").unlink()
    monkeypatch.setattr(landscape, "open_finished", refuse_to_open)
    assert run_script(landscape, [folder, "--line", "3", "--plane", "0", "--examples", "20"]) == 0
    assert (run.folder / "landscape_1d.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.undo()
    assert (
        run_script(landscape, [folder, "--line", "3", "--plane", "3", "--examples", "20", "--reach", "0.5"])
        == 0
    )
    nearer, plane = (run.read_json(f"landscape_{d}d.json")["losses"] for d in (1, 2))
    assert nearer[1] == line[1] == plane[1][1]  # θ itself
    assert nearer[0] != line[0]
    assert [row[1] for row in plane] == nearer  # the line is the plane's middle


def test_losses_beyond_all_bounds_are_drawn_around(tmp_path: Path) -> None:
    losses = [[1.0, float("inf"), 2.0], [1.0, 0.5, 3.0], [float("nan"), 1.0, 1.0]]
    landscape.draw(torch.tensor(losses).numpy(), 1.0, tmp_path / "plane.png", "plane")
    landscape.draw(torch.tensor(losses[0]).numpy(), 1.0, tmp_path / "line.png", "line")
    assert (tmp_path / "plane.png").exists()
    assert (tmp_path / "line.png").exists()


def test_a_loss_of_zero_has_the_lowest_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale of the plane is logarithmic, so that it begins at the least positive loss."""
    monkeypatch.setattr(plt, "close", lambda figure: None)
    landscape.draw(np.array([[0.0, 1.0, 2.0], [1.0, 0.5, 3.0], [0.0, 1.0, 1.0]]), 1.0, tmp_path / "p.png", "")
    (filled,) = (each for each in plt.gcf().axes[0].collections if isinstance(each, QuadContourSet))
    assert (filled.levels[0], filled.levels[-1]) == pytest.approx((0.5, 3.0))
    assert filled.zmin == 0.5
    monkeypatch.undo()
    plt.close("all")


@pytest.mark.parametrize("loss", [0.0, float("nan"), float("inf")])
def test_a_plane_without_a_positive_finite_loss_is_refused(loss: float, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^p.png: expected a finite loss > 0 somewhere in the plane, found none"
    ):
        landscape.draw(np.full((3, 3), loss), 1.0, tmp_path / "p.png", "plane")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_picture_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savefig, path = Figure.savefig, tmp_path / "line.png"
    path.write_bytes(b"before")

    def interrupted(*arguments: Any, **options: Any) -> None:
        savefig(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        landscape.draw(np.ones(3), 1.0, path, "line")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"line.png": b"before"}


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--line=1", "1: expected 0 or an odd number >= 3"),
        ("--plane=4", "4: expected 0 or an odd number >= 3"),
        ("--reach=inf", "inf: expected a finite number > 0"),
        ("--reach=far", "far: expected a finite number > 0"),
    ],
)
def test_grids_out_of_range(argument: str, line: str, run: Run, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(landscape, [str(run.folder), argument])
    assert stop.value.code == 2
    assert line in capsys.readouterr().err
