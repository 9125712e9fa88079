"""A published value, as the tables are handed it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One printed cell; ``method`` is named as a configuration is."""

    table: int
    dataset: str
    network: str
    method: str
    metric: str
    mean: float
    std: float
