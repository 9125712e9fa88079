"""A view of a run elsewhere. Records on disk are the truth; losing a view loses nothing."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

log = logging.getLogger("salr.training")


class Tracker(Protocol):
    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        """Before the first epoch. The same ``identity`` is the same run, going on."""

    def log(self, row: Mapping[str, Any]) -> None:
        """After each epoch."""

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        """Always, however the run has ended, also one that has not started."""


class NoTracker:
    """Nothing but the records."""

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        pass


class Guarded:
    """A tracker whose failures cost nothing but the view: the first one is said on the log, and the run goes on."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._said = False

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        self._safely(lambda: self._tracker.start(seed, name, group, identity, config))

    def log(self, row: Mapping[str, Any]) -> None:
        self._safely(lambda: self._tracker.log(row))

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        self._safely(lambda: self._tracker.finish(summary, state))

    def _safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a service and a network raise
            if not self._said:
                name, text = type(self._tracker).__name__, " ".join(str(error).split())
                log.warning(
                    "%s: %s; the run goes on without it, its record is on disk",
                    name,
                    text or type(error).__name__,
                )
            self._said = True
