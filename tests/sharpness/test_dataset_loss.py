"""The loss over a data set as one function of the parameters: value, gradient, and no trace."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, TensorDataset

from salr.sharpness import AscentDescent, DatasetLoss, hessian_trace

INPUTS = torch.randn(23, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(23) % 3
Batches = list[tuple[Tensor, Tensor]]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)
    ).double()
    layers(INPUTS)  # gives the running statistics values of their own
    return layers


def in_batches(size: int) -> Batches:
    return list(zip(INPUTS.split(size), TARGETS.split(size), strict=True))


def one_line(pattern: str) -> str:
    """A pattern for a message that is one line."""
    return rf"\A[^\n]*{pattern}[^\n]*\Z"


def gradient(model: nn.Module, closure: Callable[[], Tensor]) -> list[Tensor]:
    model.zero_grad()
    closure()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def state(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()] + [torch.get_rng_state()]


SOURCES: dict[str, Callable[[], Iterable | Callable[[], Iterable]]] = {
    "a list, the last batch smaller": lambda: in_batches(5),
    "a shuffled loader": lambda: DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=7, shuffle=True),
    "a function": lambda: lambda: iter(in_batches(9)),
    "batches with more in them": lambda: [(x, y, False) for x, y in in_batches(4)],
}


@pytest.mark.parametrize("source", SOURCES)
def test_batches_give_the_mean_and_gradient_of_all_examples(source: str) -> None:
    model, loss = network(), nn.CrossEntropyLoss()
    whole = loss(model.eval()(INPUTS), TARGETS)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    closure = DatasetLoss(model, loss, SOURCES[source]())
    assert closure.targets == 23
    torch.testing.assert_close(closure(), whole.detach())
    torch.testing.assert_close(gradient(model, closure), list(expected))


def test_definition_1_over_batches_is_that_of_one_big_batch() -> None:
    model = network().eval()
    parts = DatasetLoss(model, nn.CrossEntropyLoss(), in_batches(5))
    together = AscentDescent(gamma=0.01)(
        lambda: nn.CrossEntropyLoss()(model(INPUTS), TARGETS), model.parameters()
    )
    assert together > 0.01
    torch.testing.assert_close(AscentDescent(gamma=0.01)(parts, model.parameters()), together)


@pytest.mark.parametrize("training", [False, True])
def test_each_mode_is_the_one_asked_for(training: bool) -> None:
    model = network()
    model[3].p = 0.0
    expected = [nn.CrossEntropyLoss()(model.train(training)(x), y).detach() for x, y in in_batches(12)]
    model.train(not training)
    whole = (12 * expected[0] + 11 * expected[1]) / 23
    torch.testing.assert_close(
        DatasetLoss(model, nn.CrossEntropyLoss(), in_batches(12), training=training)(), whole
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("measured", [False, True], ids=["called", "under Definition 1"])
def test_buffers_generators_and_modes_are_untouched(training: bool, measured: bool) -> None:
    model = network().train()
    model[1].eval()
    before = state(model)
    closure = DatasetLoss(model, nn.CrossEntropyLoss(), SOURCES["a shuffled loader"](), training=training)
    if measured:
        AscentDescent()(closure, model.parameters())
    else:
        closure()
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(torch.equal(a, b) for a, b in zip(before, state(model), strict=True))


def test_calls_see_the_same_masks() -> None:
    model = network()
    closure = DatasetLoss(model, nn.CrossEntropyLoss(), in_batches(5), training=True)
    first = closure()
    assert torch.equal(closure(), first)
    torch.rand(1)
    assert not torch.equal(closure(), first)


def test_gradients_add_up_and_are_left_alone_without_grad_mode() -> None:
    model = network()
    closure = DatasetLoss(model, nn.CrossEntropyLoss(), in_batches(5))
    once = gradient(model, closure)
    closure()
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], [2 * g for g in once])
    model.zero_grad()
    with torch.no_grad():
        closure()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("backward", [False, True], ids=["in the loss", "in its gradient"])
def test_modes_come_back_after_an_error(backward: bool) -> None:
    model = network().train()

    def fail(*_: Tensor) -> Tensor:
        raise RuntimeError("no loss today")

    def fail_later(outputs: Tensor, targets: Tensor) -> Tensor:
        outputs.register_hook(fail)
        return outputs.sum()

    closure = DatasetLoss(model, fail_later if backward else fail, in_batches(5))
    with pytest.raises(RuntimeError, match="no loss today") as kept:  # the traceback holds on to the frames
        closure()
    assert model.training, kept
    assert model[3].training


class Carried(nn.Module):
    """A recurrent network that carries its state from batch to batch in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = nn.GRU(6, 4), nn.Linear(4, 3)
        self.register_buffer("state", torch.ones(1, 4))
        self.cudnn: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.cudnn.append(torch.backends.cudnn.enabled)
        y, self.state = self.recurrent(x, self.state.detach())
        return self.out(y)


