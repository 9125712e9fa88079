"""Arguments of the measures, checked: one line says what was expected."""

import math


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a finite number > 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} = {value}; expected a finite number > 0")


def check_count(name: str, value: int, minimum: int) -> None:
    """Raises ValueError unless ``value`` is a whole number ≥ ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} = {value!r}; expected a whole number >= {minimum}")
