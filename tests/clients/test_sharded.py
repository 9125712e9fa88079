"""Sharded models (``fully_shard``, tensor parallel): two ranks make the run of one process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.optim import SGD

from salr.optim import SALR
from salr.sharpness import AscentDescent, SAMSharpness, ball_sharpness, box_sharpness, hessian_eigenvalues
from tests.helpers.optim import METHODS, Problem, build
from tests.helpers.plain_loop import PlainSALR

RANKS, ITERATIONS = 2, 4
REFUSED = {name for name in METHODS if "eigenvalue" in name}
CASES = [name for name in METHODS if name not in REFUSED]


def whole(values: list[Tensor]) -> list[Tensor]:
    return [
        value.full_tensor() if hasattr(value, "full_tensor") else value.detach().clone() for value in values
    ]


def numbers(optimizer: Any) -> list[Tensor]:
    return [getattr(optimizer, name, torch.ones(())) for name in ("lr_factor", "last_sharpness")]


def share(problem: Problem, rank: int) -> None:
    """Give each rank its half of every batch."""
    problem.batches = [(x.chunk(RANKS)[rank], y.chunk(RANKS)[rank]) for x, y in problem.batches]


def sharded(rank: int) -> Problem:
    problem = Problem(noise=False)
    mesh = init_device_mesh("cpu", (RANKS,))
    fully_shard(problem.model[0], mesh=mesh)  # the last layer is the root's own
    fully_shard(problem.model, mesh=mesh)
    share(problem, rank)
    return problem


def method_run(method: str, rank: int | None) -> list[Tensor]:
    problem = Problem(noise=False) if rank is None else sharded(rank)
    optimizer = build(method, problem)
    torch.manual_seed(rank or 0)
    problem.train(optimizer, ITERATIONS)
    return [*whole(problem.parameters), *numbers(optimizer)]


def accumulated(rank: int) -> list[Tensor]:
    """The loop of the manual: micro-batches whose gradients are not exchanged before the last one."""
    problem = sharded(rank)
    assert isinstance(problem.model, FSDPModule)
    optimizer = SALR(SGD(problem.parameters, lr=0.3), AscentDescent(gamma=0.02))
    for _ in range(ITERATIONS):
        optimizer.measure(problem.loss)
        for micro in range(3):
            problem.model.set_requires_gradient_sync(micro == 2)
            (problem.loss() / 3).backward()
            problem.advance()
        optimizer.step()
        optimizer.zero_grad()
    return [*whole(problem.parameters), *numbers(optimizer)]


def tensor_parallel(rank: int) -> list[Tensor]:
    problem = Problem(noise=False)
    problem.model[0], problem.model[2] = nn.Linear(5, 8).double(), nn.Linear(8, 4).double()
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    parallelize_module(problem.model, init_device_mesh("cpu", (RANKS,)), plan)
    optimizer = SALR(SGD(problem.parameters, lr=0.3), AscentDescent(gamma=0.02))
    problem.train(optimizer, ITERATIONS)
    return [*whole(problem.parameters), *numbers(optimizer)]


def refusals(rank: int) -> list[str]:
    problem = sharded(rank)
    parameters = problem.parameters
    tries: list[Callable[[], object]] = [
        lambda: ball_sharpness(problem.loss, parameters, 0.1),
        lambda: box_sharpness(problem.loss, parameters, 0.1),
        lambda: hessian_eigenvalues(problem.loss, parameters),
        *(lambda name=name: build(name, problem).step(problem.loss) for name in sorted(REFUSED)),
    ]
    flat = FullyShardedDataParallel(nn.Linear(5, 3).double(), device_id=torch.device("cpu"))
    optimizer = SALR(SGD(flat.parameters(), lr=0.1))
    tries.append(lambda: optimizer.step(lambda: flat(problem.batches[0][0]).sum()))
    said = []
    for one in tries:
        try:
            one()
        except ValueError as error:
            said.append(str(error))
        else:
            said.append("")
    return said


def evaluated_between_steps(rank: int | None) -> list[Tensor]:
    """Validation. A forward pass without a backward pass leaves the root's parameters gathered."""
    problem = Problem(noise=False) if rank is None else sharded(rank)
    optimizer = SALR(SGD(problem.parameters, lr=0.3), SAMSharpness(rho=0.1), interval=1)
    values = []
    for _ in range(ITERATIONS):
        optimizer.step(problem.loss)
        values.append(optimizer.last_sharpness)
        with torch.no_grad():
            values.append(problem.loss())
        if rank is not None:
            distributed.all_reduce(values[-1])
            values[-1] /= RANKS
    return values