def test_carried_state_starts_anew_at_each_call_and_cudnn_is_avoided() -> None:
    model = Carried().double()
    closure = DatasetLoss(model, nn.CrossEntropyLoss(), in_batches(5))
    carried = model.state
    first = closure()
    assert torch.equal(closure(), first)
    assert model.state is carried
    torch.testing.assert_close(first, nn.CrossEntropyLoss()(model(INPUTS), TARGETS).detach())
    # cuDNN's recurrent layers have no gradient in eval mode.
    assert model.cudnn[:10] == [False] * 10
    assert torch.backends.cudnn.enabled


def test_what_cannot_be_averaged_is_refused() -> None:
    model, loss = network(), nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match="iterated only once; expected a list, a DataLoader or a function"):
        DatasetLoss(model, loss, iter(in_batches(5)))
    with pytest.raises(ValueError, match="hold no targets; expected at least one"):
        DatasetLoss(model, loss, [])
    with pytest.raises(TypeError, match=r"a batch is Tensor; expected a tuple \(inputs, targets"):
        DatasetLoss(model, loss, [INPUTS])


class OneShot:
    """Iterated once, as a progress bar around a generator."""

    def __init__(self) -> None:
        self.batches = (batch for batch in in_batches(5))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches


def test_batches_that_differ_from_pass_to_pass_are_refused() -> None:
    model, loss, stream = network(), nn.CrossEntropyLoss(), cycle(in_batches(9))  # 9, 9 and 5
    advancing = DatasetLoss(model, loss, lambda: islice(stream, 2))
    with pytest.raises(ValueError, match=one_line("weigh 14, and 18 in the first pass; expected the same")):
        advancing()
    once = DatasetLoss(model, loss, OneShot())
    with pytest.raises(ValueError, match=one_line("weigh 0, and 23 in the first pass; expected the same")):
        once()
    with pytest.raises(ValueError, match=one_line("weigh 0, and 23 in the first pass; expected the same")):
        hessian_trace(DatasetLoss(model, loss, OneShot()), model.parameters(), samples=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_class_weights_may_be_summed_in_another_order(dtype: torch.dtype) -> None:
    weights = torch.tensor([0.1, 1 / 3, 0.7], dtype=dtype)
    data = TensorDataset(INPUTS.to(dtype), TARGETS)
    loader = DataLoader(data, batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(0))
    closure = DatasetLoss(network().to(dtype), nn.CrossEntropyLoss(weights), loader)
    first = closure()
    for _ in range(5):
        torch.testing.assert_close(closure(), first, rtol=1e-2, atol=0)


# What a batch weighs

CLASS_WEIGHTS = torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)
PADDED = torch.where(torch.arange(23) % 4 == 0, -100, TARGETS)
PADDED_WITH_0 = torch.where(torch.arange(23) % 4 == 0, 0, TARGETS)
SOFT = torch.softmax(torch.randn(23, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), 1)
cross_entropy = nn.functional.cross_entropy


class Around(nn.Module):
    """A module around losses: their sum."""

    def __init__(self, *losses: nn.Module) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([loss(outputs, targets) for loss in self.losses]).sum()


class Focal(nn.Module):
    """A loss that states its own reduction, and contains another one's parts."""

    def __init__(self) -> None:
        super().__init__()
        self.reduction, self.each = "mean", nn.CrossEntropyLoss(reduction="none")

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = self.each(outputs, targets)
        return ((1 - (-loss).exp()).square() * loss).mean()


