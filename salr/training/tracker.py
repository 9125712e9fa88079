"""A view of a run elsewhere. Records on disk are the truth; losing a view loses nothing."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

log = logging.getLogger("salr.training")


class Tracker(Protocol):
    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        """Before the first epoch. The same ``identity`` is the same run, going on."""

    def log(self, row: Mapping[str, Any]) -> None:
        """After each epoch."""

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        """Always, however the run has ended."""


class NoTracker:
    """Nothing but the records."""

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        pass
