"""The pages have every public name, no broken path, and only numbers that were measured."""

import csv
import importlib.util
import re
import types
from pathlib import Path

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
    enough = [row for row in cells if int(row["n"]) >= 3]
    assert found[0] == (
        f"- {len(cells)} of the 25 cells of Table 1 are measured, {len(enough)} of them with 3 seeds or "
        "more. Only these are compared here."
    )
    differing = [line for line in found if " differs from the published mean" in line]
    assert len(differing) == sum(row.get("differs") == "True" for row in cells)
    tested = [row for row in module.rows("tables/table1_differences.csv") if row["difference"]]
    results = module.results().splitlines()
    for row in tested:
        names = f": {module.name_of(row['method'])} minus {module.name_of(row['against'])} is"
        (line,) = (line for line in results if names in line and row["network"] in line)
        assert row.get("outcome", f"{row['n']} seeds") in line
        assert (line in found) == (int(row["n"]) >= 3)


TABLE = {
    "table": "1",
    "dataset": "mnist",
    "network": "lenet",
    "metric": "accuracy_percent",
    "wanted": "10",
    "epochs": "20",
    "published_mean": "99",
    "published_std": "0.01",
}
COMPARED = {"dataset": "mnist", "network": "lenet", "method": "sgd_salr", "against": "sgd", "margin": "0.1"}
SHARPNESS = ("ascent_descent", "keskar_train_percent", "sam", "hessian_top")
METHOD = {"name": "SAM", "rate": "0.3", "at_edge": "False", "others": "", "n": "4"}
METHOD |= {"first": "SAM", "against": "SGD", "seeds_compared": "4"}


def cell(method: str, n: int, mean: str = "", **values: str) -> dict[str, str]:
    """Return a row of a table's CSV."""
    gap = f"{float(mean) - 99:.6g}" if mean else ""
    row = TABLE | {"method": method, "n": str(n), "mean": mean, "std": "", "others": "", "differs": "False"}
    return row | {"mean_minus_published": gap, "gradient_calls": "46800"} | values


def pretend(tmp_path: Path, **files: list[dict[str, str]]) -> types.ModuleType:
    """Return the extension beside a folder with these tables; a ``__`` in a name is a folder."""
    module = extension()
    module.REFERENCE = tmp_path
    for name, table in files.items():
        path = tmp_path / f"{name.replace('__', '/')}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return module


def test_the_answer_says_both_rates_and_how_sharp_salr_ends(tmp_path: Path) -> None:
    names = ("train_loss", *SHARPNESS)
    ratios = {f"{name}_n": "3" for name in names} | {"first": "SGD-SALR", "against": "SGD", "n": "3"}
    ratios |= {"train_loss": "136"}
    ratios |= {f"{name}_low_95": "1.1" if name == "sam" else "0.2" for name in names}
    ratios |= {f"{name}_high_95": "0.9" if name == "hessian_top" else "3" for name in names}
    lower = {"difference": "-0.496", "outcome": "undecided", "n": "4"}
    study = METHOD | {"method": "sgd_salr", "difference": "0.31", "outcome": "better", "name": "SGD-SALR"}
    module = pretend(
        tmp_path,
        tables__table1=[
            cell("sgd", 4, "98", published_mean="98.02"),
            cell("sgd_salr", 4, "97", published_mean="99.02"),
        ],
        tables__table1_differences=[COMPARED | lower, COMPARED | lower | {"n": "2"}],
        study__methods=[study, study | {"method": "sam", "name": "SAM", "outcome": "undecided"}],
        study__ratios=[ratios, ratios | {"first": "SAM"}, ratios | {"sam_n": "2"}],
    )
    mean, than = "SGD-SALR's mean test accuracy is", "than SGD's"
    assert module.answer().splitlines()[2:] == [
        f"- lenet, mnist, at the paper's rates and equal gradient calls: {mean} 0.496 percentage points "
        f"lower {than} (4 seeds; after correction: undecided). In the paper it is 1 percentage points "
        "higher.",
        f"- In the study, each at the rate that was best on held-out data, at equal gradient calls: {mean} "
        f"0.31 percentage points higher {than} (4 seeds; after correction: better).",
        "- Of 2 methods that the study compares with SGD, shown to be better: SGD-SALR.",
        "- SGD-SALR's final weights beside those of “SGD”: sharper by 1 of 4 measures, flatter by 1; "
        "the training loss is 140 times as large (3 seeds).",
    ]


def test_without_runs_nothing_is_found(tmp_path: Path) -> None:
    module = pretend(tmp_path)
    assert module.answer().startswith("Not enough is measured yet")
    assert module.found() == "- No table of the paper is measured yet."
    assert module.results() == ""
    assert module.study("methods") == "*Not measured yet.*"


