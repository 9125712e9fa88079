"""What every script does with what it cannot do: one line, and an exit code that is not zero."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from configs.compose import ConfigError
from salr.records import RecordError
from train import BAD_INPUT, INTERRUPTED

REFUSALS = (ConfigError, OSError, RecordError, RuntimeError, ValueError)
"""What is raised where an input is wrong, or this machine lacks what it asks for."""


class Parser(argparse.ArgumentParser):
    """A script's arguments, explained by its docstring; wrong ones are one line."""

    def __init__(self, description: str | None, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; --help explains\n")


def start(main: Callable[[list[str]], int]) -> int:
    """Runs a script with the process's arguments; returns its exit code."""
    try:
        return main(sys.argv[1:])
    except REFUSALS as error:
        line, code = " ".join(str(error).split()), BAD_INPUT
    except KeyboardInterrupt:
        line, code = "interrupted", INTERRUPTED
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    return code
