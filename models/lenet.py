"""LeNet as Entropy-SGD trains it (E), for images of one channel."""

from torch import nn

from models.dropout import Dropout


def lenet(input_shape: tuple[int, int, int], outputs: int, *, dropout: float = 0.5) -> nn.Sequential:
    """Build LeNet: 132,220 parameters on 28x28 (E).

    Two 5x5 convolutions of 20 and 50 filters, pools of 3 and 2, and 500 hidden units. Dropout (0.5: P)
    follows the pooling (E): before it, the maximum would be taken over dropped and doubled values, which do
    not occur in evaluation. The convolutions are not padded, except on images below 22 pixels (8x8 digits),
    of which nothing would be left: there they are padded by 2 (O).

    Args:
        input_shape: (1, H, W), H and W at least 6.
        outputs: Number of classes.
        dropout: Rate after both pools and after the hidden layer.

    Raises:
        ValueError: The images have more than one channel, or are too small.
    """
    channels, *sides = input_shape
    if channels != 1:
        raise ValueError(f"lenet takes images of 1 channel, not {channels}")
    if min(sides) < 6:
        raise ValueError(f"lenet needs images of 6x6 at least, not {sides[0]}x{sides[1]}")
    padding = 0 if min(sides) >= 22 else 2
    shrinkage = 4 - 2 * padding
    height, width = (((side - shrinkage) // 3 - shrinkage) // 2 for side in sides)

    def stage(inputs: int, filters: int, pool: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, filters, 5, padding=padding)
        # ReLU and the maximum commute, in value and gradient; after the pool ReLU has fewer elements
        return [
            convolution,
            nn.BatchNorm2d(filters),
            nn.MaxPool2d(pool),
            nn.ReLU(inplace=True),
            Dropout(dropout),
        ]

    return nn.Sequential(
        *stage(1, 20, pool=3),
        *stage(20, 50, pool=2),
        nn.Flatten(),
        nn.Linear(50 * height * width, 500),
        nn.BatchNorm1d(500),
        nn.ReLU(inplace=True),
        Dropout(dropout),
        nn.Linear(500, outputs),
    )
