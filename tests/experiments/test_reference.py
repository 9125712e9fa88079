"""Reference runs: what is kept of a run, what is scrubbed, and that they make the committed tables again."""

import gzip
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from experiments.cli import ExitCode
from experiments.records import records_of
from experiments.reference import TRACE, export, measured_study, measured_tables
from experiments.schema import recorded
from salr.records import RecordError, Run, State, find_runs
from tests.helpers.commands import ROOT, train

CELL = ["model=lenet", "optimizer=sgd_salr", "dataset.batch_size=240", "trainer.epochs=2", "seeds=[1,2]"]
REFERENCE = ROOT / "results" / "reference"
KEPT = tuple(find_runs(REFERENCE))
OF_TABLES = ("report.html", "tables", "figures/claims.*", "figures/*_table*")
OF_THE_STUDY = ("study.html", "study")
"""What ``make reference`` makes, as patterns below the reference folder."""


def texts(run: Run) -> dict[str, str]:
    """Return the content of a run's files, uncompressed."""
    return {
        path.name: (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        for path in run.folder.iterdir()
        for data in [path.read_bytes()]
    }


def check_kept(run: Run) -> None:
    """Assert that a record is whole, that its key is its configuration's, and that it names no machine."""
    assert run.state().settled
    config = recorded(run.read_config() or {})
    config.results = str(run.results)
    assert run in records_of(config)  # the key follows from the configuration
    for name, text in texts(run).items():
        assert not re.search(r"\b(pid|host|hostname)\b", text), (run.name, name)
        assert not re.search(r"""(^|[\s"'=:])/\w""", text), (run.name, name)  # an absolute path


def test_a_copy_has_the_numbers_and_nothing_of_the_machine(tmp_path: Path) -> None:
    results, reference = tmp_path / "mine", tmp_path / "reference"
    assert train([*CELL, f"results={results}", "trainer.device=cpu"]) == 0
    assert train(["optimizer=sgd", "trainer.epochs=1", f"results={results}"]) == 0
    (unfinished,) = [run for run in find_runs(results) if run.optimizer == "sgd"]
    unfinished.write_status(State.INTERRUPTED, 1)

    copies = export(results, reference)
    assert [(run.optimizer, run.seed) for run in copies] == [("sgd_salr", 1), ("sgd_salr", 2)]
    for run, copy in zip([run for run in find_runs(results) if run.seed], copies, strict=True):
        check_kept(copy)
        assert copy.read_metrics() == run.read_metrics()
        assert copy.read_json("summary.json") == run.read_json("summary.json")
        kept = {"config.yaml", "metrics.jsonl", "status.json", "summary.json"}
        assert texts(copy).keys() == kept | ({TRACE} if run.seed == 1 else set())
        for text in texts(copy).values():
            assert str(tmp_path) not in text
            assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    trace = json.loads(gzip.decompress((copies[0].folder / TRACE).read_bytes()))
    assert len(trace["lr_factor"]) == 5
    original = next(run for run in find_runs(results) if run.seed == 1).read_json("iterations.json")
    assert original is not None
    np.testing.assert_allclose(trace["lr_factor"], original["lr_factor"], rtol=1e-5)

    assert export(results, reference) == []
    first = next(run for run in find_runs(results) if run.seed == 1)
    first.write_json("sharpness.json", {"sam": 0.5, "measured": {}})
    assert export(results, reference) == copies[:1]
    assert copies[0].read_json("sharpness.json") == {"sam": 0.5, "measured": {}}
    assert export(results, reference) == []


def test_a_diverged_run_is_kept_as_it_ends_a_search_and_counts_in_its_cell(tmp_path: Path) -> None:
    results, reference = tmp_path / "mine", tmp_path / "reference"
    cell = ["optimizer=sgd", "optimizer.base.lr=1e30", "trainer.epochs=1", "seeds=[1]", "trainer.device=cpu"]
    assert train([*cell, f"results={results}"]) == ExitCode.DIVERGED
    (copy,) = export(results, reference)
    assert copy.state() is State.DIVERGED
    check_kept(copy)
    assert texts(copy).keys() == {"config.yaml", "metrics.jsonl", "status.json", "summary.json"}
    assert export(results, reference) == []


def test_a_run_without_a_readable_configuration_is_named(tmp_path: Path) -> None:
    results, reference = tmp_path / "mine", tmp_path / "reference"
    run = Run(results, "digits", "lenet", "sgd", "0123456789", 0)
    run.write_json("summary.json", {"test_accuracy": 97.0})
    run.write_status(State.FINISHED, 1)
    with pytest.raises(RecordError, match=f"{run.folder}: config.yaml is missing or damaged; restore it, or"):
        export(results, reference)
    assert not reference.exists()


@pytest.mark.parametrize("run", KEPT, ids=lambda run: run.name)
def test_a_kept_run_is_whole_and_names_no_machine(run: Run) -> None:
    check_kept(run)
    assert not [path.name for path in run.folder.iterdir() if path.stat().st_size > 200_000]


def test_what_is_kept_stays_small() -> None:
    size = sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file())
    assert size <= 20_000_000


def without_pictures(path: Path) -> str:
    return re.sub(r"data:image/png;base64,[\w+/=]+", "", path.read_text(encoding="utf-8"))


def made(reference: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the files that ``make reference`` makes, relative to the folder."""
    found = [path for pattern in patterns for path in reference.glob(pattern)]
    files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*"))]
    return sorted(file.relative_to(reference) for file in files if file.is_file())


def test_a_fresh_clone_makes_the_committed_tables_figures_and_pages(tmp_path: Path) -> None:
    """Without training, from the kept runs: text byte for byte, and pictures pixel for pixel."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    clone = tmp_path / "results" / "reference"
    # Tables whose runs were not kept stay as they are.
    patterns = [*OF_TABLES] if measured_tables(REFERENCE) else []
    patterns += OF_THE_STUDY if measured_study(REFERENCE) else ()
    expected = made(REFERENCE, patterns)
    assert expected
    for name in made(clone, patterns):
        (clone / name).unlink()
    command = [sys.executable, "-m", "scripts.reference"]  # -m puts the clone first on the path
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert made(clone, patterns) == expected
    for name in expected:
        if name.suffix == ".png":
            ours, theirs = (matplotlib.image.imread(folder / name) for folder in (REFERENCE, clone))
            assert ours.shape == theirs.shape, name
            assert np.abs(ours - theirs).mean() < 0.01, name
        elif name.suffix != ".pdf":
            assert without_pictures(clone / name) == without_pictures(REFERENCE / name), name
