"""The README's lines and the examples run as they are, with torch and the package an example is about."""

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENTS = {"lightning_trainer": "lightning", "transformers_trainer": "transformers"}


def output_of(name: str) -> str:
    code = f"import runpy, sys; runpy.run_path({str(EXAMPLES / name)!r} + '.py', run_name='__main__'); "
    if name not in CLIENTS:
        code += "assert not {'hydra', 'pandas', 'torchvision', 'scipy'} & set(sys.modules)"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    for _ in range(3):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=600,
            cwd=EXAMPLES.parent,
            env=offline,
            check=False,
        )
        # A thread of gloo may outlive the interpreter, which then aborts after all the work is done.
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"ddp"}))
def test_an_example_runs(name: str) -> None:
    if name in CLIENTS and importlib.util.find_spec(CLIENTS[name]) is None:
        pytest.skip("needs the extra `clients`")
    assert re.search(r"\d\.\d+", output_of(name))


def test_all_ranks_of_the_distributed_example_use_one_rate() -> None:
    """Each rank has the loss of its own batch, and all have the same factor."""
    # Two processes write, and both lines may come out as one.
    factors = re.findall(r"factor (\d\.\d{6})", output_of("ddp"))
    assert len(factors) == 2
    assert factors[0] == factors[1] != "1.000000"


def test_the_readmes_lines_run_one_after_another() -> None:
    """They need only a model and its batches."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    library = [block for block in blocks if "salr.records" not in block]  # the others need records
    assert len(library) == 2
    inputs = torch.randn(60, 5)
    targets = (inputs.sum(1) > 0).long()
    names: dict[str, Any] = {
        "model": torch.nn.Linear(5, 2),
        "batches": list(zip(inputs.split(20), targets.split(20), strict=True)),
    }
    before = torch.nn.functional.cross_entropy(names["model"](inputs), targets).item()
    for block in library:
        exec(block, names)
    assert names["loss"]().item() < before
    assert names["sharpness"].item() > 0
    assert names["largest"].shape == (2,)
    assert math.isfinite(names["largest"].sum().item())
