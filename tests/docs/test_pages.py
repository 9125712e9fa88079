"""The pages have every public name, no broken path, and only numbers that were measured."""

import importlib.util
import re
import types

import pytest

import salr.optim
import salr.records
import salr.sharpness
from tests.helpers.pages import DOCS, README, ROOT, pages


def extension() -> types.ModuleType:
    path = DOCS / "_ext" / "reference_results.py"
    spec = importlib.util.spec_from_file_location("reference_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "package"),
    [("optim", salr.optim), ("sharpness", salr.sharpness), ("records", salr.records)],
)
def test_the_reference_has_every_public_name(page: str, package: types.ModuleType) -> None:
    listed = set(re.findall(r"^   (\w+)$", (DOCS / "reference" / f"{page}.md").read_text(), re.MULTILINE))
    public = {name for name in package.__all__ if not isinstance(getattr(package, name), types.ModuleType)}
    assert public <= listed


def test_every_optimizer_has_a_page_with_its_formula_values_cost_and_limits() -> None:
    files = sorted((DOCS / "guide" / "optimizers").glob("*.md"))
    text = {path.stem: path.read_text(encoding="utf-8") for path in files}
    classes = [name for name in salr.optim.__all__ if name[0].isupper() and name != "Wrapper"]
    for name in classes:
        (page,) = (stem for stem in text if stem.replace("_", "") == name.lower())
        for heading in ("## Cost", "## When not to use it"):
            assert heading in text[page], page
        assert "$$" in text[page] or "| factor |" in text[page], page


def test_the_readmes_tables_are_those_of_the_committed_results() -> None:
    """Write them anew with: python docs/_ext/reference_results.py"""
    text = README.read_text(encoding="utf-8")
    assert "<!-- results -->" in text
    assert extension().with_blocks(text) == text


def test_generated_tables_change_with_the_results() -> None:
    module = extension()
    original = module.rows

    def changed(name: str) -> list[dict[str, str]]:
        return [row | {"mean": "12.345"} if row.get("mean") else row for row in original(name)]

    before = module.results()
    module.rows = changed
    assert "12.35" not in before
    assert module.results() != before
    assert "12.3" in module.results()


def test_no_page_links_to_a_file_that_is_not_there() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
        links += re.findall(r"^```\{include\} (\S+)", text, re.MULTILINE)
        local = [link for link in links if link and "://" not in link and not link.startswith("/")]
        missing = [link for link in local if not (page.parent / link).exists()]
        assert not missing, (page.relative_to(ROOT), missing)


def test_no_page_types_a_measured_accuracy() -> None:
    """A percentage with two decimals comes from results/reference; in a page it would be typed in."""
    for page in DOCS.rglob("*.md"):
        if "_build" not in page.parts and page.name not in ("table.md",):
            assert not re.findall(r"\b9\d\.\d\d\b", page.read_text(encoding="utf-8")), page


def test_what_was_found_is_what_was_measured() -> None:
    """Every cell that differs and every measured comparison has its line, with the CSV's outcome."""
    module = extension()
    found = module.found().splitlines()
    cells = [row for row in module.rows("tables/table1.csv") if int(row["n"])]
    assert found[0] == f"- {len(cells)} of the 25 cells of Table 1 are measured."
    differing = [line for line in found if " differs from the published mean" in line]
    assert len(differing) == sum(row.get("differs") == "True" for row in cells)
    tested = [row for row in module.rows("tables/table1_differences.csv") if row["difference"]]
    for row in tested:
        names = f"{module.name_of(row['method'])} minus {module.name_of(row['against'])}"
        (line,) = (line for line in found if names in line and row["network"] in line)
        assert row.get("outcome", f"{row['n']} seeds") in line


@pytest.mark.parametrize("name", ["methods", "fifth", "correlation"])
def test_tables_of_the_study_are_its_reports(name: str) -> None:
    module = extension()
    path = module.REFERENCE / "study" / f"{name}.md"
    if path.exists():
        assert module.study(name) in path.read_text(encoding="utf-8")
        assert module.study(name).startswith("| ")
    else:
        assert module.study(name) == "The study has not been measured yet."
