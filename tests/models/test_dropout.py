"""Our dropout: exact rates, independent entries, the activation's layout, and otherwise torch's behaviour."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from models import Dropout
from models.dropout import cheap_mask

RATES = [0.2, 1 / 3, 0.5, 0.65]


def kept(p: float, *shape: int) -> Tensor:
    """Return 1 for each element that survives, else 0."""
    return (Dropout(p)(torch.ones(shape, dtype=torch.float64)) != 0).double()


def is_like(value: float, expected: float, deviation: float) -> bool:
    return abs(value - expected) < 5 * deviation


@pytest.mark.parametrize("p", RATES)
def test_rate_is_right_in_each_quarter_of_a_word(p: float) -> None:
    mask = kept(p, 1 << 18, 4)
    for quarter in mask.T:  # 64-bit draws without their sign bit would show in one of them
        assert is_like(quarter.mean().item(), 1 - p, (p * (1 - p) / len(quarter)) ** 0.5)


@pytest.mark.parametrize(
    ("p", "expected"), [(0.5, 32768), (0.65, 22938), (0.2, 52429), (1e-7, 65536), (1 - 1e-7, 1)]
)
def test_rate_and_expectation_are_exact_over_all_bit_patterns(
    p: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns = torch.arange(1 << 16).to(torch.int16).view(torch.int64)
    monkeypatch.setattr(Tensor, "random_", lambda words, *bounds: words.copy_(patterns))
    output = Dropout(p)(torch.ones(1 << 16, dtype=torch.float64))
    assert (output != 0).sum() == expected
    assert output.mean().item() == pytest.approx(1, rel=1e-12)


def test_entries_are_independent_of_their_neighbours_and_of_the_last_call() -> None:
    size = 1 << 20
    first, second = (kept(0.5, size) - 0.5 for _ in range(2))
    correlations = [(first[lag:] * first[:-lag]).mean().item() * 4 for lag in (1, 2, 3, 4, 5, 8, 64)]
    correlations.append((first * second).mean().item() * 4)
    assert all(is_like(correlation, 0, size**-0.5) for correlation in correlations)


def test_mask_is_the_plain_one() -> None:
    keep, size = 40_000, 1001
    torch.manual_seed(3)
    mask = cheap_mask(torch.ones(size), keep)
    torch.manual_seed(3)
    words = torch.empty(251, dtype=torch.int64).random_(-(2**63), None).tolist()
    plain = []
    for index in range(size):
        bits = (words[index // 4] >> 16 * (index % 4)) & 0xFFFF
        signed = bits - 65536 if bits >= 32768 else bits
        plain.append(float(signed + 32768 < keep))
    assert mask.tolist() == plain


LAYOUTS = {
    "contiguous": torch.randn(6, 5, 4, 3),
    "channels_last": torch.randn(6, 5, 4, 3).to(memory_format=torch.channels_last),
    "transposed": torch.randn(7, 9).t(),
    "sliced": torch.randn(9, 8)[::2, 1:6],
    "expanded": torch.randn(5, 1).expand(5, 4),
    "scalar": torch.randn(()),
    "empty": torch.randn(0, 3),
}


@pytest.mark.parametrize("x", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_keeps_its_values_and_its_layout(x: Tensor) -> None:
    output = Dropout(0.5)(x)
    assert output.stride() == torch.empty_like(x).stride()
    assert torch.equal(output, torch.where(output != 0, 2 * x, 0))
    assert cheap_mask(x, 32768).stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_same_seed_same_mask_in_every_type(dtype: torch.dtype) -> None:
    x, dropout = torch.ones(1000, dtype=dtype), Dropout(0.5)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert first.dtype == dtype
    torch.manual_seed(1)
    assert torch.equal(dropout(x.double()), first.double())


def test_bfloat16_autocast() -> None:
    network = nn.Sequential(nn.Linear(8, 16), Dropout(0.5), nn.Linear(16, 2))
    with torch.autocast("cpu", torch.bfloat16):
        output = network(torch.randn(4, 8))
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters()
    )


def test_gradients_of_first_and_second_order() -> None:
    dropout = Dropout(0.4)

    def replayed(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return dropout(x).sin()

    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(replayed, x)
    assert torch.autograd.gradgradcheck(replayed, x)


@pytest.mark.parametrize("dropout", [Dropout(0.5).eval(), Dropout(0.0)], ids=["evaluation", "rate 0"])
def test_identity_that_draws_nothing(dropout: Dropout) -> None:
    x, before = torch.randn(10), torch.get_rng_state()
    assert dropout(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_other_devices_have_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def recorded(x: Tensor, p: float, training: bool) -> Tensor:
        calls.append((p, training))
        return x

    monkeypatch.setattr(nn.functional, "dropout", recorded)
    Dropout(0.3)(torch.ones(2, 3, device="meta"))
    Dropout(0.3)(torch.ones(2, 3))
    assert calls == [(0.3, True)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])  # noqa: S301
def test_copies(copied: object) -> None:
    dropout = Dropout(0.3).eval()
    twin = copied(dropout)  # type: ignore[operator]
    assert (twin.p, twin.training, repr(twin)) == (0.3, False, "Dropout(p=0.3)")


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_rate_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"dropout is .*expected a probability in \[0, 1\)"):
        Dropout(p)
