"""What the tests of the records share."""

import contextlib
import random
import subprocess
import sys
import textwrap
from pathlib import Path

from salr.records import Run

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "recorded_runs"
"""A finished and an interrupted run, recorded with format 1."""


def a_run(results: Path, seed: int = 0) -> Run:
    return Run(results, "digits", "lenet", "sgd_salr", "0123456789", seed)


def process(code: str, *arguments: object) -> subprocess.Popen:
    """Start Python on ``code``, in which ``run`` is the run of the results folder given first."""
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damage(path: Path, chance: random.Random) -> None:
    """Flip a bit, or cut the end off."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data) - 1)
    if chance.random() < 0.5:
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    else:
        path.write_bytes(data[:place])


def numbered(path: Path) -> int:
    """Return the number in a checkpoint of :func:`numbered_writer`, which is repeated up to the trailer."""
    data = path.read_bytes()[:-72]
    assert data == data[:9] * (len(data) // 9)
    return int(data[:9])


def numbered_writer(number: int, copies: int = 20_000):
    return lambda stream: stream.write(b"%9d" % number * copies)


def same(left: object, right: object) -> bool:
    """Return whether type and value are equal to the bit, NaN and -0.0 included."""
    return repr(left) == repr(right)


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk, except for ``leave`` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        with contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))
        stream.truncate(stream.tell() - leave)
    return filler
