"""Every command that the pages show is understood. What would train for long is checked without training."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.cli import ExitCode
from experiments.jobs import MOST_JOBS
from experiments.paper.training import TableRequest
from experiments.request import requested
from scripts import table
from tests.helpers.pages import ROOT, blocks, name, pages

SHELL = ("sh", "bash", "console")
INSTALLERS = ("pip install ", "git clone ", "cd ")
ELSEWHERE = "extending"


def commands(page: Path) -> Iterator[str]:
    for block in blocks(page, *SHELL):
        yield from (line for line in block.text.splitlines() if line.strip() and not line.startswith("#"))


PAGES = [page for page in pages() if page.parent.name != ELSEWHERE]
SHOWN = sorted({(name(page), line) for page in PAGES for line in commands(page)})


def made(line: str) -> str:
    """Return the commands that make would run."""
    words = [*shlex.split(line.split(" #")[0]), "-n", "-C", str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_train(words: list[str]) -> None:
    """Compose the cells; flags of Hydra's that only show something are left out."""
    values = [word for word in words if "=" in word]
    flags = [word for word in words if word not in values]
    assert flags in ([], ["-m"], ["--help"], ["--cfg", "job", "--resolve"])
    assert "--help" in words or requested(values, multirun="-m" in words)


def check_table(words: list[str]) -> None:
    """Compose all cells of the tables, whose arguments must be those of the script."""
    seen: list[TableRequest] = []

    def note(request: TableRequest) -> ExitCode:
        seen.append(request)
        return ExitCode.FINISHED

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "train_tables", note)
        assert table.main(words) == 0
    (request,) = seen
    assert request.cells()
    assert request.launcher == "local" or request.launching is not None
    assert 1 <= request.jobs <= MOST_JOBS


def check(line: str) -> None:
    line = re.sub(r"^([A-Z_]+=\S+ )+", "", line)  # what the environment is given does not change the command
    words = shlex.split(line.split(" #")[0])
    if words[:2] == [".", ".venv/bin/activate"] or line.startswith("source .venv/bin/activate"):
        return
    if words[0] == "make":
        for command in made(line).splitlines():
            if command.startswith(".venv/bin/python train.py "):
                check_train(shlex.split(command)[2:])
            elif command.startswith(".venv/bin/python scripts/table.py "):
                check_table(shlex.split(command)[2:])
        return
    if words[0] == "python" and words[1] == "train.py":
        check_train(words[2:])
        return
    if words[:2] == ["python", "scripts/table.py"]:
        check_table(words[2:])
        return
    if words[0] == "python":
        done = subprocess.run(
            [sys.executable, words[1], "--help"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        options = [word for word in words[2:] if word.startswith("--")]
        assert not [option for option in options if option not in done.stdout]
        return
    assert line.startswith(INSTALLERS), f"no test knows how to check: {line}"


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_command_is_understood(page: str, line: str) -> None:
    check(line)


def test_there_are_commands() -> None:
    assert {page for page, _ in SHOWN} >= {"README.md", "docs/quickstart.md", "docs/experiments/table.md"}


def test_the_first_command_works_in_a_fresh_shell(tmp_path: Path) -> None:
    """With an empty home and nothing in the environment: activating .venv is all that a reader has to do."""
    if not (ROOT / ".venv" / "bin" / "activate").exists():
        pytest.skip("the tests run in another environment than .venv")
    script = f"cd {shlex.quote(str(ROOT))} && . .venv/bin/activate && python train.py --help"
    environment = {"HOME": str(tmp_path), "PATH": os.defpath}
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage: python train.py" in done.stdout
