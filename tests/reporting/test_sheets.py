"""Tables of free form, rank correlations, and the picture of rates."""

import csv
import io
import itertools
import math
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import rankdata

from salr.reporting import sensitivity as pictures
from salr.reporting.csv_files import mappings_csv
from salr.reporting.methods import style_of
from salr.reporting.sensitivity import Point, sensitivity
from salr.reporting.sheets import Sheet, sheet_markdown, write_sheets
from salr.reporting.statistics import rank_correlation

SHEET = Sheet(
    "one", "A title", ({"a": 1.5, "b": math.nan},), ("a", "b"), (("1.5", "not measured"),), ("A note <b>.",)
)


def plain_spearman(first: list[float], second: list[float]) -> float:
    """The correlation of ranks, equal values sharing their mean rank."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(other < each for other in values) + (values.count(each) + 1) / 2 for each in values]

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def test_rank_correlation_is_that_of_the_ranks() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        first, second = (random.integers(0, 6, 12).astype(float).tolist() for _ in range(2))
        found = rank_correlation(first, second)
        assert found.rho == pytest.approx(plain_spearman(first, second))
        assert found.n == 12
        assert -1 <= found.low < found.rho < found.high <= 1


def test_a_partial_rank_correlation_is_that_of_the_residuals_of_the_ranks() -> None:
    random = np.random.default_rng(3)
    given = random.normal(size=30)
    first, second = given + random.normal(size=30), given + random.normal(size=30)

    def residuals(values: np.ndarray) -> np.ndarray:
        design = np.stack([np.ones(30), rankdata(given)], axis=1)
        return rankdata(values) - design @ np.linalg.lstsq(design, rankdata(values), rcond=None)[0]

    found = rank_correlation(first.tolist(), second.tolist(), given.tolist())
    assert found.rho == pytest.approx(float(np.corrcoef(residuals(first), residuals(second))[0, 1]))
    assert found.low < found.rho < found.high
    assert math.isnan(rank_correlation(given.tolist(), second.tolist(), given.tolist()).rho)


def test_intervals_of_rank_correlations_cover_what_they_should() -> None:
    """Of independent samples 0 lies inside in about 95 of 100 cases."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        found = rank_correlation(random.normal(size=20).tolist(), random.normal(size=20).tolist())
        inside += found.low <= 0 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_few_or_constant_values_have_no_correlation() -> None:
    assert math.isnan(rank_correlation([1.0, 2.0], [2.0, 1.0]).rho)
    assert math.isnan(rank_correlation([1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]).rho)
    perfect = rank_correlation([1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 9.0, 16.0])
    assert perfect.rho == pytest.approx(1)
    assert math.isnan(perfect.low)


def test_csv_files_of_mappings_can_be_read_back() -> None:
    rows = [{"name": "SGD, momentum", "value": 0.5, "n": 2}, {"name": "SAM", "value": math.nan, "n": 0}]
    assert list(csv.DictReader(io.StringIO(mappings_csv(rows)))) == [
        {"name": "SGD, momentum", "value": "0.5", "n": "2"},
        {"name": "SAM", "value": "", "n": "0"},
    ]


def test_a_page_has_every_sheet_and_note(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"png")
    page = tmp_path / "page.html"
    write_sheets([SHEET], tmp_path, page, "All", "Nothing yet.", ["How."], {"A picture": picture}, [])
    text = page.read_text()
    for part in ("All", "Nothing yet.", "A title", "not measured", "A note &lt;b&gt;.", "How.", "A picture"):
        assert part in text
    assert (tmp_path / "one.md").read_text() == sheet_markdown(SHEET)
    assert sheet_markdown(SHEET).splitlines() == [
        *("**A title**", "", "| a | b |", "| --- | --- |", "| 1.5 | not measured |", "", "- A note <b>."),
    ]


def test_the_picture_of_rates_shows_what_is_measured(tmp_path: Path) -> None:
    """Another value, another chosen rate or a missing point is another picture."""
    points = [Point(0.01, (95.0, 96.0)), Point(0.1, (97.0,)), Point(1.0, ())]
    lower = [Point(0.01, (90.0, 96.0)), *points[1:]]
    drawn = [
        ({"sgd": points}, {"sgd": 0.1}),
        ({"sgd": points}, {}),
        ({"sgd": lower}, {"sgd": 0.1}),
        ({"sgd": points, "sam": lower}, {}),
        ({"sgd": [Point(0.1, ())]}, {}),
        ({"sgd": [Point(0.1, (), 1), Point(1.0, (), 2)]}, {}),
        ({"sgd": points}, {"sgd": 0.1}),
    ]
    pictures = []
    for place, (curves, best) in enumerate(drawn):
        path = tmp_path / f"{place}.png"
        sensitivity(curves, best, path, "title")
        assert path.with_suffix(".pdf").exists()
        pictures.append(matplotlib.image.imread(path))
    *different, again = pictures
    assert np.array_equal(different[0], again)
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(different, 2))


def test_a_rate_at_which_a_run_diverged_is_a_cross_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the others finished with a good accuracy or not; the line does not pass over it."""
    kept: list[Figure] = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: kept.append(figure))
    points = [Point(0.01, (95.0, 96.0)), Point(0.1, (99.9,), 1), Point(0.3, (), 2), Point(1.0, (90.0, 90.0))]
    sensitivity({"sgd": points, "sam": [Point(0.1, (), 2)]}, {"sgd": 0.01}, tmp_path / "f.png", "title")
    axes = kept[0].axes[0]
    marks = [line for line in axes.get_lines() if line.get_marker() == "x" and len(line.get_xdata())]
    crosses = {line.get_color(): list(line.get_xdata()) for line in marks}
    assert crosses == {style_of("sgd").colour: [0.1, 0.3], style_of("sam").colour: [0.1]}
    errors = {container.get_label(): container.lines[0].get_ydata().tolist() for container in axes.containers}
    assert errors["SGD"] == pytest.approx([4.5, math.nan, math.nan, 10.0], nan_ok=True)
    assert "a run diverged" in {text.get_text() for text in axes.get_legend().get_texts()}
    kept[0].savefig(tmp_path / "f.png")
    plt.close("all")
