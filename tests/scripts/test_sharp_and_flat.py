"""Which measures tell a sharp minimum from a flat one, and where they do not."""

import csv
import math
from pathlib import Path

import pytest

from scripts.sharp_and_flat import MEASURES, main, networks, quadratics

TOLD = 100.0


def test_at_away_and_near_two_quadratics_of_known_curvature() -> None:
    ratios = quadratics()
    for place in ratios:
        assert ratios[place]["top eigenvalue of ∇²f"] == pytest.approx(TOLD)
        assert ratios[place]["trace of ∇²f"] == pytest.approx(TOLD)
    # Without a gradient there is no direction to step in.
    nothing = [name for name, value in ratios["at the minimum"].items() if math.isnan(value)]
    assert set(MEASURES) - set(nothing) == {
        "top eigenvalue of ∇²f",
        "trace of ∇²f",
        "equation 2, ε = 0.01",
        "equation 1, ε = 0.01",
    }
    # At equal gradients, the gradient's norm and Definition 1 with n1 = n2 tell nothing; the curvature does.
    equal = ratios["away, equal gradient"]
    assert equal["gradient norm"] == pytest.approx(1)
    assert equal["Definition 1, n1 = n2 = 5"] == pytest.approx(1, abs=0.01)
    assert equal["curvature along the gradient"] == pytest.approx(TOLD, rel=1e-6)
    # At equal distance both follow the gradient, which is as many times as large.
    assert ratios["away, equal distance"]["Definition 1, n1 = n2 = 5"] == pytest.approx(TOLD, rel=0.01)


def test_two_networks_at_equal_losses() -> None:
    (place, told), (_, near) = networks((0.05, 0.08), (1e-1, 1e-5)).items()
    assert place == "networks, loss 0.1"
    assert told["top eigenvalue of ∇²f"] > 2
    # Away from the minimum Definition 1 is as large as the gradient says; near it, it follows the curvature.
    assert told["Definition 1, n1 = n2 = 5"] == pytest.approx(told["gradient norm"], rel=0.05)
    assert near["Definition 1, n1 = n2 = 5"] > 1.3 * near["gradient norm"]


def test_the_table_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path)], losses=(1e-1,)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(MEASURES)
    assert any("| none |" in line for line in lines)
    with (tmp_path / "sharp_and_flat.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["measure"] for row in rows] == list(MEASURES)
    assert float(rows[0]["near it"]) == pytest.approx(TOLD)


def test_a_network_that_does_not_get_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.sharp_and_flat.MOST_STEPS", 10)
    with pytest.raises(
        RuntimeError, match=r"\Athe network has not reached a loss of 0\.0001 at the rate 1e-06\Z"
    ):
        networks((1e-6, 0.08), (1e-4,))
