"""Figure 3: the script's numbers against brute force, and the files that it writes."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from scripts import figure3


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_picture(path: Path) -> bool:
    return (
        path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        and path.with_suffix(".pdf").read_bytes()[:5] == b"%PDF-"
    )


def f(theta: np.ndarray) -> np.ndarray:
    return 0.5 * theta * np.sin(3 * theta) + 1


def slope(theta: float) -> float:
    return 0.5 * math.sin(3 * theta) + 1.5 * theta * math.cos(3 * theta)


def definition_1(theta: float) -> float:
    """Return Ŝ by Definition 1 as the paper writes it."""
    ends = []
    for sign in (1, -1):
        at = theta
        for _ in range(8):
            at += sign * 0.1 / 8 * np.sign(slope(at))
        ends.append(f(np.array(at)))
    return float(ends[0] - ends[1])


def test_figure_3_has_the_measures_of_brute_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thetas = [0.0, 0.3, 0.6762526, 1.0, 1.64, 2.0, 2.66, 3.0]
    assert figure3.main(["--output", str(tmp_path / "new")], thetas) == 0
    assert "0.300000  1.117499  0.032543  0.129944  0.129944" in capsys.readouterr().out
    written = rows(tmp_path / "new" / "figure3.csv")
    assert [float(row["theta"]) for row in written] == thetas
    for row in written:
        theta = float(row["theta"])
        ball = f(np.linspace(theta - 0.1, theta + 0.1, 100_001))
        here = f(np.array(theta))
        assert float(row["f"]) == pytest.approx(here, abs=1e-7)
        assert float(row["phi"]) == pytest.approx((ball.max() - here) / (1 + here), abs=1e-6)
        assert float(row["S"]) == pytest.approx(np.ptp(ball), abs=1e-6)
        assert float(row["S_hat"]) == pytest.approx(definition_1(theta), abs=1e-6)
    assert is_picture(tmp_path / "new" / "figure3")
