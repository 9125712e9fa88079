"""Figures, judged by what is on their axes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.paper.published import published
from salr.records import Run
from salr.reporting import figures, forest, methods
from salr.reporting.cells import Cell, Wanted
from salr.reporting.figures import error_and_factor, figure4_left, figure4_right
from salr.reporting.gallery import draw_figures
from salr.reporting.methods import style_of
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import estimate
from salr.reporting.tables import Table, make_table
from tests.helpers.tables import MADE, judged, record, table


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Figure]]:
    """What would have been saved, by the file's name."""
    kept: dict[str, Figure] = {}
    for module in (figures, forest):
        monkeypatch.setattr(module, "save", lambda figure, path: kept.update({path.stem: figure}))
    yield kept
    plt.close("all")


def rows(values: Sequence[float], **more: float) -> list[dict[str, Any]]:
    return [
        {"epoch": number, "gradient_calls": 100 * number, "test_accuracy": value, "lr": 0.01, **more}
        for number, value in enumerate(values, 1)
    ]


def lines(figure: Figure, place: int = 0) -> dict[str, Any]:
    """The curves of an axis by the first word of their labels."""
    found = figure.axes[place].get_lines()
    return {
        str(line.get_label()).split()[0]: line for line in found if not str(line.get_label()).startswith("_")
    }


def test_a_method_has_one_colour_and_dash_everywhere(drawn: dict[str, Figure]) -> None:
    """In whichever order and company it is drawn; and no two known methods look alike."""
    curve = [rows([90.0, 95.0])]
    error_and_factor({"sgd": curve, "adam": curve}, Path("one.png"))
    error_and_factor({"swa": curve, "adam": curve, "sgd": curve}, Path("two.png"))
    figure4_left({"adam": curve}, Path("three.png"))
    for name in ("one", "two", "three"):
        line = lines(drawn[name])["Adam"]
        assert (line.get_color(), line.get_linestyle()) == (style_of("adam").colour, style_of("adam").dash)
    styles = methods._STYLES.values()
    assert len({(style.colour, style.dash) for style in styles}) == len(styles)


def test_small_errors_can_be_told_apart(drawn: dict[str, Figure]) -> None:
    """On the axis from 0.7 % to 90 %, 0.7 % and 1.8 % are a tenth of its height apart at least."""
    error_and_factor({"sgd": [rows([10.0, 98.2])], "sgd_salr": [rows([10.0, 99.3])]}, Path("f.png"))
    axes = drawn["f"].axes[0]
    low, high = (axes.transAxes.inverted().transform(axes.transData.transform((1, y)))[1] for y in (0.7, 1.8))
    assert high - low > 0.1


def test_a_run_of_one_epoch_is_visible(drawn: dict[str, Figure]) -> None:
    figure4_left({"sgd": [rows([90.0])], "sgd_salr": [rows([91.0])]}, Path("f.png"))
    for place, name in ((0, "SGD"), (1, "SGD-SALR")):
        axes, line = drawn["f"].axes[place], lines(drawn["f"], place)[name]
        assert line.get_marker() == "o"
        assert axes.get_xlim()[0] <= line.get_xdata()[0] <= axes.get_xlim()[1]


def test_figure_4s_axes_follow_the_method(drawn: dict[str, Figure]) -> None:
    """Not the length of the runs: here the SALR run is the longer one."""
    short, long = [rows([90.0])], [rows([90.0, 91.0, 92.0])]
    figure4_left({"sgd": short, "entropy_sgd": long, "sgd_salr": long}, Path("f.png"))
    lower, upper = drawn["f"].axes
    assert set(lines(drawn["f"], 0)) == {"SGD"}
    assert set(lines(drawn["f"], 1)) == {"Entropy-SGD", "SGD-SALR"}
    assert "one gradient" in lower.get_xlabel()
    assert "SALR" in upper.get_xlabel()


def test_pictures_say_n_and_budget(drawn: dict[str, Figure]) -> None:
    error_and_factor({"sgd": [rows([90.0, 91.0])] * 3}, Path("f.png"), "mnist lenet (Table 1)")
    assert lines(drawn["f"])["SGD"].get_label() == "SGD (n=3, 2 epochs)"
    assert drawn["f"].get_suptitle() == "mnist lenet (Table 1)"


