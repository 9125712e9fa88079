"""The documentation's pages and what they show as code."""

import multiprocessing
import os
import re
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A piece of code in a page."""

    language: str
    text: str


def pages() -> list[Path]:
    """Return all pages that are written by hand."""
    return [README, *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's pieces of code in these languages, in order."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text) for _, language, text in found if language in languages]


def name(page: Path) -> str:
    """Return a page's path within the project, for people."""
    return page.relative_to(ROOT).as_posix()


def run_python(file: Path, environment: dict[str, str], seconds: float = 150) -> tuple[int | None, str]:
    """Run a file as ``python file.py`` in its folder. Return the exit code and all output.

    The process is forked from one that has imported torch and nothing else of the project.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    output = file.with_suffix(".txt")
    process = context.Process(target=_run, args=(file, output, environment))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode, output.read_text(encoding="utf-8") if output.exists() else ""


def _run(file: Path, output: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(file.parent)
    sys.argv = [str(file)]
    runpy.run_path(str(file), run_name="__main__")
