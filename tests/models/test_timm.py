"""Networks of timm by name: built for the data set, trained, and refused before anything is trained."""

import socket

import pytest
import torch
from torch import nn

import models
from experiments.schema import ConfigError, load, plain, recorded
from experiments.schema.config import Config
from experiments.schema.model import options
from models import timm_network
from models.timm_network import check_timm
from tests.helpers.models import ARCHITECTURES, COLOUR, DIGITS, GREY, count, evaluate, small, train_once

each_architecture = pytest.mark.parametrize("arch", ARCHITECTURES)


def composed(arch: str, dataset: str = "cifar10", *words: str) -> Config:
    return load(["model=timm", f"model.arch={arch}", f"dataset={dataset}", *words])


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)


@each_architecture
def test_one_step_on_32x32(arch: str, no_network: None) -> None:
    config = composed(arch)
    network = models.build(config.model.name, COLOUR, 10, **options(config.model))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    output = train_once(network, torch.randn(4, *COLOUR))
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert output.shape == (4, 10)
    assert output.isfinite().all()
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert any(moved)


@each_architecture
def test_channels_and_classes_are_the_data_set_s(arch: str) -> None:
    network = models.build("timm", (1, 32, 32), 100, arch=arch)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == 1
    assert evaluate(network, torch.randn(2, 1, 32, 32)).shape == (2, 100)


def test_image_size_is_the_data_set_s() -> None:
    """A ViT has an embedding per patch: 2 x 2 patches of 16 x 16 pixels, and one for the class."""
    network = models.build("timm", COLOUR, 10, arch="vit_tiny_patch16_224")
    assert network.pos_embed.shape == (1, 5, 192)
    wide = models.build("timm", (3, 32, 64), 10, arch="test_vit")
    assert evaluate(wide, torch.randn(2, 3, 32, 64)).shape == (2, 10)


def test_parameter_count_is_timm_s() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet10t", num_classes=10)
    assert count(small("resnet10t", outputs=10)) == count(theirs)


def test_initial_values_do_not_depend_on_an_earlier_check() -> None:
    """The first build in a process checks the architecture; the second one does not."""
    check_timm.cache_clear()
    torch.manual_seed(4)
    checked = small("test_vit")
    assert check_timm.cache_info().currsize == 1
    torch.manual_seed(4)
    again = small("test_vit")
    assert check_timm.cache_info().hits == 1
    for ours, theirs in zip(checked.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_check_takes_no_memory_for_a_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = set()
    create = timm_network._create

    def watched(*arguments: object) -> nn.Module:
        network = create(*arguments)  # type: ignore[arg-type]
        devices.update(parameter.device.type for parameter in network.parameters())
        return network

    monkeypatch.setattr(timm_network, "_create", watched)
    check_timm.cache_clear()
    check_timm("convnext_xxlarge", COLOUR, 10)
    assert devices == {"meta"}


# Refusals


@pytest.mark.parametrize(
    ("arch", "near"),
    [
        ("resnet-10t", "resnet10t"),
        ("convnext_ato", "convnext_atto"),
        ("resnet10t.c3_in1k", "resnet10t"),
        ("hf-hub:timm/resnet10t", "resnet10t"),
        ("../../etc", "resnet10t"),
        ("?", "resnet10t"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(arch: str, near: str, no_network: None) -> None:
    for refused in (
        lambda: composed(f"'{arch}'"),
        lambda: models.build("timm", COLOUR, 10, arch=arch),
    ):
        with pytest.raises(ValueError) as refusal:
            refused()
        assert f"arch = {arch}; expected a network of timm, such as " in str(refusal.value)
        assert near in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_a_name_is_required() -> None:
    with pytest.raises(ConfigError, match=r"model.arch = ''; expected a network of timm, as in model.arch="):
        load(["model=timm"])


@pytest.mark.parametrize(
    ("arch", "dataset", "shape"),
    [
        ("test_vit", "digits", DIGITS),
        ("convnext_atto", "digits", DIGITS),
        ("test_vit", "mnist", GREY),
        ("inception_v3", "cifar10", COLOUR),
    ],
)
def test_an_image_size_that_does_not_fit_is_refused(
    arch: str, dataset: str, shape: tuple[int, int, int]
) -> None:
    size = "x".join(map(str, shape))
    line = rf"arch = {arch}; expected a network that takes images of {size} \("
    with pytest.raises(ConfigError, match=rf"model=timm on dataset={dataset}: model\.{line}") as refusal:
        composed(arch, dataset)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=f"^{line}"):
        models.build("timm", shape, 10, arch=arch)


def test_a_size_that_fits_is_taken() -> None:
    assert composed("resnet10t", "digits").model.title == "timm_resnet10t"


def test_a_network_that_does_not_classify_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_network, "_create", lambda *_: nn.Identity())
    check_timm.cache_clear()
    with pytest.raises(ValueError, match="arch = resnet10t; expected a network that classifies images"):
        check_timm("resnet10t", COLOUR, 10)
    check_timm.cache_clear()


def test_text_is_refused_without_timm() -> None:
    with pytest.raises(
        ConfigError, match=r"model=timm on dataset=ptb: .*one of lstm_char, lstm_ptb, lstm_ptb_"
    ):
        composed("resnet10t", "ptb")


# Records


def test_the_record_names_the_architecture_and_is_read_again() -> None:
    config = composed("test_resnet", "digits")
    assert config.title == "digits timm_test_resnet sgd"
    assert plain(config)["model"]["arch"] == "test_resnet"
    assert recorded(plain(config)) == config


def test_every_name_of_timm_is_a_name_for_records() -> None:
    import timm

    from salr.records.run import NAME

    assert all(NAME.fullmatch(f"timm_{arch}") for arch in timm.list_models())
