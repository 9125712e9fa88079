"""What every test shares: one thread per process, the same seeds, and the folder of the real data."""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.helpers.devices import DEVICES

# The processes of pytest-xdist already fill the cores.
torch.set_num_threads(1)
# On a GPU: the same numbers each time, and float32 that is float32.
torch.backends.cudnn.deterministic = True
torch.backends.cudnn.allow_tf32 = False

# No deadline, since cores are shared. Derandomised, so that a test session can be repeated.
settings.register_profile("salr", deadline=None, derandomize=True)
settings.load_profile("salr")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let processes that tests start react to SIGINT, even if a script runs the tests in the background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Start every test from the same random state, whatever ran before it in this process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what third-party code draws from
    torch.manual_seed(0)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture
def default_device(device: torch.device) -> Iterator[torch.device]:
    """Each device in turn, on which the test makes its tensors and modules."""
    if device.type == "cpu":  # already the default; to set it would only make every call slower
        yield device
        return
    torch.set_default_device(device)
    yield device
    torch.set_default_device(None)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets (``SALR_DATA_DIR``), in torchvision's layout; skips if there is none."""
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
