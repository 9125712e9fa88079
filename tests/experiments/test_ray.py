"""A table through Ray on two nodes, one of which is killed, is the sequential table, byte for byte."""

import importlib.util
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salr.records import find_runs
from tests.helpers.commands import until
from tests.helpers.sweeps import LONG, epochs_of, sweep, tables

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None
    or importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None,
    reason="needs hydra-ray-launcher: the extra ray",
)
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give Ray a temporary folder of its own. Pytest's folder is too long for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        for name, value in {**QUIET, "RAY_TMPDIR": folder}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture
def cluster(quiet: None) -> Iterator[Any]:
    """Start a head that runs no jobs, and two nodes with one core each."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            started.add_node(num_cpus=1)
        yield started
    finally:
        started.shutdown()


def children(pid: int) -> set[int]:
    """Return the descendants of a process."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended in the meantime
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def kill(node: Any) -> set[int]:
    """Kill a node and all its workers at once, as a power cut would. Returns the workers."""
    (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
    workers = children(raylet)
    for pid in (raylet, *workers):
        os.kill(pid, signal.SIGKILL)
    return workers


@pytest.mark.timeout(2400)
def test_a_table_whose_node_dies_is_the_sequential_one(tmp_path: Path, cluster: Any) -> None:
    # The nodes have been started in another folder, where these results would be others.
    launching = (
        f"hydra.launcher.ray.init.address='{cluster.address}'",
        "+hydra.launcher.ray.remote.num_cpus=1",
        "results=ray",
    )
    with sweep(tmp_path / "ray", "ray", os.environ, *launching) as run:
        until(lambda: epochs_of(tmp_path / "ray") >= 3)
        # A node may hold a run that has just begun: one that has done epochs is the one to kill.
        running = (each for each in find_runs(tmp_path / "ray") if each.state() == "running")
        working = [each for each in running if each.read_metrics()]
        holders = {int((each.folder / "lock").read_text().split()[1]): each for each in working}
        victim = next(
            node
            for node in cluster.worker_nodes
            if children(node.all_processes["raylet"][0].process.pid) & set(holders)
        )
        killed = [holders[pid] for pid in kill(victim) if pid in holders]
        assert killed
        assert 0 < len(killed[0].read_metrics()) < LONG
        assert run.wait() == 0, run.output.read_text()
        assert "resumed after epoch" in run.output.read_text()
    with sweep(tmp_path / "here", "local") as run:
        assert run.wait() == 0, run.output.read_text()
    assert tables(tmp_path / "ray") == tables(tmp_path / "here")


def test_a_ray_of_its_own_is_started_where_there_is_none(tmp_path: Path, quiet: None) -> None:
    with sweep(tmp_path / "ray", "ray", os.environ, "trainer.epochs=1") as run:
        assert run.wait() == 0, run.output.read_text()
    assert {each.state() for each in find_runs(tmp_path / "ray")} == {"finished"}
