"""What only the image networks have: placements of dropout, stems, shortcuts."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual

import models
from models.cifar_resnet import PaddedShortcut
from models.mobilenet import ProjectedResidual
from tests.helpers.models import COLOUR, DIGITS, GREY, count, evaluate, kinds, sample, small, train_once

RESIDUAL_BLOCKS = {
    "resnet18": 8,
    "resnet50": 16,
    "resnet101": 33,
    "resnet44": 21,
    "resnet56": 27,
    "regnetx": 13,
    "mobilenetv2": 17,
    "densenet": 48,
}
LAST_MAPS = {
    "resnet18": 4,
    "resnet50": 4,
    "resnet101": 4,
    "resnet44": 8,
    "regnetx": 8,
    "mobilenetv2": 4,
    "densenet": 8,
    "allcnn_bn": 8,
}

each_residual_network = pytest.mark.parametrize("name", RESIDUAL_BLOCKS)


def test_lenet_drops_after_the_pooling() -> None:
    hidden = ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU", "Dropout"]
    for shape in (GREY, DIGITS):
        network = models.build("lenet", shape, 10, dropout=0.3)
        assert {module.p for module in network if isinstance(module, models.Dropout)} == {0.3}
        order = kinds(network, torch.randn(2, *shape))
        assert order == hidden * 2 + ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]


def test_lenet_s_pooling_before_relu_is_the_same_function() -> None:
    network, images = models.build("lenet", GREY, 10, dropout=0.0), torch.randn(4, *GREY)
    layers = list(copy.deepcopy(network))
    for index in (2, 7):
        assert isinstance(layers[index], nn.MaxPool2d)
        layers[index], layers[index + 1] = layers[index + 1], layers[index]
    plain = nn.Sequential(*layers)
    assert torch.equal(train_once(network, images), train_once(plain, images))
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_mnistfc_drops_after_each_hidden_layer() -> None:
    network = models.build("mnistfc", GREY, 10, dropout=0.4, input_dropout=0.2)
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds(network, torch.randn(2, *GREY)) == ["Flatten", "Dropout", *hidden, *hidden, "Linear"]
    assert [module.p for module in network if isinstance(module, models.Dropout)] == [0.2, 0.4, 0.4]


def test_allcnn_drops_at_its_placement() -> None:
    layer = ["Conv2d", "BatchNorm2d", "ReLU"]
    images, end = torch.randn(2, *DIGITS), [*layer, "AdaptiveAvgPool2d", "Flatten"]
    network = small("allcnn_bn")
    assert kinds(network, images) == ["Dropout", *(layer * 3 + ["Dropout"]) * 2, *layer * 2, *end]
    assert [module.p for module in network if isinstance(module, models.Dropout)] == [0.2, 0.5, 0.5]
    strides = [module.stride[0] for module in network if isinstance(module, nn.Conv2d)]
    assert strides == [1, 1, 2, 1, 1, 2, 1, 1, 1]
    assert kinds(small("allcnn_bn", placement="after_each_layer"), images) == [
        *([*layer, "Dropout"]) * 8,
        *end,
    ]


@each_residual_network
def test_residual_networks_drop_at_their_placement(name: str) -> None:
    images = sample(name)
    order = kinds(small(name), images)
    assert order.count("Dropout") == 1
    assert order[-2:] == ["Dropout", "Linear"]
    assert "Dropout" not in kinds(small(name, placement="none"), images)
    network = small(name, placement="after_block")
    assert kinds(network, images).count("Dropout") == RESIDUAL_BLOCKS[name]
    parents = [
        module for module in network.modules() if isinstance(module, nn.Sequential) and len(module) == 2
    ]
    after = [parent[0] for parent in parents if isinstance(parent[1], models.Dropout)]
    assert len(after) == RESIDUAL_BLOCKS[name]
    assert len({type(block) for block in after}) == 1
    train_once(network, images)


@pytest.mark.parametrize("name", LAST_MAPS)
def test_maps_of_32x32_end_at_the_size_for_cifar(name: str) -> None:
    network, sizes = models.build(name, COLOUR, 10), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    evaluate(network, torch.randn(1, *COLOUR))
    assert (sizes[0], sizes[-1]) == (32, LAST_MAPS[name])


@pytest.mark.parametrize(("name", "expected"), [("resnet44", 661_338), ("resnet56", 855_770)])
def test_shortcut_b_count(name: str, expected: int) -> None:
    network = models.build(name, COLOUR, 10, shortcut="B")
    assert count(network) == expected
    train_once(network, torch.randn(2, *COLOUR))


def test_shortcut_a_subsamples_and_pads_with_zeros() -> None:
    x = torch.randn(2, 4, 5, 6)
    output = PaddedShortcut(4)(x)
    assert output.shape == (2, 8, 3, 3)
    assert torch.equal(output[:, 2:6], x[:, :, ::2, ::2])
    assert not output[:, :2].any()
    assert not output[:, 6:].any()


def test_projected_residual_is_torchvision_s_where_no_projection_is_needed() -> None:
    x = torch.randn(2, 8, 6, 6)
    for outputs, stride in [(8, 1), (16, 2)]:
        ours, theirs = (
            ProjectedResidual(8, outputs, stride, 6).eval(),
            InvertedResidual(8, outputs, stride, 6).eval(),
        )
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours(x), theirs(x))
    widened = ProjectedResidual(8, 16, 1, 6).eval()
    assert torch.equal(widened(x), widened.conv(x) + widened.shortcut(x))
