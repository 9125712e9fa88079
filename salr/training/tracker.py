"""A view of a run elsewhere. The records on disk are the truth: losing a view loses no result."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

log = logging.getLogger("salr.training")


class Tracker(Protocol):
    """Show runs elsewhere, one at a time."""

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        """Begin a run. The same ``identity`` resumes the same run."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Show the metrics of an epoch."""

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        """End the run. Called however it has ended, even if it has not begun."""

    def add_measures(self, identity: str, measures: Mapping[str, Any]) -> None:
        """Add what was measured after training to the summary of a finished run."""


class NoTracker:
    """Show nothing."""

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        pass

    def add_measures(self, identity: str, measures: Mapping[str, Any]) -> None:
        pass


class Guarded:
    """A tracker that may fail: the first failure is logged as a warning, and the run continues without it."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._warned = False

    def start(self, seed: int, name: str, group: str, identity: str, config: Mapping[str, Any]) -> None:
        self._safely(lambda: self._tracker.start(seed, name, group, identity, config))

    def log(self, row: Mapping[str, Any]) -> None:
        self._safely(lambda: self._tracker.log(row))

    def finish(self, summary: Mapping[str, Any], state: str) -> None:
        self._safely(lambda: self._tracker.finish(summary, state))

    def add_measures(self, identity: str, measures: Mapping[str, Any]) -> None:
        self._safely(lambda: self._tracker.add_measures(identity, measures))

    def _safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # a service and a network may raise anything
            if not self._warned:
                name, text = type(self._tracker).__name__, " ".join(str(error).split())
                message = "%s: %s; the run continues without it, and its record is on disk"
                log.warning(message, name, text or type(error).__name__)
            self._warned = True
