"""What every test shares: one thread a process, the same seeds each time, and where the real data are."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# The processes of pytest-xdist already fill the cores.
torch.set_num_threads(1)

# No deadline: cores are shared. Derandomised: a run of the tests is repeatable.
settings.register_profile("salr", deadline=None, derandomize=True)
settings.load_profile("salr")


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Start every test from the same random state, whichever ran before it in this process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what third-party code draws from
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets (`SALR_DATA_DIR`), in torchvision's layout; skips where there is none."""
    folder = os.environ.get("SALR_DATA_DIR")
    if not folder:
        pytest.skip("needs real data: SALR_DATA_DIR is not set")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: SALR_DATA_DIR={folder} is not a folder")
    return Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs a small disk: there is no mount command")
    if mounted.returncode:
        pytest.skip(f"needs a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
