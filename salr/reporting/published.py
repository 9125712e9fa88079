"""A published value, as the tables are handed it."""

from dataclasses import dataclass

Key = tuple[str, str, str, str]
"""Data set, network, method and metric: what the paper means by a cell, whichever of its tables print it."""


@dataclass(frozen=True)
class Published:
    """One printed cell. ``method`` is the name of a configuration.

    Attributes:
        table: the number of the table that prints it.
        metric: a name in :data:`salr.reporting.metrics.METRICS`; ``mean`` and ``std`` are in its unit.
        seeds: the runs that the paper averages.
    """

    table: int
    dataset: str
    network: str
    method: str
    metric: str
    mean: float
    std: float
    seeds: int = 30

    @property
    def key(self) -> Key:
        return self.dataset, self.network, self.method, self.metric
