"""The page: self-contained, and readable at a phone's and a desktop's width in a real browser."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.report import make_report, printed_paper
from salr.reporting.gallery import draw_figures
from salr.reporting.page import makers, write_page
from salr.reporting.render import markdown
from salr.reporting.verdicts import Judgement
from tests.helpers.tables import MADE, judged, record, synthetic_records, table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FIGURES = 5


@pytest.fixture
def judgement(tmp_path: Path) -> Judgement:
    plain = [record(tmp_path, "sgd", seed, 98.0 + 0.1 * seed, epochs=100) for seed in range(10)]
    salr = [record(tmp_path, "sgd_salr", seed, 99.0 + 0.1 * seed) for seed in range(10)]
    salr[0].write_json(
        "iterations.json", {name: [0.1, 0.2] for name in ("sharpness", "median_sharpness", "lr_factor", "lr")}
    )
    diverged = record(tmp_path, "entropy_sgd", 0, 5.0, state="diverged")
    cells = {"sgd": plain, "sgd_salr": salr, "entropy_sgd": [diverged]}
    return judged(table(tmp_path, cells))


@pytest.fixture
def page(judgement: Judgement, tmp_path: Path) -> Path:
    figures = draw_figures(judgement, tmp_path / "figures")
    assert len(figures) == FIGURES
    assert all(path.exists() and path.with_suffix(".pdf").exists() for path in figures.values())
    path = tmp_path / "report.html"
    write_page(judgement, printed_paper(), figures, path)
    assert "1 diverged" in markdown(judgement.tables[0])
    return path


def test_a_commit_with_changes_is_not_the_commit() -> None:
    commits = ["a" * 40, "a" * 40 + " with changes", None, "a" * 40]
    counted = makers(("float32", MADE | {"commit": commit}) for commit in commits)
    assert {row["commit"]: row["runs"] for row in counted} == {
        "–": 1,
        "a" * 12: 2,
        "a" * 12 + " with changes": 1,
    }


def test_the_page_needs_no_network_and_says_what_is_missing(page: Path) -> None:
    """Only a link to the paper leads elsewhere."""
    text = page.read_text()
    elsewhere = re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']*)""", text)
    assert elsewhere == ["https://arxiv.org/abs/2011.05348"]
    assert "1 diverged" in text
    assert "python train.py optimizer=sgd_salr" in text
    assert text.count("data:image/png;base64,") == FIGURES


def test_the_page_opens_with_what_it_answers(page: Path) -> None:
    """A headline, the grid, the claims, and only then the contents and the tables."""
    text = page.read_text()
    assert "2 of 3 published cells are measured, by 20 of 21 runs." in text
    places = [text.index(part) for part in ('class="grid"', 'id="claims"', 'id="contents"', 'id="table1"')]
    assert places == sorted(places)
    assert (
        'title="mnist lenet SGD: measured 98.45 (0.30), n = 10; published 99.00 (0.01), n = 30">-0.55<br>'
        in text
    )
    for said in (
        "last epoch",
        "No epoch, seed or run is selected",
        "test set is evaluated after every epoch",
    ):
        assert said in text


def test_a_changed_budget_is_said_on_the_page(tmp_path: Path) -> None:
    """One epoch of everything: no verdict, and the overrides stand on the page and in the files."""
    overrides = ["seeds=1", f"results={tmp_path}", "trainer.epochs=1", "trainer.threads=1"]
    synthetic_records(tmp_path, [9], overrides[:1] + overrides[2:], epochs=1)
    make_report([9], "paper", overrides, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "Not the paper's settings: <code>trainer.epochs=1</code>" in text
    assert "No verdicts: only the paper's budgets say anything about the paper." in text
    assert "budget changed, no verdict: trainer.epochs=1" in (tmp_path / "tables" / "table9.md").read_text()


def test_one_table_does_not_replace_the_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Only Table 9's files are written, and the page still shows Table 8, with figures of its own."""
    synthetic_records(tmp_path, [8, 9], ["seeds=3"], epochs=2)
    overrides = ["seeds=3", f"results={tmp_path}"]
    missing = make_report([9], "paper", overrides, tmp_path)
    assert missing == []
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        f"table9{suffix}" for suffix in (".csv", ".md", ".tex", "_differences.csv", "_runs.csv")
    }
    text = (tmp_path / "report.html").read_text()
    assert "14 of 130 published cells are measured, by 42 of 291 runs." in text
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert len(shown) == len(set(shown)) == 2 + 4 * 3  # three seeds are too few for the bootstrap over claims
    assert text.count("data:image/png;base64,") == len(shown)
    assert make_report([1], "paper", overrides, tmp_path) == ["table 1: 0 of 75 runs, 0 of 25 cells complete"]
    capsys.readouterr()


def test_an_option_of_some_networks_leaves_the_other_tables_out(tmp_path: Path) -> None:
    overrides = ["seeds=1", f"results={tmp_path}", "model.shortcut=B"]
    synthetic_records(tmp_path, [9], ["seeds=1", "model.shortcut=B"], epochs=1)
    make_report([9], "paper", overrides, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "Table 1 is left out: " in text
    assert 'id="table9"' in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian's package chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_in_a_real_browser(page: Path, width: int, tmp_path: Path) -> None:
    """A frame of the page's width reports its measures: headless Chromium's window is at least 500 wide."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<iframe id=f src='{page.name}' width={width} height=900></iframe><script>f.onload = () => {{"
        "const d = f.contentDocument;"
        "const shown = [...d.images].filter(i => i.naturalWidth > 0).length;"
        "const widths = d.documentElement.scrollWidth + ' of ' + f.contentWindow.innerWidth;"
        "document.title = widths + ' images ' + shown;"
        "document.body.append(document.title)}</script>".replace("}}}", "}}")
    )
    command = [
        str(CHROMIUM),
        *FLAGS,
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    measured = re.search(r"(\d+) of (\d+) images (\d+)", shown)
    assert measured, shown[-500:]
    assert int(measured[1]) <= int(measured[2])
    assert int(measured[3]) == FIGURES
