"""The states of a run."""

from enum import StrEnum


class State(StrEnum):
    """The state in a run's record, or the outcome of an attempt to train the run.

    Example:
        >>> from salr.records import State
        >>> State("diverged").ended, State("interrupted").ended
        (True, False)
    """

    ABSENT = "absent"  # nothing is recorded
    RUNNING = "running"  # a live process holds the run
    INTERRUPTED = "interrupted"  # begun, not ended, and no process holds it
    FINISHED = "finished"
    DIVERGED = "diverged"  # a loss was not a number
    FAILED = "failed"
    DAMAGED = "damaged"  # the record cannot be read
    BUSY = "busy"  # another process trains the run
    WAITING = "waiting"  # it is trained again, with fewer runs in parallel
    OUT_OF_MEMORY = "out of memory"

    @property
    def ended(self) -> bool:
        """Whether a status with this state is final, whether or not a process holds the run."""
        return self in (State.FINISHED, State.DIVERGED, State.FAILED)

    @property
    def settled(self) -> bool:
        """Whether the run is not trained again."""
        return self in (State.FINISHED, State.DIVERGED)
