"""The public files are true: one version, links and targets that exist, the project's results kept."""

import ast
import csv
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import salr

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("*.md"))
REFERENCE = "results/reference"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def yaml_of(name: str) -> Any:
    return yaml.safe_load(text_of(name))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", text_of("Makefile"), re.MULTILINE))


def tracked(*paths: str) -> list[str]:
    command = ["git", "ls-files", *paths]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_bare_make_lists_every_target_with_a_line() -> None:
    shown = subprocess.run(["make", "-s", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  ([a-z0-9-]+) +\S.*$", shown, re.MULTILINE)) == make_targets()
    assert {"demo", "train", "test", "lint", "format", "data", "clean"} <= make_targets()


def test_citation_names_software_and_paper() -> None:
    citation = yaml_of("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == salr.__version__
    (paper,) = citation["references"]
    assert paper["title"] == "SALR: Sharpness-Aware Learning Rates for Improved Generalization"
    assert {"type", "authors"} <= paper.keys()
    assert paper["url"] == tomllib.loads(text_of("pyproject.toml"))["project"]["urls"]["Paper"]


def test_changelog_has_this_version_or_a_section_for_it() -> None:
    sections = re.findall(r"^## \[(.+?)\]", text_of("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert salr.__version__ in sections or sections == ["Unreleased"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (ROOT / link).exists()]
    # Only what is set as code is a command or a path.
    code = re.findall(r"^```.*?^```|^    .*?$|`.+?`", text, re.MULTILINE | re.DOTALL)
    named = {
        target
        for piece in code
        for target in re.findall(r"^[ `$]*make ([a-z][a-z0-9-]*)", piece, re.MULTILINE)
    }
    for target in named:  # make itself says whether it knows a target, patterns included
        known = subprocess.run(
            ["make", "-n", "-C", ROOT, target], capture_output=True, text=True, check=False
        )
        assert known.returncode == 0, known.stderr
    packages = "configs|data|examples|experiments|models|salr|scripts|tests"
    paths = {path for piece in code for path in re.findall(rf"\b(?:{packages})/[\w./]*(?![\w./<*])", piece)}
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_published_tables_are_whole() -> None:
    path = ROOT / "experiments/paper/published_tables.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = {(row["table"], row["dataset"], row["network"], row["method"], row["metric"]) for row in rows}
    assert len(cells) == len(rows) == 130
    assert {row["table"] for row in rows} == set("123456789")
    for row in rows:
        assert float(row["mean"]) > 0
        assert not row["std"] or float(row["std"]) >= 0


def test_only_the_projects_own_results_are_tracked() -> None:
    files = tracked("results")
    assert files
    assert all(file.startswith(f"{REFERENCE}/") for file in files)
    assert not [file for file in files if file.endswith((".pt", ".ckpt"))]  # runs are kept without weights
    for name in ("runs/a", "tables/a.md", "figures/a.png", "bench/a.csv", "report.html", "new/a"):
        ignored = subprocess.run(["git", "check-ignore", "-q", f"results/{name}"], cwd=ROOT, check=False)
        assert ignored.returncode == 0, name


def test_no_default_output_is_among_the_projects_own_results() -> None:
    """No constant of the code and no command of the Makefile names ``results/reference``; docstrings may."""
    for name in tracked(
        "train.py", "scripts/*.py", "experiments/*.py", "salr/*.py", "models/*.py", "data/*.py"
    ):
        if not (ROOT / name).exists():
            continue
        tree = ast.parse(text_of(name))
        prose = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in prose]
        assert not [node.lineno for node in constants if REFERENCE in str(node.value)], name
    for name in tracked("configs"):
        assert REFERENCE not in text_of(name), name
    for target in sorted(make_targets()):
        command = ["make", "-n", "-C", str(ROOT), target, "EXTRAS=none-installed"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert REFERENCE not in shown.stdout, target


def test_a_report_in_a_fresh_clone_leaves_the_projects_own_results_alone(tmp_path: Path) -> None:
    """It has no records, so every one of its tables is empty, and none of them may replace a measured one."""
    for name in tracked():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)

    def reference() -> dict[str, str]:
        files = [path for path in (tmp_path / REFERENCE).rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = reference()
    assert before
    command = [
        sys.executable,
        "-m",
        "scripts.report",
        "1",
        "--seeds",
        "1",
    ]  # -m puts the clone first on the path
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert (tmp_path / "results/tables/table1.md").is_file(), done.stderr
    assert (tmp_path / "results/report.html").is_file()
    assert reference() == before


def test_continuous_integration_runs_the_scripts_that_are_there() -> None:
    jobs = yaml_of(".github/workflows/ci.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    assert all(command.startswith(".ci/") and (ROOT / command).is_file() for command in commands)
    classifiers = tomllib.loads(text_of("pyproject.toml"))["project"]["classifiers"]
    claimed = re.findall(r"Python :: (3\.\d+)", " ".join(classifiers))
    assert jobs["test"]["strategy"]["matrix"]["python"] == [claimed[0], claimed[-1]]


def test_the_hooks_before_a_commit_run_the_linters_of_make_lint() -> None:
    """They run in .venv, so that constraints.txt is the only place that names the linters' versions."""
    (local,) = yaml_of(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    linters = {hook["entry"].removeprefix(".venv/bin/python -m ").split()[0] for hook in local["hooks"]}
    lint = text_of("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    assert linters == set(re.findall(r"-m (\w+)", lint))
