"""The fully connected network of Entropy-SGD (E) on MNIST."""

import math

from torch import nn

from models.dropout import Dropout

HIDDEN = 1024


def mnistfc(
    input_shape: tuple[int, int, int], outputs: int, *, dropout: float = 0.5, input_dropout: float = 0.0
) -> nn.Sequential:
    """Build the network of 784-1024-1024-10 units: 1,867,786 parameters on 28x28.

    A hidden layer is linear, BN, ReLU and dropout (P).

    Args:
        input_shape: (C, H, W) of any size; images are flattened.
        outputs: Number of classes.
        dropout: Rate after each hidden layer (0.5: P).
        input_dropout: Rate on the image (0: P; 0.2 in E's code).
    """

    def hidden(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True), Dropout(dropout)]

    return nn.Sequential(
        nn.Flatten(),
        Dropout(input_dropout),
        *hidden(math.prod(input_shape)),
        *hidden(HIDDEN),
        nn.Linear(HIDDEN, outputs),
    )
