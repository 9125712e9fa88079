"""Two ranks, each with half of a batch, make the run of one process with the whole batch."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.helpers.optim import METHODS, Problem, build

RANKS, ITERATIONS = 2, 4
# Every method, and those that keep a gradient while others are taken also where DDP's gradients are views of
# its buckets.
CASES = [
    *((method, False) for method in METHODS),
    *((method, True) for method in ("salr", "sam", "salr+sam")),
]


def run(method: str, rank: int | None, bucket_view: bool = False) -> list[Tensor]:
    problem = Problem(noise=False)
    optimizer = build(method, problem)
    if rank is not None:
        problem.model = DistributedDataParallel(problem.model, gradient_as_bucket_view=bucket_view)  # type: ignore[assignment]
        problem.batches = [
            (inputs.chunk(RANKS)[rank], targets.chunk(RANKS)[rank]) for inputs, targets in problem.batches
        ]
    torch.manual_seed(rank or 0)  # the data order of a real run is common, the noise need not be
    values = problem.train(optimizer, ITERATIONS)
    return [*values, getattr(optimizer, "lr_factor", torch.ones(()))]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS
    )
    results = {(method, view): run(method, rank, view) for method, view in CASES}
    torch.save(results, folder / f"rank-{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # on a crowded machine a thread of gloo's may outlive the interpreter, which then aborts


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, bool], list[Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, (folder,), nprocs=RANKS)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize(("method", "bucket_view"), CASES)
def test_two_ranks_are_one_process(
    method: str, bucket_view: bool, ranks: list[dict[tuple[str, bool], list[Tensor]]]
) -> None:
    one = run(method, rank=None)
    first, second = (results[method, bucket_view] for results in ranks)
    torch.testing.assert_close(first, one, rtol=1e-9, atol=1e-11)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
