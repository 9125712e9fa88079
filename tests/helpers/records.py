"""What the tests of the records share."""

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

from salr.records import Run

ROOT = Path(__file__).parents[2]


def a_run(results: Path, seed: int = 0) -> Run:
    return Run(results, "digits", "lenet", "sgd_salr", "0123456789", seed)


def process(code: str, *arguments: object) -> subprocess.Popen:
    """A Python process on `code`, in which `run` is the run of the results folder given first."""
    start = """
        import os, sys, time
        from pathlib import Path
        from salr.records import Run, RunBusy
        run = Run(Path(sys.argv[1]), "digits", "lenet", "sgd_salr", "0123456789", 0)
    """
    code = textwrap.dedent(start) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def numbered(path: Path) -> int:
    """The number a checkpoint of `numbered_writer` holds, which fills the whole file but its trailer."""
    data = path.read_bytes()[:-72]
    assert data == data[:9] * (len(data) // 9)
    return int(data[:9])


def numbered_writer(number: int, copies: int = 20_000):
    return lambda stream: stream.write(b"%9d" % number * copies)


def same(left: object, right: object) -> bool:
    """Equality of type and value to the bit, NaN and -0.0 included."""
    return repr(left) == repr(right)


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk but for `leave` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        with contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))
        stream.truncate(stream.tell() - leave)
    return filler