def test_the_factors_band_is_its_spread_within_an_epoch(drawn: dict[str, Figure]) -> None:
    """The line is the epoch's median. Older records have no quantiles: then the band is the runs' range."""
    new = [
        rows([90.0, 91.0], lr_factor=1.0 + shift, lr_factor_low=0.5, lr_factor_high=2.0) for shift in (0, 0.2)
    ]
    old = [rows([90.0, 91.0], lr_factor=1.0 + shift) for shift in (0, 0.2)]
    for name, runs, band in (("new", new, (0.5, 2.0)), ("old", old, (1.0, 1.2))):
        error_and_factor({"sgd_salr": runs}, Path(f"{name}.png"))
        right = drawn[name].axes[1]
        assert lines(drawn[name], 1)["SGD-SALR"].get_ydata() == pytest.approx([1.1, 1.1])
        heights = np.concatenate([path.vertices[:, 1] for path in right.collections[0].get_paths()])
        assert (heights.min(), heights.max()) == pytest.approx(band)


def test_texts_have_curves_in_their_own_unit(drawn: dict[str, Figure]) -> None:
    text = [{"epoch": 1, "gradient_calls": 9, "test_loss": 1.2, "test_perplexity": 3.3}]
    error_and_factor({"adam": [text]}, Path("perplexity.png"))
    error_and_factor({"adam": [text]}, Path("nats.png"), metric=METRICS["nats"])
    for name, value, label in (("perplexity", 3.3, "test perplexity"), ("nats", 1.2, "nats per character")):
        assert lines(drawn[name])["Adam"].get_ydata() == pytest.approx([value])
        assert label in drawn[name].axes[0].get_ylabel()


def test_the_rate_of_figure_4_is_the_scaled_one(drawn: dict[str, Figure]) -> None:
    """Older records call it ``lr``."""
    trace = {"sharpness": [1.0], "median_sharpness": [1.0]}
    figure4_right({**trace, "lr": [0.01], "lr_effective": [0.02]}, Path("new.png"))
    figure4_right({**trace, "lr": [0.03]}, Path("old.png"))
    for name, rate in (("new", 0.02), ("old", 0.03)):
        assert list(drawn[name].axes[1].get_lines()[0].get_ydata()) == [rate]


def test_units_and_data_sets_never_share_an_axis(drawn: dict[str, Figure]) -> None:
    """Table 5 has perplexities and nats. Rows name data set, network and method; there is a legend."""
    cells = tuple(
        Cell(
            Wanted(cell, cell.dataset, cell.network, cell.method, ()),
            estimate([cell.mean]),
            {0: cell.mean},
            {},
            (),
        )
        for cell in published()
        if cell.table in (5, 8)
    )
    forest.forest(Table(5, cells, "paper", "", ()), Path("f.png"))
    names = [[label.get_text() for label in axes.get_yticklabels()] for axes in drawn["f"].axes]
    assert [len(labels) for labels in names] == [4, 4, 4, 4]
    assert names[0][0] == "ptb lstm_ptb SGD (n=1)"
    assert [axes.get_xlabel() for axes in drawn["f"].axes[:2]] == [
        "test perplexity",
        "test loss (nats per character)",
    ]
    legend = drawn["f"].axes[0].get_legend()
    assert {text.get_text() for text in legend.get_texts()} == {
        "measured, 95 % interval over seeds",
        "published",
    }


def test_tables_that_share_a_network_keep_their_figures(tmp_path: Path) -> None:
    """Two tables with the same network but other runs: each figure has a caption of its own."""
    first = table(tmp_path, {"sgd": [record(tmp_path, "sgd", 0, 98.0)]}, number=2)
    other = table(tmp_path, {"adam": [record(tmp_path, "adam", 0, 98.0)]}, number=3)
    drawn = draw_figures(judged(first, other), tmp_path / "figures")
    assert len(drawn) == len(set(drawn.values())) == 2 * 3
    assert len(list((tmp_path / "figures").glob("*.png"))) == 2 * 3


def test_runs_that_several_tables_show_are_drawn_once(tmp_path: Path) -> None:
    run = Run(tmp_path, "ptb", "lstm_ptb", "sgd", "abc", 0)
    run.write_json("summary.json", {"test_perplexity": 78.0, "epochs": 1, "made_by": MADE})
    run.append_metrics({"epoch": 1, "gradient_calls": 1, "test_perplexity": 78.0})
    run.write_status("finished", 1)
    tables = []
    for number in (5, 6):
        printed = next(
            cell for cell in published() if (cell.table, cell.dataset, cell.method) == (number, "ptb", "sgd")
        )
        tables.append(make_table(number, [Wanted(printed, "ptb", "lstm_ptb", "sgd", (run,))]))
    names = [path.name for path in draw_figures(judged(*tables), tmp_path / "figures").values()]
    assert sum(name.startswith("calls_") for name in names) == 1
