"""Range checks of the library's and the experiments' values. Only the standard library is imported.

Each check raises a ``ValueError`` with one line: which value, what it is, and what was expected. The checks
of a method's hyper-parameters are here, so that its class and the typed configuration refuse the same values
in the same words.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager


def expect(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise ``ValueError`` unless ``holds``."""
    if not holds:
        raise ValueError(f"{name} = {value}; expected {expected}")


def check_positive(name: str, value: float) -> None:
    """Expect a finite number > 0."""
    expect(math.isfinite(value) and value > 0, name, value, "a finite number > 0")


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Expect a finite number ≥ ``minimum``."""
    expect(math.isfinite(value) and value >= minimum, name, value, f"a finite number >= {minimum}")


def check_count(name: str, value: int, minimum: int) -> None:
    """Expect a whole number ≥ ``minimum``."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    expect(whole and value >= minimum, name, repr(value), f"a whole number >= {minimum}")


def check_fraction(name: str, value: float) -> None:
    """Expect a number from 0 to below 1."""
    expect(0 <= value < 1, name, value, "a number from 0 to below 1")


@contextmanager
def within(part: str) -> Iterator[None]:
    """Prefix the name in a refusal with the part of the configuration that holds the value."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}.{error}") from error


def check_steps(descent_steps: int, ascent_steps: int, minimum: int = 0) -> None:
    """Expect steps of descent and ascent, at least one of them; ``minimum`` is the fewest of descent."""
    check_count("descent_steps", descent_steps, minimum)
    check_count("ascent_steps", ascent_steps, 0)
    steps = descent_steps + ascent_steps
    expect(steps > 0, "descent_steps + ascent_steps", steps, "at least one step")


def check_ascent_descent(gamma: float, descent_steps: int, ascent_steps: int) -> None:
    """Check the values of Definition 1."""
    check_positive("gamma", gamma)
    check_steps(descent_steps, ascent_steps)


def check_released(step_scale: float, step_limit: float, descent_steps: int, ascent_steps: int) -> None:
    """Check the values of the measure in the authors' released code."""
    check_positive("step_scale", step_scale)
    check_positive("step_limit", step_limit)
    check_steps(descent_steps, ascent_steps, minimum=1)  # the measurement ends at the lower loss


def check_local_entropy(
    steps: int,
    inner_lr: float,
    inner_momentum: float,
    scope: float,
    scope_growth: float,
    noise: float,
    averaging: float,
) -> None:
    """Check the values of Entropy-SGD's Langevin dynamics."""
    check_count("steps", steps, 1)
    check_positive("inner_lr", inner_lr)
    check_fraction("inner_momentum", inner_momentum)
    for name, value in (("scope", scope), ("scope_growth", scope_growth), ("noise", noise)):
        check_at_least(name, value, 0)
    check_fraction("averaging", averaging)


def check_bound(name: str, value: float) -> None:
    """Expect a number > 0, or infinity for no bound."""
    expect(value > 0, name, value, "a number > 0, or infinity for no bound")
