"""The contract of every network: counts, shapes, training, copies, refusals, configuration."""

import copy
import inspect
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from torch import nn

import models
from experiments.schema.model import ModelConfig, check_model, options, register
from models.registry import IMAGES, TOKENS
from tests.helpers.models import (
    ARCHITECTURES,
    COLOUR,
    DIGITS,
    GREY,
    OWN,
    count,
    evaluate,
    sample,
    small,
    train_once,
)

CONFIGS = Path(__file__).parents[2] / "configs"

COUNTS = {
    "lenet": 132_220,
    "mnistfc": 1_867_786,
    "allcnn_bn": 1_667_166,
    "resnet18": 11_173_962,
    "resnet50": 23_520_842,
    "resnet101": 42_512_970,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "regnetx": 2_321_946,
    "mobilenetv2": 2_296_922,
    "densenet": 769_162,
    "lstm_ptb": 66_034_000,
    "lstm_ptb_small": 4_653_200,
    "lstm_char": 261_306,
}

each_network = pytest.mark.parametrize("name", [*OWN, *ARCHITECTURES])
each_own_network = pytest.mark.parametrize("name", OWN)
each_image_network = pytest.mark.parametrize("name", [name for name in OWN if name in IMAGES])
each_text_network = pytest.mark.parametrize("name", TOKENS)


# Every network


def test_every_network_is_covered() -> None:
    assert list(COUNTS) == OWN
    assert sorted(models.names()) == sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


@each_own_network
def test_parameter_count(name: str) -> None:
    vocabulary = 87 if name == "lstm_char" else 10_000
    with torch.device("meta"):
        if name in TOKENS:
            network = models.build(name, (), vocabulary)
        else:
            network = models.build(name, GREY if name in ("lenet", "mnistfc") else COLOUR, 10)
    assert count(network) == COUNTS[name]


@pytest.mark.parametrize("shape", [GREY, COLOUR, DIGITS], ids=["28x28x1", "32x32x3", "8x8x1"])
@each_image_network
def test_image_networks_train(name: str, shape: tuple[int, int, int]) -> None:
    if name == "lenet" and shape == COLOUR:
        with pytest.raises(ValueError, match="lenet takes images of 1 channel, not 3"):
            models.build(name, shape, 10)
        return
    output = train_once(models.build(name, shape, 10), torch.randn(2, *shape))
    assert output.shape == (2, 10)
    assert output.isfinite().all()


@each_text_network
def test_text_networks_train(name: str) -> None:
    network = small(name)
    for _ in range(2):  # the second starts from the first one's state and must not reach back into its graph
        output = train_once(network, sample(name))
        assert output.shape == (2, 5, 7)
        assert output.is_contiguous()


@each_own_network
def test_dropout_and_batch_statistics_belong_to_training(name: str) -> None:
    network, inputs = small(name, dropout=0.5), sample(name, batch=8)
    before = copy.deepcopy(network.state_dict())
    assert torch.equal(evaluate(network, inputs), evaluate(network, inputs))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    network.train()
    first = network(inputs)
    if name in TOKENS:
        network.reset_state()
    assert not torch.equal(first, network(inputs))
    running = [key for key in before if key.endswith("running_mean")]
    assert all(not torch.equal(network.state_dict()[key], before[key]) for key in running)
    assert bool(running) == (name not in ("lstm_ptb", "lstm_ptb_small"))


@each_network
def test_state_dict_round_trip(name: str) -> None:
    trained, fresh, inputs = small(name), small(name), sample(name)
    train_once(trained, inputs)
    assert not torch.equal(evaluate(fresh, inputs), evaluate(trained, inputs))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(evaluate(fresh, inputs), evaluate(trained, inputs))


@each_network
def test_deepcopy_is_independent(name: str) -> None:
    network, inputs = small(name), sample(name)
    train_once(network, inputs)
    twin = copy.deepcopy(network)
    before = evaluate(twin, inputs)
    assert torch.equal(evaluate(network, inputs), before)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5).add_(0.1)
    assert not torch.equal(evaluate(network, inputs), before)
    assert torch.equal(evaluate(twin, inputs), before)


@each_network
def test_initialisation_is_the_seed_s(name: str) -> None:
    torch.manual_seed(4)
    first, after = small(name).state_dict(), torch.get_rng_state()
    other = small(name).state_dict()
    torch.manual_seed(4)
    again = small(name).state_dict()
    assert torch.equal(torch.get_rng_state(), after)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", [*(name for name in OWN if name in IMAGES), *ARCHITECTURES])
def test_channels_last_in_bfloat16(name: str) -> None:
    network = small(name).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = train_once(network, sample(name).to(memory_format=torch.channels_last))
    assert output.isfinite().all()


@each_text_network
def test_text_in_bfloat16_carries_its_state_into_any_precision(name: str) -> None:
    network, tokens = small(name), sample(name)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):
            assert train_once(network, tokens).isfinite().all()
    assert network.hidden_state.dtype == torch.float32
    assert network(tokens).dtype == torch.float32


