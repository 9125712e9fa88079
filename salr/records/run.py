"""One run, a cell and a seed, and what it leaves on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from salr.records import atomic, claim, metrics, sealed
from salr.records.errors import Damaged, RecordError, cannot
from salr.records.state import State

T = TypeVar("T")
log = logging.getLogger("salr.records")

NAME = re.compile(r"[a-z0-9_]+")
_RECORDED = [state for state in State if state.ended or state in (State.RUNNING, State.INTERRUPTED)]


def run_key(config: Mapping[str, object]) -> str:
    """10 hex digits that stand for a configuration: the SHA-256 of its JSON with sorted keys.

    The caller has taken out what does not change the result (paths, logging, device). Raises ValueError for values
    that are not plain data. 1 and 1.0 are different values; a tuple is a list.
    """
    text = json.dumps(sealed.plain(config, "config"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Run:
    """`results/runs/<dataset>/<model>/<optimizer>-<key>/seed-<seed>/`; constructing it touches nothing.

    Whoever writes holds the claim; anybody may read. Files are replaced atomically and sealed with a checksum; one
    that does not match is set aside (`<name>.damaged-<n>`), said on the logger "salr.records", and read as absent.
    Raises ValueError for a name or key that is not [a-z0-9_]+ or a seed that is not an integer >= 0.
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
        return f"{self.dataset}/{self.model}/{self.optimizer}-{self.key}"

    @property
    def name(self) -> str:
        """What no other run of a results folder is called."""
        return f"{self.cell}/seed-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.results / "runs" / self.name

    def claim(self) -> AbstractContextManager[None]:
        """Hold the run while the block runs; raises RunBusy, naming process and host, where a live process holds it.

        An `flock` on the file `lock` in the folder: the kernel releases it when the process ends, however it ends, and
        forked children do not keep it. It holds between all processes of one machine. Between machines it holds where
        the shared file system carries flock: NFS from Linux 2.6.12 on (NFSv4: a machine that dies keeps its claims until
        its lease ends, about 90 s), Lustre mounted with `flock`, CephFS, GPFS. Mounts with `nolock`, `local_lock` or
        `localflock` keep machines apart from nobody but themselves: there, give each machine its own results folder.
        """
        return claim.hold(self.folder / "lock")

    def is_claimed(self) -> bool:
        """Whether a live process, this one included, holds the run."""
        return claim.is_held(self.folder / "lock")

    def state(self) -> State:
        """One of "absent", "running", "interrupted", "finished", "diverged", "failed"; costs two small reads.

        An ended run is what its status says, held or not; a finished run needs a whole `summary.json` too. Any other
        run is "running" while a live process holds it (this one included), "interrupted" when it has begun and nobody
        does. A damaged status or summary is logged and counts as not ended, so that the run is taken up again.
        """
        try:
            return self.inspect()[0]
        except RecordError as error:
            log.warning("%s; the run counts as not ended", error)
            return State.RUNNING if self.is_claimed() else State.INTERRUPTED

    def inspect(self) -> tuple[State, dict[str, Any]]:
        """The state and the summary ({} where there is none), read together; raises Damaged for either, renames nothing."""
        status = self._load("status.json")
        summary = self._load("summary.json")
        recorded = State.ABSENT if status is None else State(status["state"])
        if recorded.ended and (recorded is not State.FINISHED or summary is not None):
            return recorded, summary or {}
        if self.is_claimed():
            return State.RUNNING, summary or {}
        traces = (self._checkpoint, self._previous, self._metrics)
        begun = status is not None or any(path.exists() for path in traces)
        return State.INTERRUPTED if begun else State.ABSENT, summary or {}

    def write_status(self, state: State, epoch: int, **facts: object) -> None:
        """Write `status.json`: state, epoch, pid, host, time (UTC) and the facts given.

        `state` is "running", "interrupted", "finished", "diverged" or "failed". Write the summary before "finished".
        """
        if state not in _RECORDED:
            raise ValueError(f"state {state!r} cannot be recorded, expected one of {', '.join(_RECORDED)}")
        maker = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": datetime.now(UTC).isoformat("T", "seconds"),
        }
        self.write_json("status.json", {"state": state, "epoch": epoch, **facts, **maker})

    def write_json(self, name: str, value: Mapping[str, object]) -> None:
        """Replace the file `name`. Values are plain data; NaN and infinities are kept (see `salr.records.sealed`)."""
        atomic.write(self._path(name), sealed.json_bytes(value))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """What `write_json` wrote; None where there is no file or a damaged one, which is set aside."""
        return self._read(self._path(name), sealed.parse_json)

    def write_config(self, config: Mapping[str, object]) -> None:
        """Write `config.yaml`, readable, keys in the order given."""
        atomic.write(self.folder / "config.yaml", sealed.yaml_bytes(config))

    def read_config(self) -> dict[str, Any] | None:
        """What `write_config` wrote; None where there is no file or a damaged one, which is set aside."""
        return self._read(self.folder / "config.yaml", sealed.parse_yaml)

    def append_metrics(self, row: Mapping[str, object]) -> None:
        """Append one row, which has an integer "epoch", to `metrics.jsonl`; it is on the disk when this returns."""
        metrics.append(self._metrics, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole rows; a damaged line is dropped with a log line naming file and line."""
        return metrics.read(self._metrics)

    def keep_metrics(self, epochs: int) -> None:
        """Drop every row whose "epoch" is greater than `epochs` (and damaged lines): where a resumed run goes on."""
        metrics.keep(self._metrics, epochs)

    def write_checkpoint(self, write: Callable[[BinaryIO], object]) -> None:
        """Replace `checkpoint.pt` by what `write` puts into the binary stream; the one before stays as a fallback.

        While writing, three checkpoints need room. Raises RecordError when the disk is full; both earlier ones stand.
        """

        def write_sealed(stream: BinaryIO) -> None:
            write(stream)
            sealed.seal_stream(stream)

        atomic.replace(self._checkpoint, write_sealed, previous=self._previous)

    def read_checkpoint(self, read: Callable[[Path], T]) -> T | None:
        """What `read` makes of the newest whole checkpoint: `checkpoint.pt`, else the one before, else None.

        `read` is called only on a file whose checksum holds. A damaged file, or one that `read` refuses with ValueError
        (another version or configuration) or UnpicklingError, is set aside; any other error of `read` (out of memory,
        say) is no fault of the file and is passed on.
        """
        for path in (self._checkpoint, self._previous):
            if not path.exists():
                continue
            try:
                with path.open("rb") as stream:
                    sealed.check_stream(stream)
            except Damaged as damage:
                atomic.set_aside(path, str(damage))
                continue
            except OSError as error:
                raise cannot("read", path, error) from error
            try:
                return read(path)
            except (ValueError, pickle.UnpicklingError) as refusal:
                atomic.set_aside(path, " ".join(str(refusal).split()))
        return None

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

    def _load(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            return sealed.load(path, sealed.parse_json)
        except Damaged as damage:
            raise Damaged(f"{path} is damaged ({damage})") from damage

    def _read(self, path: Path, parse: Callable[[bytes], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            return sealed.load(path, parse)
        except Damaged as damage:
            atomic.set_aside(path, str(damage))
            return None