def compiled(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(loss, backend="eager")


def valid(targets: Tensor) -> Tensor:
    return (targets >= 0).sum()


WEIGHED: dict[str, tuple[Callable[..., Tensor], Tensor, Callable[[Tensor], Tensor | float] | None]] = {
    "class weights": (nn.CrossEntropyLoss(CLASS_WEIGHTS), TARGETS, None),
    "class weights and padding": (nn.CrossEntropyLoss(CLASS_WEIGHTS), PADDED, None),
    "another padding": (nn.CrossEntropyLoss(CLASS_WEIGHTS, ignore_index=0), PADDED_WITH_0, None),
    "smoothed labels": (nn.CrossEntropyLoss(CLASS_WEIGHTS, label_smoothing=0.1), PADDED, None),
    "class probabilities": (nn.CrossEntropyLoss(CLASS_WEIGHTS), SOFT, None),
    "nll": (
        lambda x, y: nn.NLLLoss(CLASS_WEIGHTS)(x.log_softmax(1), y),
        TARGETS,
        lambda y: CLASS_WEIGHTS[y].sum(),
    ),
    "the function": (cross_entropy, PADDED, None),
    "a partial": (partial(cross_entropy, weight=CLASS_WEIGHTS, ignore_index=0), PADDED_WITH_0, None),
    "compiled": (compiled(nn.CrossEntropyLoss(ignore_index=0)), PADDED_WITH_0, None),
    "the function, compiled": (compiled(cross_entropy), PADDED, None),
    "a partial, compiled": (compiled(partial(cross_entropy, ignore_index=0)), PADDED_WITH_0, None),
    "a partial of a module": (partial(nn.CrossEntropyLoss(ignore_index=0)), PADDED_WITH_0, None),
    "a module around it": (Around(nn.CrossEntropyLoss(CLASS_WEIGHTS, ignore_index=0)), PADDED_WITH_0, None),
    "a module around it, compiled": (compiled(Around(nn.CrossEntropyLoss())), PADDED, None),
    "two that divide alike": (Around(nn.MSELoss(), nn.L1Loss()), SOFT, None),
    "its own reduction": (Focal(), TARGETS, None),
    "a function of one's own": (lambda x, y: cross_entropy(x, y), PADDED, valid),
}


@pytest.mark.parametrize("name", WEIGHED)
@pytest.mark.parametrize("size", [4, 5])
def test_a_batch_weighs_what_its_loss_divides_by(name: str, size: int) -> None:
    """The mean over batches of unequal weight is that of one big batch."""
    loss, targets, weight = WEIGHED[name]
    model = network().eval()
    batches = list(zip(INPUTS.split(size), targets.split(size), strict=True))
    expected = loss(model(INPUTS), targets).detach()
    torch.testing.assert_close(DatasetLoss(model, loss, batches, weight=weight)(), expected)


def test_a_batch_of_nothing_but_padding_counts_for_nothing() -> None:
    model = network().eval()
    batches = [*in_batches(8), (INPUTS[:5], torch.full((5,), -100))]
    found = DatasetLoss(model, nn.CrossEntropyLoss(), batches)
    torch.testing.assert_close(found(), cross_entropy(model(INPUTS), TARGETS).detach())
    assert all(part.isfinite().all() for part in gradient(model, found))
    with pytest.raises(ValueError, match="hold no targets; expected at least one"):
        DatasetLoss(model, nn.CrossEntropyLoss(), batches[-1:])


def test_a_loss_whose_mean_is_not_known_is_refused() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"negative numbers, which the loss may leave out.*pass weight="):
        DatasetLoss(model, lambda x, y: cross_entropy(x, y), [(INPUTS, PADDED)])
    with pytest.raises(ValueError, match=one_line("contains 2 losses, which may divide by.*weight=")):
        DatasetLoss(model, Around(nn.CrossEntropyLoss(ignore_index=0), nn.MultiMarginLoss()), in_batches(5))
    summed = nn.CrossEntropyLoss(reduction="sum")
    for loss in (summed, partial(cross_entropy, reduction="none"), compiled(summed), Around(summed)):
        with pytest.raises(ValueError, match=r"reduction = '(sum|none)'; expected a mean over the targets"):
            DatasetLoss(model, loss, in_batches(5))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return (self.scale * x).log_softmax(1)


@pytest.mark.parametrize(
    "loss",
    [nn.KLDivLoss(reduction="batchmean"), partial(nn.functional.kl_div, reduction="batchmean")],
    ids=["module", "function"],
)
def test_a_mean_over_rows_weighs_a_batch_by_its_rows(loss: Callable[..., Tensor]) -> None:
    shapes = [(2, 3), (4, 30)]
    batches = [(torch.randn(shape), torch.randn(shape).softmax(1)) for shape in shapes]
    model = Scaled()
    narrow, wide = (loss(model(x), y).detach() for x, y in batches)
    torch.testing.assert_close(DatasetLoss(model, loss, batches)(), (2 * narrow + 4 * wide) / 6)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(6, 3)

    def forward(self, sequences: PackedSequence) -> Tensor:
        return self.recurrent(sequences)[0].data


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, pair: Pair) -> Tensor:
        return self.inner(pair.first + pair.second)


def test_packed_sequences_and_named_tuples_keep_their_kind() -> None:
    packed = pack_sequence([INPUTS[:9], INPUTS[9:14]])
    recurrent = Packed().double()
    expected = cross_entropy(recurrent(packed), TARGETS[:14]).detach()
    found = DatasetLoss(recurrent, nn.CrossEntropyLoss(), [(packed, TARGETS[:14])])
    torch.testing.assert_close(found(), expected)

    model = Summed()
    expected = cross_entropy(model.eval()(Pair(INPUTS, INPUTS)), TARGETS).detach()
    batches = [(Pair(x, x), y) for x, y in in_batches(5)]
    torch.testing.assert_close(DatasetLoss(model, nn.CrossEntropyLoss(), batches)(), expected)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor, scales: list[Tensor]) -> Tensor:
        return self.inner(x) * scales[0]


def test_inputs_may_be_a_mapping_of_keywords() -> None:
    model = Keywords()
    two = torch.full((), 2.0, dtype=torch.float64)
    batches = [({"x": x, "scales": [two]}, y) for x, y in in_batches(5)]
    expected = cross_entropy(2 * model.eval().inner(INPUTS), TARGETS).detach()
    torch.testing.assert_close(DatasetLoss(model, nn.CrossEntropyLoss(), batches)(), expected)
