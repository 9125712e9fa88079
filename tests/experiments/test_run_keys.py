"""The run key: what makes two command lines the same run, and what makes them two."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.records import record_of
from experiments.schema import load, plain


def key(*overrides: str) -> str:
    return record_of(load(list(overrides)), 0).key


def test_the_keys_of_known_configurations_stay() -> None:
    """Changing one of these makes finished runs unknown."""
    assert key() == "a01eb5a2a7"
    assert key("optimizer=sgd_salr") == "89d2b73357"
    assert key("optimizer=adam_salr") == "421140b156"
    assert (
        key("dataset=mnist", "model=mnistfc", "optimizer=sgd_salr", "trainer.precision=bf16") == "18b62f76bb"
    )


OLD_KEYS = {
    "digits mnistfc ada_smoothout": ("895816bd19", 50),
    "digits mnistfc adam": ("158c0da57f", 50),
    "digits mnistfc entropy_adam": ("a7e89d3884", 10),
    "digits mnistfc entropy_adam_salr": ("7589c16a5f", 10),
    "digits mnistfc entropy_sgd": ("b7ca79e578", 10),
    "digits mnistfc entropy_sgd_salr": ("58cc142e52", 10),
    "digits mnistfc sam": ("0e6fa6a326", 25),
    "digits mnistfc sgd_salr_released": ("6ce204bbca", 8),
    "digits mnistfc swa_adam": ("7c06d7dcc3", 50),
    "mnist lenet sgd_salr": ("3dcc621927", 20),
    "mnist lenet sgd_salr_released": ("fdf2d73d1d", 17),
    "cifar10 resnet44 sgd_salr": ("334965db43", 40),
    "cifar10 resnet44 entropy_sgd_salr": ("883cc49b67", 40),
    "ptb lstm_ptb sgd_salr": ("35b15db535", 11),
    "war_and_peace lstm_char adam_salr": ("5859ac1ee8", 10),
}
"""Keys and epochs of the paper's configurations, from before SALR had a choice of measures."""


@pytest.mark.parametrize("cell", OLD_KEYS)
def test_a_choice_of_measures_has_changed_no_key_and_no_budget(cell: str) -> None:
    dataset, model, optimizer = cell.split()
    config = load([f"dataset={dataset}", f"model={model}", f"optimizer={optimizer}"])
    assert (record_of(config, 0).key, config.epochs) == OLD_KEYS[cell]


def test_definition_1_by_its_name_is_the_default() -> None:
    assert key("optimizer=sgd_salr", "optimizer.salr.measure=ascent_descent") == key("optimizer=sgd_salr")


def test_each_measure_is_another_run() -> None:
    measures = ("null", "gradient_norm", "directional_curvature", "sam", "top_eigenvalue")
    keys = {key("optimizer=sgd_salr", f"optimizer.salr.measure={name}") for name in measures}
    keys.add(key("optimizer=sgd_salr", "optimizer.salr.max_factor=5"))
    keys.add(key("optimizer=sgd_salr", "optimizer.salr.measure=sam", "optimizer.salr.rho=0.1"))
    assert len(keys) == len(measures) + 2


def test_another_law_of_noise_is_another_run() -> None:
    law = "optimizer.local_entropy.noise_law"
    assert key("optimizer=entropy_sgd", f"{law}=normal") == key("optimizer=entropy_sgd")
    assert key("optimizer=entropy_sgd", f"{law}=two_point") != key("optimizer=entropy_sgd")


@pytest.mark.parametrize(
    "override",
    [
        "dataset.root=elsewhere",
        "dataset.budget=50",
        "dataset.recipe.adam_lr=5",
        "trainer.device=cpu",
        "trainer.threads=3",
        "trainer.workers=2",
        "trainer.epochs=50",
        "tracker=wandb",
        "seeds=[5,6]",
        "results=elsewhere",
        "optimizer.base.lr=1e-2",
    ],
)
def test_the_key_is_of_the_numbers_alone(override: str) -> None:
    assert key(override) == key()


def numbers(part: object, path: str = "") -> list[tuple[str, object]]:
    if isinstance(part, dict):
        return [
            entry
            for name, value in part.items()
            for entry in numbers(value, f"{path}.{name}" if path else name)
        ]
    return [(path, part)]


CHANGED: dict[type, Callable] = {
    bool: lambda v: not v,
    int: lambda v: v + 1,
    float: lambda v: v * 0.5 + 0.0007,
}
NAMED = {
    "trainer.precision": "bf16",
    "dataset.augment": "crop_flip",
    "model.placement": "after_each_layer",
    "optimizer.base.betas": [0.5, 0.9],
    "optimizer.schedule.milestones": [1],
    "optimizer.name": "another",
}
IRRELEVANT = (
    "trainer.threads",
    "trainer.epochs",
    "seeds",
    "cell",
    "dataset.budget",
    "optimizer.budget_divisor",
    "dataset.recipe.",
)


@pytest.mark.parametrize(
    "line",
    [
        "optimizer=sgd_salr",
        "optimizer=entropy_adam_salr model=lenet",
        "optimizer=swa",
        "optimizer=smoothout model=allcnn_bn",
    ],
)
def test_every_number_that_matters_changes_the_key(line: str) -> None:
    config = load(line.split())
    known, tried = key(*line.split()), 0
    for name, value in numbers(plain(config)):
        if name.startswith(IRRELEVANT) or (type(value) not in CHANGED and name not in NAMED):
            continue
        changed = NAMED[name] if name in NAMED else CHANGED[type(value)](value)
        edited = OmegaConf.structured(config)
        OmegaConf.update(edited, name, changed)
        tried += 1
        assert record_of(OmegaConf.to_object(edited), 0).key != known, name
    assert tried >= 12


def test_what_is_left_of_the_recipe_and_the_epochs_change_the_key() -> None:
    assert key("trainer.epochs=3") != key()
    assert key("dataset.recipe.sgd_lr=0.02") == key("optimizer.base.lr=0.02") != key()
    assert key("dataset.recipe.clip_norm=1") != key()
    assert key("trainer.recompute_batch_statistics=true") != key()
    salr = ("optimizer=sgd_salr",)
    assert (
        len(
            {
                key(),
                key(*salr),
                key(*salr, "optimizer.salr.gamma=0.001"),
                key(*salr, "optimizer.salr.interval=3"),
            }
        )
        == 4
    )


def test_a_record_stays_below_the_results(tmp_path: Path) -> None:
    for optimizer in ("sgd", "entropy_adam_salr"):
        folder = record_of(load([f"optimizer={optimizer}", f"results={tmp_path}"]), 3).folder
        assert folder.parts[-5:-2] == ("runs", "digits", "mnistfc")
        assert folder.parent.name.startswith(f"{optimizer}-")
        assert folder.name == "seed-3"


def test_a_plain_configuration_holds_no_objects() -> None:
    for name, value in numbers(plain(load(["optimizer=entropy_sgd_salr", "tracker=wandb", "seeds=[0,3]"]))):
        for each in value if isinstance(value, list) else [value]:
            assert each is None or type(each) in (str, int, float, bool), name


def test_milestones_have_the_key_that_they_always_had() -> None:
    """The recipe's start and interval are part of it, although milestones leave them unused."""
    assert key("optimizer.schedule.milestones=[30]") == "bc114f9fd9"
    assert key("optimizer=smoothout", "dataset.recipe.schedule.start=3") == key("optimizer=smoothout")
