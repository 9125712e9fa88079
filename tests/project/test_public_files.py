"""The public files stay true: one version everywhere, links and make targets that exist, the paper's tables as printed."""

import csv
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import salr

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("*.md"))


def make_targets() -> set[str]:
    return set(
        re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )


def test_bare_make_lists_every_target_with_a_line() -> None:
    shown = subprocess.run(["make", "-s", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  ([a-z0-9-]+) +\S.*$", shown, re.MULTILINE)) == make_targets()
    assert {"demo", "test", "lint", "format", "data", "clean"} <= make_targets()


def test_citation_names_software_and_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == salr.__version__
    (paper,) = citation["references"]
    assert paper["title"] == "SALR: Sharpness-Aware Learning Rates for Improved Generalization"
    assert {"type", "authors"} <= paper.keys()


def test_changelog_has_this_version_or_a_section_for_it() -> None:
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert salr.__version__ in sections or sections == ["Unreleased"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (ROOT / link).exists()]
    # Only what is set as code is a command.
    code = re.findall(r"^```.*?^```|^    .*?$|`.+?`", text, re.MULTILINE | re.DOTALL)
    named = {
        target
        for piece in code
        for target in re.findall(r"^[ `$]*make ([a-z][a-z0-9-]*)", piece, re.MULTILINE)
    }
    for target in named:  # make itself says whether it knows one, patterns included
        known = subprocess.run(
            ["make", "-n", "-C", ROOT, target], capture_output=True, text=True, check=False
        )
        assert known.returncode == 0, known.stderr


def test_published_tables_are_whole() -> None:
    with (ROOT / "results/paper/published_tables.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = {(row["table"], row["dataset"], row["network"], row["method"], row["metric"]) for row in rows}
    assert len(cells) == len(rows) == 130
    assert {row["table"] for row in rows} == set("123456789")
    for row in rows:
        assert float(row["mean"]) > 0
        assert not row["std"] or float(row["std"]) >= 0
