"""Sixteen processes train the runs of one folder and are killed at random, while a reader aggregates."""

import multiprocessing
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from salr.records import find_runs, load_runs
from tests.helpers.commands import TIMES, left
from tests.helpers.crowd import EPOCHS, small, work

PROCESSES, RUNS, KILLS = 16, 200, 100


class Reader:
    """Aggregates all runs again and again, and keeps every value that it has seen."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.looks = 0
        self.seen: set[tuple[object, ...]] = set()
        self.ended: set[int] = set()

    def look_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.look()

    def look(self) -> None:
        runs, epochs = load_runs(self.results)
        self.looks += 1
        assert set(runs["state"]) <= {"absent", "running", "interrupted", "finished"}
        ended = set(runs["seed"][runs["state"] == "finished"])
        assert ended >= self.ended
        self.ended = ended
        for frame in (runs, epochs):
            timeless = [name for name in frame if name not in TIMES and name != "state"]
            for row in frame[timeless].to_dict("records"):
                kind = "run" if frame is runs else row["epoch"]
                known = [item for item in row.items() if item[1] is not None and item[1] == item[1]]
                self.seen |= {(row["seed"], kind, *item) for item in known}


@pytest.mark.soak
def test_a_crowd_trains_each_run_once(tmp_path: Path) -> None:
    results, notes = tmp_path / "results", tmp_path / "notes"
    notes.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.crowd"])

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=work, args=(results, notes, range(RUNS), 0.15))
        process.start()
        return process

    chance = random.Random(0)
    reader = Reader(results)
    crowd = [start() for _ in range(PROCESSES)]
    kills = 0
    stop = threading.Event()
    with ThreadPoolExecutor() as threads:
        looking = threads.submit(reader.look_until, stop)
        try:
            while any(process.is_alive() for process in crowd):
                time.sleep(chance.uniform(0, 0.3))
                victim = chance.randrange(PROCESSES)
                if kills < KILLS and len(list(notes.iterdir())) > PROCESSES and crowd[victim].is_alive():
                    crowd[victim].kill()
                    crowd[victim].join()
                    crowd[victim] = start()
                    kills += 1
        finally:
            stop.set()
            for process in crowd:
                process.kill()
        looking.result()
    assert [process.exitcode for process in crowd] == [0] * PROCESSES
    print(f"{kills} kills, {reader.looks} looks, {len(reader.seen)} values seen")

    resumed = 0
    for seed in range(RUNS):
        done, has_ended = 0, False
        for line in (notes / str(seed)).read_text().splitlines():
            kind, epoch = line.split()
            assert not has_ended
            if kind == "begun":
                assert int(epoch) in (done, done + 1)
                resumed += int(epoch) > 0
            if kind == "epoch":
                assert int(epoch) == done + 1 or int(epoch) == done + 2
                done = int(epoch)
            has_ended = kind == "ended"
        assert done in (EPOCHS - 1, EPOCHS)
    assert kills >= KILLS / 2
    assert resumed >= KILLS / 10

    final = Reader(results)
    final.look()
    assert final.ended == set(range(RUNS))
    assert reader.seen <= final.seen
    assert len(list(find_runs(results))) == RUNS
    for seed in chance.sample(range(RUNS), 40):
        whole = small(tmp_path / "whole", seed)
        whole.train()
        assert left(small(results, seed).run) == left(whole.run)
    leftovers = [
        path for path in results.rglob("*") if "damaged" in path.name or path.name.endswith("partial")
    ]
    assert leftovers == []
