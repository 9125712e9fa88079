"""Sharded parameters (DTensor): measured as whole ones, or refused in one line that says what to do."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    Measure,
    SAMSharpness,
    TopEigenvalue,
    ball_sharpness,
    box_sharpness,
    hessian_eigenvalues,
    hessian_trace,
)

VALUES = torch.tensor([[0.3, -0.2], [0.5, 0.1]], dtype=torch.float64)
CURVATURES = torch.tensor([[1.0, 10.0], [100.0, 3.0]], dtype=torch.float64)


@pytest.fixture
def sharded() -> Iterator[DTensor]:
    """A parameter that is sharded over a group of one process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        yield distribute_tensor(VALUES, mesh, [Shard(0)]).requires_grad_()
    finally:
        distributed.destroy_process_group()


def closure_of(theta: Tensor) -> Callable[[], Tensor]:
    def f() -> Tensor:
        whole = theta.full_tensor() if isinstance(theta, DTensor) else theta
        return (CURVATURES * whole.square()).sum() / 2 + whole.sum().sin()

    return f


@pytest.mark.parametrize("measure", [AscentDescent(), GradientNorm(), DirectionalCurvature(), SAMSharpness()])
def test_sharded_parameters_are_measured_as_whole_ones(measure: Measure, sharded: DTensor) -> None:
    whole = VALUES.clone().requires_grad_()
    found = measure(closure_of(sharded), [sharded])
    assert not isinstance(found, DTensor)
    torch.testing.assert_close(found, measure(closure_of(whole), [whole]))
    assert torch.equal(sharded.full_tensor().detach(), VALUES)


@pytest.mark.parametrize(
    "measure",
    [
        TopEigenvalue(),
        lambda f, at: ball_sharpness(f, at, 0.1),
        box_sharpness,
        hessian_eigenvalues,
        hessian_trace,
    ],
)
def test_measures_that_need_whole_parameters_say_so(
    measure: Callable[[Callable[[], Tensor], list[Tensor]], object], sharded: DTensor
) -> None:
    with pytest.raises(ValueError, match=r"\Aa parameter is a DTensor; this measure needs whole [^\n]*\Z"):
        measure(closure_of(sharded), [sharded])
