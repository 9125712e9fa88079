"""The upload of offline runs, as far as it goes without a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from salr.training import WandbTracker
from scripts.wandb_sync import main
from tests.helpers.records import ROOT

pytest.importorskip("wandb", reason="needs wandb")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a blank in its name, and two offline runs."""
    folder = tmp_path_factory.mktemp("my results")
    for seed in range(2):
        tracker = WandbTracker("salr", None, "offline", folder / "wandb", ["table1"])
        tracker.start(seed, f"name-{seed}", "cell", f"abc-{seed}", {})
        tracker.log({"epoch": 1, "gradient_calls": 3, "test_accuracy": 1.0})
        tracker.finish({}, "finished")
    return folder


def sync(results: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The script in a process that has no login and no network: a server that nobody is."""
    hidden = ("WANDB_API_KEY", "WANDB_MODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"NETRC": str(home / "netrc"), "HOME": str(home), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "scripts/wandb_sync.py", f"results='{results}'", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def test_the_pinned_wandb_takes_the_arguments(results: Path, tmp_path: Path) -> None:
    done = sync(results, tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Would sync 2 run(s)" in done.stdout + done.stderr


def test_without_a_login_it_is_refused_in_one_line(results: Path, tmp_path: Path) -> None:
    done = sync(results, tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "wandb_sync.py: not logged in to W&B; expected `wandb login` before, or WANDB_API_KEY\n"
    )


def test_a_refusal_of_wandbs_is_a_failure_and_no_usage_error(
    results: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """With the login's check left out, W&B itself says that there is no key."""
    monkeypatch.setattr("scripts.wandb_sync._check_login", lambda: None)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([f"results='{results}'"]) == 1
    error = capfd.readouterr().err
    assert "No API key configured" in error
    assert "Usage" not in error
    assert "W&B has not uploaded everything (exit code 1)" in error


def test_a_folder_without_offline_runs_is_refused(tmp_path: Path) -> None:
    done = sync(tmp_path, tmp_path)
    assert done.returncode == 2
    assert "no offline runs" in done.stderr
    assert done.stderr.count("\n") == 1
