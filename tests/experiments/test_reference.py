"""Reference runs: what is kept of a run, what is scrubbed, and that tables are the same."""

import gzip
import json
import socket
from pathlib import Path

from experiments.records import records_of
from experiments.reference import TRACE, export
from experiments.schema import recorded
from salr.records import State, find_runs
from tests.helpers.commands import train

CELL = ["model=lenet", "optimizer=sgd_salr", "dataset.batch_size=240", "trainer.epochs=2", "seeds=[1,2]"]


def test_a_copy_has_the_numbers_and_nothing_of_the_machine(tmp_path: Path) -> None:
    results, reference = tmp_path / "mine", tmp_path / "reference"
    assert train([*CELL, f"results={results}", "trainer.device=cpu"]) == 0
    assert train(["optimizer=sgd", "trainer.epochs=1", f"results={results}"]) == 0
    (unfinished,) = [run for run in find_runs(results) if run.optimizer == "sgd"]
    unfinished.write_status(State.INTERRUPTED, 1)

    copies = export(results, reference)
    assert [(run.optimizer, run.seed) for run in copies] == [("sgd_salr", 1), ("sgd_salr", 2)]
    for run, copy in zip([run for run in find_runs(results) if run.seed], copies, strict=True):
        assert copy.state() is State.FINISHED
        assert copy.read_metrics() == run.read_metrics()
        assert copy.read_json("summary.json") == run.read_json("summary.json")
        config = recorded(copy.read_config() or {})
        config.results = str(reference)
        assert records_of(config) == [copy]  # the key follows from the configuration
        kept = {"config.yaml", "metrics.jsonl", "status.json", "summary.json"}
        assert {path.name for path in copy.folder.iterdir()} == kept | ({TRACE} if run.seed == 1 else set())
        for path in copy.folder.iterdir():
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
            assert str(tmp_path) not in text
            assert "pid" not in text
            assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    trace = json.loads(gzip.decompress((copies[0].folder / TRACE).read_bytes()))
    assert len(trace["lr_factor"]) == 5

    assert export(results, reference) == []