def gathered(rank: int) -> str:
    """The parameters of a model that is gathered are not those of the shards."""
    problem = sharded(rank)
    with torch.no_grad():
        problem.loss()
    with pytest.raises(ValueError) as refused:
        SAMSharpness()(problem.loss, problem.parameters)
    return str(refused.value)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS
    )
    results: dict[str, Any] = {method: method_run(method, rank) for method in CASES}
    for one in (accumulated, tensor_parallel, refusals, evaluated_between_steps, gathered):
        results[one.__name__] = one(rank)
    torch.save(results, folder / f"rank-{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # on a crowded machine a thread of gloo's may outlive the interpreter, which then aborts


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, (folder,), nprocs=RANKS)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(RANKS)]


def assert_like(one: list[Tensor], both: list[list[Tensor]]) -> None:
    torch.testing.assert_close(both[0], one, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("method", CASES)
def test_a_sharded_model_is_trained_like_a_whole_one(method: str, ranks: list[dict[str, Any]]) -> None:
    assert_like(method_run(method, None), [results[method] for results in ranks])


def test_an_evaluation_between_the_steps_changes_nothing(ranks: list[dict[str, Any]]) -> None:
    assert_like(evaluated_between_steps(None), [results["evaluated_between_steps"] for results in ranks])


def test_micro_batches_without_exchange_are_a_loop_of_one_process(ranks: list[dict[str, Any]]) -> None:
    problem = Problem(noise=False)
    base = SGD(problem.parameters, lr=0.3)
    twin = PlainSALR(base)
    for _ in range(ITERATIONS):
        x, y = problem.batches[problem.place % 3]
        twin.measure(problem.model, lambda model, x=x, y=y: nn.functional.cross_entropy(model(x), y))
        for _ in range(3):
            (problem.loss() / 3).backward()
            problem.advance()
        twin.step()
        base.zero_grad()
    one = [
        *(p.detach().clone() for p in problem.parameters),
        *(torch.tensor(x, dtype=torch.float64) for x in (twin.factor, twin.measured[-1])),
    ]
    assert_like(one, [results["accumulated"] for results in ranks])


def test_tensor_parallel_layers(ranks: list[dict[str, Any]]) -> None:
    problem = Problem(noise=False)
    problem.model[0], problem.model[2] = nn.Linear(5, 8).double(), nn.Linear(8, 4).double()
    optimizer = SALR(SGD(problem.parameters, lr=0.3), AscentDescent(gamma=0.02))
    problem.train(optimizer, ITERATIONS)
    one = [*whole(problem.parameters), *numbers(optimizer)]
    assert_like(one, [results["tensor_parallel"] for results in ranks])


def test_what_needs_whole_parameters_says_so(ranks: list[dict[str, Any]]) -> None:
    *measures, flattened = ranks[0]["refusals"]
    assert len(measures) == 3 + len(REFUSED)
    assert all("DTensor; this measure needs whole parameters" in message for message in measures)
    assert "torch.distributed.fsdp.fully_shard" in flattened
    assert ranks[0]["refusals"] == ranks[1]["refusals"]


def test_gathered_parameters_are_refused(ranks: list[dict[str, Any]]) -> None:
    assert "model.reshard()" in ranks[0]["gathered"]