def test_one_seed_gives_a_difference_without_interval_and_no_verdict(tmp_path: Path) -> None:
    nothing = {"low_95": "", "high_95": "", "p_holm": "", "n": "1", "outcome": "undecided"}
    module = pretend(
        tmp_path,
        tables__table1=[cell("sgd", 1, "98"), cell("sgd_salr", 1, "97")],
        tables__table1_differences=[COMPARED | nothing | {"difference": "-1"}],
    )
    words = "lenet, mnist, at equal gradient calls: SGD-SALR minus SGD"
    difference = f"{words} is -1 percentage points (1 seed); undecided."
    assert module.found().splitlines() == [
        "- 2 of the 2 cells of Table 1 are measured, 0 of them with 3 seeds or more. Only these are compared "
        "here.",
    ]
    assert difference in module.results()


def test_runs_that_diverged_are_said_even_if_all_did(tmp_path: Path) -> None:
    module = pretend(
        tmp_path,
        tables__table1=[
            cell("sgd", 4, "98", differs="True", others="2 diverged, 4 missing"),
            cell("sgd_salr", 0, epochs="", gradient_calls="", others="10 diverged"),
            cell("swa", 0, others="10 missing"),
        ],
        tables__table1_differences=[COMPARED | {"difference": ""}],
    )
    assert module.found().splitlines() == [
        "- 1 of the 3 cells of Table 1 are measured, 1 of them with 3 seeds or more. Only these are compared "
        "here.",
        "- lenet, mnist, SGD: the measured mean differs from the published mean "
        "(-1.00 percentage points, 4 of 10 seeds, 2 diverged).",
        "- lenet, mnist, SGD-SALR: nothing is measured (0 of 10 seeds, 10 diverged).",
    ]
    assert "| lenet, mnist | SGD-SALR | – | – | 0, 10 diverged | 99.00" in module.results()
    assert "SWA" not in module.results()


@pytest.mark.parametrize(
    ("calls", "words"), [("46800", "at equal gradient calls"), ("84240", "with 1.8 times the gradient calls")]
)
@pytest.mark.parametrize(
    ("difference", "outcome", "words_of_it"),
    [
        ("0.5", "better", "better"),
        ("-0.5", "worse", "worse"),
        ("0.05", "better", "better, by less than the margin of equivalence"),
        ("0.01", "equivalent", "equivalent"),
    ],
)
def test_a_difference_says_its_budget_and_its_outcome(
    calls: str, words: str, difference: str, outcome: str, words_of_it: str, tmp_path: Path
) -> None:
    numbers = {"low_95": "0.02", "high_95": "0.9", "p_holm": "0.0213", "n": "10"}
    module = pretend(
        tmp_path,
        tables__table1=[cell("sgd", 10, "98"), cell("sgd_salr", 10, "98", gradient_calls=calls)],
        tables__table1_differences=[COMPARED | numbers | {"difference": difference, "outcome": outcome}],
    )
    assert module.found().splitlines()[-1] == (
        f"- lenet, mnist, {words}: SGD-SALR minus SGD is {float(difference):+.3g} percentage points "
        "(95 % interval +0.02 to +0.9, 10 seeds); after correction for the comparisons of its claim "
        f"p = 0.021: {words_of_it}."
    )


def test_the_study_says_differences_seeds_edges_and_diverged_runs(tmp_path: Path) -> None:
    numbers = {"difference": "0.31", "low_95": "0.2", "high_95": "0.4", "outcome": "better"}
    nothing = {"difference": "", "low_95": "", "high_95": "", "outcome": ""}
    others = {"outcome": "undecided", "others": "1 diverged"}
    module = pretend(
        tmp_path,
        study__methods=[
            METHOD | nothing | {"name": "SGD", "at_edge": "True"},
            METHOD | numbers,
            METHOD | numbers | others | {"name": "SWA"},
            METHOD | nothing | {"name": "Entropy-SGD", "rate": "", "n": "0", "outcome": "not measured"},
        ],
    )
    at_best = "- At the chosen rates and equal gradient calls, each method minus SGD"
    size = "+0.31 percentage points (95 % interval +0.2 to +0.4, 4 seeds"
    assert module.found().splitlines()[1:] == [
        "- The study compares the methods, each at the learning rate that was best on held-out data, in a "
        "search at a fifth of the budget. So far it has chosen 3 of 4 rates.",
        "- A better rate may lie outside those that were tried for SGD: the best is at the edge.",
        f"{at_best}; better: SAM {size}).",
        f"{at_best}; undecided: SWA {size}, 1 diverged).",
        "- Each interval of the study is that of one comparison. Whether a difference is decided is "
        "corrected for all comparisons of its table.",
        "- The study has not measured yet: Entropy-SGD, how flat the solutions are, large batches, variants "
        "of SALR, LeNet.",
    ]


