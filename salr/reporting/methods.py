"""How a method is named and drawn: one name, one colour and one dash each, in every table and figure."""

import zlib
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers tell apart."""

_BLUE, _RED, _GREEN, _PINK, _ORANGE, _SKY, _BLACK = COLOURS


@dataclass(frozen=True)
class Style:
    """The colour says what is added to a base optimizer; over Adam it is dashed; a variant has dots."""

    name: str
    colour: str
    dash: str


_STYLES = {
    "sgd": Style("SGD", _BLUE, "-"),
    "swa": Style("SWA", _ORANGE, "-"),
    "entropy_sgd": Style("Entropy-SGD", _GREEN, "-"),
    "entropy_sgd_salr": Style("Entropy-SGD-SALR", _PINK, "-"),
    "sgd_salr": Style("SGD-SALR", _RED, "-"),
    "smoothout": Style("SmoothOut", _SKY, "-"),
    "sam": Style("SAM", _BLACK, "-"),
    "sgd_momentum": Style("SGD with momentum 0.9", _BLUE, "-."),
    "sgd_step_decay": Style("SGD with step decay", _SKY, "-."),
    "sgd_salr_first_order": Style("first-order SGD-SALR", _RED, "-."),
    "sgd_salr_curvature": Style("curvature SGD-SALR", _PINK, "-."),
    "sgd_salr_released": Style("SGD-SALR (released code)", _PINK, ":"),
    "adam": Style("Adam", _BLUE, "--"),
    "swa_adam": Style("SWA (Adam)", _ORANGE, "--"),
    "entropy_adam": Style("Entropy-Adam", _GREEN, "--"),
    "entropy_adam_salr": Style("Entropy-Adam-SALR", _PINK, "--"),
    "adam_salr": Style("Adam-SALR", _RED, "--"),
    "adam_salr_first_order": Style("first-order Adam-SALR", _RED, ":"),
    "adam_smoothout": Style("AdamSmoothOut", _SKY, "--"),
    "ada_smoothout": Style("AdaSmoothOut", _SKY, ":"),
}


def style_of(method: str) -> Style:
    """Return a method's style; an unknown method is dotted, in a colour that follows from its name."""
    other = Style(method, COLOURS[zlib.crc32(method.encode()) % len(COLOURS)], ":")
    return _STYLES.get(method, other)


def name_of(method: str) -> str:
    """Return the name that tables and figures print."""
    return style_of(method).name


def takes_a_fifth(method: str) -> bool:
    """Whether a method trains for a fifth of the epochs, since an iteration takes five gradients."""
    return method.startswith("entropy") or method.endswith("salr")
