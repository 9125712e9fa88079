"""The small study from start to end: killed in each phase and run again, it trains every run once."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.study.cells import SEARCH, Study
from salr.records import Run, State, find_runs
from scripts import study
from tests.helpers.commands import ROOT, run_script, until


def words(results: Path) -> list[str]:
    values = [f"results={results}", "trainer.threads=1", "trainer.workers=1"]
    return ["--preset", "smoke", "--override", *values]


def finished(results: Path) -> list[Run]:
    return [run for run in find_runs(results) if run.state() is State.FINISHED]


def killed_when(condition: Callable[[], bool], results: Path) -> None:
    """Run the study until the condition holds, then kill it."""
    output = results.with_suffix(".txt")
    with output.open("a") as stream:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "study.py"), *words(results)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            until(lambda: condition() or process.poll() is not None)
            time.sleep(0.1)
            assert process.poll() is None, output.read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.timeout(2400)
def test_the_study_is_killed_in_both_phases_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    searched = len(Study("smoke", [f"results={results}"]).search_cells())
    killed_when(lambda: len(finished(results)) >= 3, results)
    assert {path.parent.name for path in results.rglob("seed-*")}
    assert not any(run.read_json("summary.json") and run.seed < 100 for run in find_runs(results))
    killed_when(lambda: len(finished(results)) >= searched + 3, results)
    before = {run.name: (run.folder / "summary.json").stat().st_mtime_ns for run in finished(results)}

    monkeypatch.chdir(ROOT)
    assert run_script(study, words(results)) == 0
    after = {run.name: (run.folder / "summary.json").stat().st_mtime_ns for run in finished(results)}
    assert {name: after[name] for name in before} == before  # what had finished was not trained again
    planned = Study("smoke", [f"results={results}"]).planned()
    assert {cell.part for cell in planned} - {SEARCH} == set(Study("smoke", []).plan.parts)
    assert len(after) == 57

    for path in (results / "study_smoke").glob("*.csv"):
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows
        assert "not measured" not in path.read_text(), path.name
        for row in rows:
            assert row.get("others", "") == "", (path.name, row)
    assert "not measured" not in (results / "study_smoke" / "flatness.md").read_text()
    assert (results / "study_smoke.html").stat().st_size > 20_000
    assert (results / "study_smoke" / "sensitivity.png").exists()
    assert run_script(study, [*words(results), "--plan"]) == 0
