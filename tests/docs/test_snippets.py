"""Every piece of Python in the pages runs, one after another, in a fresh interpreter as a reader's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pages import DOCS, README, ROOT, blocks, name, pages

PROBLEM = blocks(DOCS / "quickstart.md", "python")[0].text
"""Model, batches and loss, which the quick start makes and the other pages assume."""

CLIENTS = {"accelerate.md": "accelerate", "lightning.md": "lightning", "transformers.md": "transformers"}
"""Pages about a package that is not one of the project's own, and that package."""

ELSEWHERE = "extending"
"""Pages whose code belongs into files; another test follows them."""

RECORDS = DOCS / "experiments" / "records.md"

WITH_PYTHON = [page for page in pages() if blocks(page, "python") and page.parent.name != ELSEWHERE]


def in_order(page: Path) -> str:
    """Return a page's code in an order that works: a page may show first what it explains."""
    return "\n".join(block.text for block in blocks(page, "python"))


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if page.name in CLIENTS:
        pytest.importorskip(CLIENTS[page.name])
    if page == RECORDS:
        shutil.copytree(ROOT / "tests" / "recorded_runs", tmp_path / "results")
    code = in_order(page)
    given = "" if page.name == "quickstart.md" else PROBLEM
    file = tmp_path / "page.py"
    file.write_text(f"{given}\n{code}", encoding="utf-8")
    environment = {**os.environ, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning:salr", str(file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nan" not in done.stdout.split(), done.stdout


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_what_a_page_imports_is_in_its_own_lines(page: Path) -> None:
    """A reader who copies a page's code after the quick start's lines needs nothing more."""
    used = {word for block in blocks(page, "python") for word in re.findall(r"\b(?:SALR|SAM|LocalEntropy)\b", block.text)}
    imported = {
        word
        for block in blocks(page, "python")
        for line in re.findall(r"^from salr\S* import (.*)$", block.text, re.MULTILINE)
        for word in line.split(", ")
    }
    assert used <= imported


def test_the_readme_shows_the_library() -> None:
    assert any("optimizer.step(" in block.text for block in blocks(README, "python"))