@each_own_network
def test_only_our_own_dropout(name: str) -> None:
    assert not [
        module for module in small(name).modules() if isinstance(module, nn.modules.dropout._DropoutNd)
    ]


# Refusals


@each_network
def test_an_unknown_option_is_refused_with_the_choices(name: str) -> None:
    known = "timm has no option 'depth': expected one of arch"
    if name in OWN:
        known = f"{name} has no option 'depth': expected one of .*dropout"
    with pytest.raises(ValueError, match=known):
        small(name, depth=3)


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "chosen", "line"),
    [
        ("resnet19", DIGITS, 10, {}, "model 'resnet19' is not known: expected one of lenet, .*lstm_char"),
        ("resnet18", (), 10, {}, r"resnet18 takes images of shape \(channels, height, width\), not \(\)"),
        ("resnet18", (0, 8, 8), 10, {}, r"resnet18 takes images .*not \(0, 8, 8\)"),
        ("lstm_char", DIGITS, 10, {}, r"lstm_char takes tokens, not images of shape \(1, 8, 8\)"),
        ("mnistfc", DIGITS, 0, {}, "mnistfc has 0 outputs: expected 1 or more"),
        ("lenet", (1, 5, 8), 10, {}, "lenet needs images of 6x6 at least, not 5x8"),
        ("densenet", (1, 3, 8), 10, {}, "densenet needs images of 4x4 at least, not 3x8"),
        ("mnistfc", DIGITS, 10, {"input_dropout": 1.0}, "dropout is 1.0: expected a probability"),
        (
            "allcnn_bn",
            DIGITS,
            10,
            {"placement": "none"},
            "placement 'none' is not known: .*input_and_stride, after_each_layer",
        ),
        (
            "resnet18",
            DIGITS,
            10,
            {"placement": "all"},
            "placement 'all' is not known: .*before_classifier, after_block, none",
        ),
        ("resnet44", DIGITS, 10, {"shortcut": "C"}, "shortcut 'C' is not known: expected one of A, B"),
        ("lstm_char", (), 10, {"layers": 0}, "layers is 0: expected 1 or more"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    name: str, shape: tuple[int, ...], outputs: int, chosen: dict[str, object], line: str
) -> None:
    with pytest.raises(ValueError, match=line) as refusal:
        models.build(name, shape, outputs, **chosen)
    assert "\n" not in str(refusal.value)


# Configuration


def composed(name: str, *overrides: str) -> ModelConfig:
    register(ConfigStore.instance())
    GlobalHydra.instance().clear()  # a test before this one in the same process may have left it initialised
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return OmegaConf.to_object(compose(overrides=[f"+model={name}", *overrides]).model)


@each_own_network
def test_configuration_is_the_constructor_s(name: str) -> None:
    config = composed(name)
    check_model(config)
    assert (config.name, config.inputs) == (name, "tokens" if name in TOKENS else "image")
    assert config.channels == ([1] if name == "lenet" else None)
    parameters = inspect.signature({**IMAGES, **TOKENS}[name]).parameters.values()
    assert options(config) == {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    with torch.device("meta"):
        models.build(config.name, () if config.inputs == "tokens" else DIGITS, 10, **options(config))


@pytest.mark.parametrize(
    "override",
    [
        "resnet18 model.placement=everywhere",
        "resnet44 model.shortcut=C",
        "lenet model.placement=none",
        "lstm_char model.hidden=many",
    ],
)
def test_a_configuration_of_the_wrong_kind_is_refused(override: str) -> None:
    with pytest.raises(HydraException):
        composed(*override.split())


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lenet model.dropout=1", r"model.dropout = 1.0; expected a number from 0 to below 1"),
        ("mnistfc model.input_dropout=-0.1", r"model.input_dropout = -0.1; expected"),
        ("lstm_char model.layers=0", r"model.layers = 0; expected a whole number >= 1"),
        ("lstm_ptb model.embedding=-3", r"model.embedding = -3; expected"),
        ("lstm_ptb model.init=0", r"model.init = 0.0; expected a finite number > 0"),
        ("lenet model.name=alexnet", r"model.name = alexnet; expected one of allcnn_bn, .*resnet56"),
        ("lenet model.inputs=sound", r"model.inputs = sound; expected image or tokens"),
    ],
)
def test_a_configuration_out_of_range_is_refused(override: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        check_model(composed(*override.split()))


def test_options_reach_the_network() -> None:
    config = composed("resnet44", "model.placement=after_block", "model.shortcut=B", "model.dropout=0.25")
    network = models.build("resnet44", COLOUR, 10, **options(config))
    assert [module.p for module in network.modules() if isinstance(module, models.Dropout)] == [0.25] * 21
    assert count(network) == 661_338
