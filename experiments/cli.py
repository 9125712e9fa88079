"""What ``train.py`` and every script share: exit codes, argument parsing, and refusals in one line."""

import argparse
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

from salr.records import RecordError, RunBusy, State


class ExitCode(IntEnum):
    """What a process returns."""

    FINISHED = 0
    FAILED = 1
    BAD_INPUT = 2
    DIVERGED = 3
    BUSY = 4
    INTERRUPTED = 130


SEVERITY = (ExitCode.FAILED, ExitCode.BAD_INPUT, ExitCode.DIVERGED, ExitCode.BUSY)

_CODES = {
    State.FINISHED: ExitCode.FINISHED,
    State.DIVERGED: ExitCode.DIVERGED,
    State.BUSY: ExitCode.BUSY,
    State.RUNNING: ExitCode.BUSY,
}


def worst(codes: Iterable[int]) -> ExitCode:
    """Return the most severe of several exit codes."""
    present = set(codes)
    return next((code for code in SEVERITY if code in present), ExitCode.FINISHED)


def code_of(states: Iterable[State]) -> ExitCode:
    """Return the exit code for the states of runs."""
    return worst(_CODES.get(state, ExitCode.FAILED) for state in states)


class Parser(argparse.ArgumentParser):
    """A script's arguments, explained by its docstring. Wrong ones are refused in one line."""

    def __init__(self, description: str | None, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.BAD_INPUT, f"{self.prog}: {message}; --help explains\n")


def count(text: str) -> int:
    """Parse a whole number ≥ 1, as an argparse type."""
    return _whole(text, 1)


def seed(text: str) -> int:
    """Parse a whole number ≥ 0, as an argparse type."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number >= {least}")
    return int(text)


def attempt(work: Callable[[], int | None]) -> ExitCode:
    """Call ``work``; if it cannot be done, say so in one line.

    Returns:
        What ``work`` returns, ``FINISHED`` for None, or the exit code of the refusal.
    """
    try:
        return ExitCode(work() or ExitCode.FINISHED)
    except RunBusy as error:
        code, line = ExitCode.BUSY, str(error)
    except (ValueError, OSError, RecordError) as error:
        code, line = ExitCode.BAD_INPUT, str(error)
    except (ImportError, MemoryError, RuntimeError) as error:
        code, line = ExitCode.FAILED, str(error) or type(error).__name__
    say(line)
    return code


def say(line: str) -> None:
    """Print one line to standard error, with the script's name."""
    print(f"{Path(sys.argv[0]).name}: {' '.join(line.split())}", file=sys.stderr)


def start(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Run a script with the process's arguments, and exit with its code."""
    try:
        code = attempt(lambda: main(sys.argv[1:]))
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
        say("interrupted; run the same command again to resume")
    sys.exit(code)
