"""Each page on how to add something is followed word by word in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pages import DOCS, ROOT

PAGES = sorted(path.stem for path in (DOCS / "extending").glob("*.md") if path.stem != "index")
BLOCK = re.compile(r"^```\{code-block\} (\w+)\n:caption: `?([^\s`]+)`?\n\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is tracked, or would be, without tests, pages and results."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    parts = ["configs", "data", "experiments", "models", "salr", "scripts", "train.py"]
    listed = subprocess.run([*command, "--", *parts], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    # The checkout is installed as editable; a folder named in PYTHONPATH comes before it.
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def change(path: Path, block: str) -> None:
    """Put the lines that a block keeps and adds in the place of those that it keeps and removes."""
    lines = block.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path.name} has this {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_on_how_to_add_something_is_complete(page: str, checkout: Path) -> None:
    text = (DOCS / "extending" / f"{page}.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```{code-block}")
    ran = 0
    for language, caption, block in blocks:
        if language == "diff":
            change(checkout / caption, block)
        elif caption != "run":
            assert not (checkout / caption).exists()
            (checkout / caption).write_text(block, encoding="utf-8")
        elif language == "python":
            assert re.search(r"\d", run([sys.executable, "-c", block], checkout))
        else:
            python = f'python() {{ {sys.executable} "$@"; }}\n'
            output = run(["/bin/sh", "-e", "-c", python + block], checkout)
            assert re.search(r"\d\.\d", output), output
            ran += 1
    assert ran
