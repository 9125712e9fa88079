"""The script on Theorems 4 and 5: its descents against a plain twin, the bound, and which runs leave."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from scripts import escape


def f(theta: float) -> float:
    return 0.01 * theta**2 - 0.3 * math.exp(-((theta - 2) ** 2) / 0.08)


def slope(theta: float) -> float:
    return 0.02 * theta + 0.3 * (theta - 2) / 0.04 * math.exp(-((theta - 2) ** 2) / 0.08)


def twin(theta: float, rate: float, salr: bool, steps: int) -> list[float]:
    """Return the iterates of Algorithm 1 around gradient descent, in plain numbers."""
    thetas, seen = [theta], []
    for _ in range(steps):
        factor = 1.0
        if salr:
            down = up = theta
            for _ in range(5):
                down, up = down - 2e-3 * np.sign(slope(down)), up + 2e-3 * np.sign(slope(up))
            seen.append(f(up) - f(down))
            factor = seen[-1] / np.median(seen)
        theta -= rate * factor * slope(theta)
        thetas.append(theta)
    return thetas


@pytest.mark.parametrize("salr", [False, True])
def test_runs_are_those_of_a_plain_twin(salr: bool) -> None:
    start, rate = escape.MINIMUM + escape.EXAMPLE * escape.RIM, 1 / escape.MU
    path = escape.descend(start, rate, salr, steps=200)
    np.testing.assert_allclose(path.thetas, twin(start, rate, salr, len(path.thetas) - 1), rtol=1e-9)
    assert path.left() == salr
    assert max(path.factors) > 2 if salr else set(path.factors) == {1.0}


def test_the_sharp_minimum_and_its_curvature() -> None:
    assert slope(escape.MINIMUM) == pytest.approx(0, abs=1e-12)
    near = np.linspace(escape.MINIMUM - escape.DELTA, escape.MINIMUM + escape.DELTA, 2001)
    curvatures = [(slope(theta + 1e-5) - slope(theta - 1e-5)) / 2e-5 for theta in near]
    assert pytest.approx(min(curvatures), rel=1e-6) == escape.MU


def test_the_ball_is_left_within_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        escape.main(["--output", str(tmp_path / "new")], epsilons=[0.1, 1.0], products=[1.0, 8.0], starts=2)
        == 0
    )
    with (tmp_path / "new" / "escape.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    bounds = [row for row in rows if row["experiment"] == "theorem 4"]
    assert [int(row["bound_steps"]) for row in bounds] == [
        math.ceil(math.log(50) / math.log(1 + e)) for e in (0.1, 0.1, 1, 1)
    ]
    assert all(row["left"] == "1" and int(row["steps"]) <= int(row["bound_steps"]) for row in bounds)

    left = {
        (row["method"], float(row["eta0_mu"])): int(row["left"])
        for row in rows
        if row["experiment"] == "race"
    }
    assert left == {
        ("GD", 1.0): 0,
        ("GD-SALR", 1.0): 2,
        ("GD, started near θ*", 1.0): 0,
        ("GD-SALR, started near θ*", 1.0): 0,
        ("GD", 8.0): 2,
        ("GD-SALR", 8.0): 2,
        ("GD, started near θ*", 8.0): 2,
        ("GD-SALR, started near θ*", 8.0): 2,
    }
    assert (tmp_path / "new" / "escape.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new" / "escape.pdf").read_bytes().startswith(b"%PDF-")
    assert "μ = 6.6862" in capsys.readouterr().out
