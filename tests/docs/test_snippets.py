"""Every piece of Python in the pages runs, one after another, in a process of its own."""

import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.pages import DOCS, README, ROOT, blocks, name, pages, run_python

PROBLEM = blocks(DOCS / "quickstart.md", "python")[0].text
"""Model, batches and loss, which the quick start makes and the other pages assume."""

CLIENTS = {"accelerate.md": "accelerate", "lightning.md": "lightning", "transformers.md": "transformers"}
"""Pages about a package that is not one of the project's own, and that package."""

ELSEWHERE = "extending"
"""Pages whose code belongs into files; another test follows them."""

RECORDS = DOCS / "experiments" / "records.md"

WITH_PYTHON = [page for page in pages() if blocks(page, "python") and page.parent.name != ELSEWHERE]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if page.name in CLIENTS:
        pytest.importorskip(CLIENTS[page.name])
    if page in (RECORDS, README):
        shutil.copytree(ROOT / "tests" / "recorded_runs", tmp_path / "results")
    given = "" if page.name == "quickstart.md" else PROBLEM
    shown = "\n".join(block.text for block in blocks(page, "python"))
    file = tmp_path / "page.py"
    file.write_text(f"{given}\n{shown}", encoding="utf-8")
    code, output = run_python(file, {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"})
    assert code == 0, output[-3000:]
    assert "nan" not in output.split(), output


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_what_a_page_imports_is_in_its_own_lines(page: Path) -> None:
    """A reader who copies a page's code after the quick start's lines needs nothing more."""
    code = "\n".join(block.text for block in blocks(page, "python"))
    used = set(re.findall(r"\b(?:SALR|SAM|LocalEntropy|AscentDescent|GradientNorm)\b", code))
    lines = re.findall(r"^from salr\S* import (.*)$", code, re.MULTILINE)
    imported = {word for line in lines for word in line.split(", ")}
    assert used <= imported


def test_the_readme_shows_the_library() -> None:
    assert any("optimizer.step(" in block.text for block in blocks(README, "python"))
