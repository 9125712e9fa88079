"""Any classification network of timm, by name."""

import difflib
import functools
from typing import Any

import torch
from torch import nn

EXAMPLES = ["resnet10t", "convnext_atto", "vit_tiny_patch16_224"]


def timm_network(input_shape: tuple[int, int, int], outputs: int, *, arch: str) -> nn.Module:
    """Build a network of timm for these images and classes, with timm's initial values and no dropout.

    Weights are never downloaded. If the network has an image size, it is set.

    Args:
        input_shape: (C, H, W).
        outputs: Number of classes.
        arch: Its name in timm, without the tag of pretrained weights: ``resnet10t``, ``convnext_atto``, ...

    Raises:
        ValueError: timm has no such network, or it cannot take these images.
    """
    check_timm(arch, input_shape, outputs)
    return _create(arch, input_shape, outputs)


@functools.cache
def check_timm(arch: str, input_shape: tuple[int, int, int], outputs: int) -> None:
    """Check that timm has a network that takes these images. Uses neither memory nor random numbers.

    Args:
        arch: Its name in timm.
        input_shape: (C, H, W).
        outputs: Number of classes.

    Raises:
        ValueError: timm has no such network, or it cannot take these images.
    """
    import timm

    known = timm.list_models()
    if arch not in known:
        near = difflib.get_close_matches(arch, known) or EXAMPLES
        raise ValueError(f"arch = {arch}; expected a network of timm, such as {', '.join(near)}")
    shape = "x".join(map(str, input_shape))
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            scores = _create(arch, input_shape, outputs)(torch.zeros(2, *input_shape))
    except Exception as error:  # what is raised depends on the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"arch = {arch}; expected a network that takes images of {shape} ({reason})"
        ) from error
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, outputs):
        raise ValueError(f"arch = {arch}; expected a network that classifies images")


def _create(arch: str, input_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    import timm  # takes a second, and no other network needs it

    channels, height, width = input_shape
    options: dict[str, Any] = {"pretrained": False, "in_chans": channels, "num_classes": outputs}
    size = height if height == width else (height, width)
    try:
        return timm.create_model(arch, img_size=size, **options)
    except TypeError:  # the network has no image size
        return timm.create_model(arch, **options)
