"""How a value out of range is reported: which one, what it is, what was expected."""

import math


def expect(holds: bool, name: str, value: object, expected: str) -> None:
    """Raises ValueError where it does not hold."""
    if not holds:
        raise ValueError(f"{name} = {value}; expected {expected}")


def above(name: str, value: float, bound: float) -> None:
    expect(math.isfinite(value) and value > bound, name, value, f"a finite number > {bound}")


def at_least(name: str, value: float, bound: float) -> None:
    kind = "a whole number" if isinstance(value, int) else "a finite number"
    expect(math.isfinite(value) and value >= bound, name, value, f"{kind} >= {bound}")


def within(name: str, value: float, low: float, high: float) -> None:
    """low ≤ value < high."""
    expect(low <= value < high, name, value, f"a number from {low} to below {high}")
