"""One run, a cell and a seed, and what it leaves on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from salr.records import atomic, claim, metrics, sealed
from salr.records.errors import Damaged, cannot
from salr.records.format import with_format, without_format
from salr.records.state import State

T = TypeVar("T")
log = logging.getLogger("salr.records")

NAME = re.compile(r"[a-z0-9_]+")
_RECORDED = [state for state in State if state.ended or state in (State.RUNNING, State.INTERRUPTED)]


def run_key(config: Mapping[str, object]) -> str:
    """Return 10 hex digits that stand for a configuration: the SHA-256 of its JSON with sorted keys.

    Args:
        config: plain data, without what does not change the result (paths, logging, device). 1 and 1.0 are
            different values; a tuple and a list with the same items are the same.

    Raises:
        ValueError: a value is not plain data.

    Example:
        >>> from salr.records import run_key
        >>> run_key({"lr": 0.1, "epochs": 3}) == run_key({"epochs": 3, "lr": 0.1})
        True
    """
    text = json.dumps(sealed.plain(config, "config"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Run:
    """The record in ``results/runs/<dataset>/<model>/<optimizer>-<key>/seed-<seed>/``.

    Creating the object touches no file. A process that writes must hold the claim; any process may read.
    Every file but ``metrics.jsonl`` is replaced atomically and sealed with a checksum. A file whose checksum
    does not match is logged on ``salr.records`` and treated as missing. It is renamed to
    ``<name>.damaged-<n>``, unless another live process holds the run. ``metrics.jsonl`` is appended to, and
    each of its lines is sealed. A damaged line is logged and dropped; the others are kept.

    Raises:
        ValueError: a name or the key does not match ``[a-z0-9_]+``, or the seed is not an integer >= 0.

    Example:
        >>> from pathlib import Path
        >>> from salr.records import Run
        >>> run = Run(Path("results"), "digits", "lenet", "sgd_salr", "0123456789", seed=4)
        >>> run.folder.as_posix()
        'results/runs/digits/lenet/sgd_salr-0123456789/seed-4'
        >>> run.state().value
        'absent'
    """

    results: Path
    dataset: str
    model: str
    optimizer: str
    key: str
    seed: int

    def __post_init__(self) -> None:
        for field in ("dataset", "model", "optimizer", "key"):
            value = getattr(self, field)
            if not isinstance(value, str) or not NAME.fullmatch(value):
                raise ValueError(
                    f"{field} {value!r} cannot name a run, expected small letters, digits and underscores"
                )
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed {self.seed!r} cannot name a run, expected an integer >= 0")

    @property
    def cell(self) -> str:
        """The name of the cell, which all seeds share."""
        return f"{self.dataset}/{self.model}/{self.optimizer}-{self.key}"

    @property
    def name(self) -> str:
        """The name of the run, unique within a results folder."""
        return f"{self.cell}/seed-{self.seed}"

    @property
    def identity(self) -> str:
        """The name that a tracker uses for the run, the same on every machine."""
        return f"{self.key}-{self.seed}"

    @cached_property
    def folder(self) -> Path:
        """The folder of the run's files."""
        return self.results / "runs" / self.name

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the run while the block runs.

        The claim is an ``flock`` on the file ``lock`` in the folder. The kernel releases it when the process
        ends, for whatever reason, and forked children do not keep it. It excludes all other processes on one
        machine. Between machines it works if the shared file system supports ``flock``: NFS since Linux
        2.6.12 (NFSv4 keeps the claims of a machine that died until its lease ends, after about 90 s), Lustre
        mounted with ``flock``, CephFS and GPFS. With the mount options ``nolock``, ``local_lock`` or
        ``localflock`` it does not exclude other machines: give each machine its own results folder there.

        Raises:
            RunBusy: a live process holds the run; the message names the process and its host.
            RecordError: a later version recorded the run, or the folder cannot be written.
        """
        self._refuse_later_format()
        with claim.hold(self._lock):
            self._sync_folders()
            yield

    def is_claimed(self) -> bool:
        """Return whether a live process holds the run. The calling process counts too."""
        return claim.is_held(self._lock)

    def state(self) -> State:
        """Return the run's state; see :meth:`inspect`.

        A run with a damaged status or summary is logged and counts as not ended, so that it is resumed.

        Raises:
            RecordError: a file cannot be read, or a later version recorded the run.
        """
        try:
            return self.inspect()[0]
        except Damaged as damage:
            log.warning("%s; the run counts as not ended", damage)
            return State.RUNNING if self.is_claimed() else State.INTERRUPTED

    def inspect(self) -> tuple[State, dict[str, Any]]:
        """Return the state and the summary, an empty one if it is missing. Rename nothing.

        A run that has ended has the recorded state, whether or not a process holds it; a finished one must
        have a summary too. Any other run is ``RUNNING`` if a live process holds it, ``INTERRUPTED`` if it has
        begun and no process holds it, and ``ABSENT`` if nothing is recorded.

        Raises:
            Damaged: the status or the summary is damaged.
            RecordError: a file cannot be read, or a later version recorded the run.
        """
        recorded = self._recorded_state()
        summary = self._load("summary.json", sealed.parse_json)
        if recorded.ended and (recorded is not State.FINISHED or summary is not None):
            return recorded, summary or {}
        if self.is_claimed():
            return State.RUNNING, summary or {}
        traces = (self._checkpoint, self._previous, self._metrics)
        begun = recorded is not State.ABSENT or any(path.exists() for path in traces)
        return State.INTERRUPTED if begun else State.ABSENT, summary or {}

    def write_status(self, state: State, epoch: int, **facts: object) -> None:
        """Write ``status.json``: the format, the state, the epoch, the facts, pid, host and time (UTC).

        Args:
            state: ``RUNNING``, ``INTERRUPTED``, ``FINISHED``, ``DIVERGED`` or ``FAILED``. Write the summary
                before ``FINISHED``.
            epoch: the number of whole epochs.
            facts: plain data.
        """
        if state not in _RECORDED:
            raise ValueError(f"state {state!r} cannot be recorded, expected one of {', '.join(_RECORDED)}")
        maker = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": datetime.now(UTC).isoformat("T", "seconds"),
        }
        self.write_json("status.json", with_format({"state": state, "epoch": epoch, **facts, **maker}))

    def write_json(self, name: str, value: Mapping[str, object]) -> None:
        """Replace the file ``name``. Values are plain data, in which NaN and infinities are kept."""
        atomic.write(self._path(name), sealed.json_bytes(value))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return what :meth:`write_json` wrote, or None if the file is missing or damaged."""
        return self._read(self._path(name), sealed.parse_json)

    def write_config(self, config: Mapping[str, object]) -> None:
        """Write ``config.yaml``, readable, with its format first and then the keys in the order given."""
        atomic.write(self._config, sealed.yaml_bytes(with_format(config)))

    def read_config(self) -> dict[str, Any] | None:
        """Return what :meth:`write_config` wrote, or None if the file is missing or damaged.

        Raises:
            RecordError: the file cannot be read, or a later version wrote it.
        """
        config = self._read(self._config, sealed.parse_yaml)
        return None if config is None else without_format(config, self._config)

    def inspect_config(self) -> dict[str, Any]:
        """Return what :meth:`write_config` wrote, an empty one if it is missing. Rename nothing.

        Raises:
            Damaged: the file is damaged.
            RecordError: the file cannot be read, or a later version wrote it.
        """
        return without_format(self._load("config.yaml", sealed.parse_yaml) or {}, self._config)

    def append_metrics(self, row: Mapping[str, object]) -> None:
        """Append a row with an integer ``epoch`` to ``metrics.jsonl``, and sync it."""
        metrics.append(self._metrics, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all whole rows. A damaged line is dropped and logged with its file and number."""
        return metrics.read(self._metrics)

    def keep_metrics(self, epochs: int) -> None:
        """Drop every row whose ``epoch`` is greater than ``epochs``, and damaged lines, before resuming."""
        metrics.keep(self._metrics, epochs)

    def write_checkpoint(self, write: Callable[[BinaryIO], object]) -> None:
        """Replace ``checkpoint.pt`` and keep the one before as a fallback.

        While it writes, three checkpoints need space.

        Args:
            write: fills the binary stream that it is given.

        Raises:
            RecordError: the file cannot be written. Both earlier checkpoints are intact.
        """

        def write_sealed(stream: BinaryIO) -> None:
            write(stream)
            sealed.seal_stream(stream)

        atomic.replace(self._checkpoint, write_sealed, previous=self._previous)

    def read_checkpoint(self, read: Callable[[Path], T]) -> T | None:
        """Return what ``read`` makes of the newest usable checkpoint, or None if there is none.

        Args:
            read: called only on a file whose checksum holds, first ``checkpoint.pt``, then the one before. If
                it raises ValueError (another version or configuration) or UnpicklingError, the file is set
                aside, as a damaged one is. Any other error (such as out of memory) is not the file's fault
                and is passed on.
        """
        for path in (self._checkpoint, self._previous):
            if not path.exists():
                continue
            try:
                with path.open("rb") as stream:
                    sealed.check_stream(stream)
            except Damaged as damage:
                self._set_aside(path, str(damage))
                continue
            except OSError as error:
                raise cannot("read", path, error) from error
            try:
                return read(path)
            except (ValueError, pickle.UnpicklingError) as refusal:
                self._set_aside(path, " ".join(str(refusal).split()))
        return None

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"

    @property
    def _status(self) -> Path:
        return self.folder / "status.json"

    @property
    def _config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def _previous(self) -> Path:
        return self.folder / "checkpoint.previous.pt"

    def _path(self, name: str) -> Path:
        if not name.endswith(".json") or not NAME.fullmatch(name.removesuffix(".json")):
            raise ValueError(
                f"{name!r} cannot name a record, expected small letters, digits, underscores and .json"
            )
        return self.folder / name

    def _recorded_state(self) -> State:
        """Return the state in ``status.json``, ``ABSENT`` if the file is missing."""
        status = self._load("status.json", sealed.parse_json)
        if status is None:
            return State.ABSENT
        state = without_format(status, self._status).get("state")
        if state not in _RECORDED:
            raise Damaged(f"{self._status} is damaged (it has no state that can be recorded: {state!r})")
        return State(state)

    def _refuse_later_format(self) -> None:
        for name, parse in (("status.json", sealed.parse_json), ("config.yaml", sealed.parse_yaml)):
            with suppress(Damaged):  # whoever reads the file reports it
                without_format(self._load(name, parse) or {}, self.folder / name)

    def _sync_folders(self) -> None:
        """Sync all folders of the run: a process that was killed may have changed them and not synced."""
        depth = len(self.folder.relative_to(self.results).parts)
        try:
            for folder in (self.folder, *self.folder.parents[:depth]):
                atomic.sync_folder(folder)
        except OSError as error:
            raise cannot("claim", self.folder, error) from error

    def _set_aside(self, path: Path, reason: str) -> None:
        if claim.is_held_elsewhere(self._lock):  # it may have replaced the file by now
            log.warning("%s is damaged (%s); left in place while another process holds the run", path, reason)
        else:
            atomic.set_aside(path, reason)

    def _load(self, name: str, parse: Callable[[bytes], dict[str, Any]]) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            return sealed.load(path, parse)
        except Damaged as damage:
            raise Damaged(f"{path} is damaged ({damage})") from damage

    def _read(self, path: Path, parse: Callable[[bytes], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            return sealed.load(path, parse)
        except Damaged as damage:
            self._set_aside(path, str(damage))
            return None