def test_the_study_says_how_sharp_salr_ends_and_what_goes_with_the_test_error(tmp_path: Path) -> None:
    measures = ("train_loss", *SHARPNESS)
    ratios = {f"{name}{suffix}": "2.04" for name in measures for suffix in ("", "_low_95", "_high_95")}
    ratios |= {f"{name}_n": "3" if name in ("sam", "train_loss") else "2" for name in measures}
    rows = [
        ratios | {"first": first, "against": "SGD", "n": n} for first, n in (("SGD-SALR", "3"), ("SAM", "3"))
    ]
    correlation = {"measure": "sam", "rho_runs": "0.9", "low_runs": "0.5", "runs": "12"}
    correlation |= {"rho_given_loss": "-0.1", "low_given_loss": "-0.5", "given_loss": "11"}
    module = pretend(
        tmp_path,
        study__methods=[METHOD | {"outcome": ""}],
        study__ratios=[*rows, rows[0] | {"n": "2"}],
        study__correlation=[
            correlation,
            correlation | {"measure": "hessian_top", "low_runs": "", "low_given_loss": ""},
        ],
    )
    lines = module.found().splitlines()
    ratio = "2 (95 % interval 2 to 2)"
    assert [line.partition(": ")[::2] for line in lines if "divided by" in line] == [
        (
            "- At the final weights, SGD-SALR divided by SGD",
            f"training loss {ratio}, SAM's, ρ = 0.05 {ratio}; 3 seeds.",
        )
    ]
    assert "- Rank correlation with the test error, over runs: SAM's, ρ = 0.05 +0.90 (12 runs)." in lines
    assert (
        "- Rank correlation with the test error, over runs, given the training loss: "
        "SAM's, ρ = 0.05 -0.10 (11 runs)."
    ) in lines


def test_the_study_says_what_a_fifth_of_the_calls_and_a_constant_rate_reach(tmp_path: Path) -> None:
    numbers = {"difference": "-0.31", "low_95": "-0.4", "high_95": "-0.2", "outcome": "worse"}
    few = METHOD | numbers | {"name": "SWA", "seeds_compared": "2"}
    module = pretend(
        tmp_path,
        study__methods=[few],
        study__fifth=[METHOD | numbers, few],
        study__factor=[METHOD | numbers | {"name": "SGD, constant rate for SGD-SALR", "first": "SGD-SALR"}],
    )
    size = "-0.31 percentage points (95 % interval -0.4 to -0.2, 4 seeds)"
    lines = [line.partition("; worse: ") for line in module.found().splitlines()]
    assert [difference for _, found, difference in lines if found] == [
        f"minus SGD {size}.",
        f"SGD-SALR {size}.",
    ]


@pytest.mark.parametrize("name", ["methods", "fifth", "flatness", "ratios", "correlation"])
def test_tables_of_the_study_are_its_reports(name: str) -> None:
    module = extension()
    path = module.REFERENCE / "study" / f"{name}.md"
    counts = [int(row.get("n") or row.get("runs") or 0) for row in module.rows(f"study/{name}.csv")]
    if any(counts):
        assert module.study(name) in path.read_text(encoding="utf-8")
        assert module.study(name).startswith("| ")
    else:
        assert module.study(name) == "*Not measured yet.*"


def test_an_expansion_is_told_at_the_papers_gamma(tmp_path: Path) -> None:
    def row(gamma: str, phase: str, ratio: str, correlation: str) -> dict[str, str]:
        low_high = {"ratio_low": "0.5", "ratio_high": "2"}
        where = {"rate": "0.1", "gamma": gamma, "phase": phase, "measurements": "9"}
        return where | {"ratio": ratio, "correlation": correlation} | low_high

    table = [
        row("0.1", "all", "9.0", "nan"),
        row("0.002", "all", "1.1", "0.98765"),
        row("0.002", "early", "1.0", "1"),
        row("0.002", "late", "0.75", "0.9"),
    ]
    traced = [{"rate": "0.1", "iteration": last} for last in ("0", "1234")]
    module = pretend(
        tmp_path,
        expansion__expansion_digits_lenet_sgd_salr_summary=table,
        expansion__expansion_digits_lenet_sgd_salr=traced,
    )
    assert module.expansion().splitlines()[2] == (
        "| digits lenet sgd salr | 0.1 | 1,234 | 9 | 1.100\u00a0(0.988) | 9.000\u00a0(–) |"
    )
    assert module.expansion_in_words() == (
        "At the paper's γ of 0.002, the median ratio of these 1 runs is 1.100 to 1.100, and the correlation "
        "of the factors is 0.988 or more. The ratio is farthest from 1 for digits lenet sgd salr at η0 = 0.1 "
        "in the last third: 0.750 (0.500, 2.000)."
    )
