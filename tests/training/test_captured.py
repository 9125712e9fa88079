"""Training from CUDA graphs: the same numbers as without, for every optimizer. On a CPU they are emulated."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from data import load as load_data
from experiments.build import build_parts
from experiments.schema.compose import choices, load
from models import Dropout
from salr.optim import SALR, LocalEntropy, ReleasedSALR, SmoothOut, Wrapper
from salr.records import Run
from salr.sharpness import GradientNorm
from salr.training import Classification, NoTracker, Trainer, trainer
from salr.training.captured import CapturedSteps, can_capture
from salr.training.parts import Progress
from tests.helpers.graphs import emulate
from tests.helpers.trainer import Batch


@pytest.fixture
def graphs(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Each device in turn, with graphs: real ones, or emulated ones on the CPU."""
    if device.type == "cpu":
        emulate(monkeypatch)
    return device


class Stream:
    """The batches of a list, over and over."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches, self._place = batches, -1

    @property
    def batch(self) -> Batch:
        return self._batches[self._place % len(self._batches)]

    def advance(self) -> None:
        self._place += 1


def small(device: torch.device, last: Callable[[], nn.Module] = nn.Identity) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), Dropout(0.5), nn.Linear(8, 3), last()]
    return nn.Sequential(*layers).to(device).train()


def batches(device: torch.device, count: int = 5, size: int = 16) -> list[Batch]:
    return [
        Batch(torch.randn(size, 6, device=device), torch.randint(3, (size,), device=device))
        for _ in range(count)
    ]


def steps_of(
    model: nn.Module, wrap: Callable[[SGD], Any] = SALR, count: int = 1
) -> tuple[CapturedSteps, Any, Progress]:
    optimizer, counts = wrap(SGD(model.parameters(), lr=0.1, fused=True)), Progress()
    return CapturedSteps(optimizer, Classification(), model, count, 100, counts), optimizer, counts


def take(steps: CapturedSteps, stream: Stream, count: int, rate: float = 0.1) -> list[float]:
    losses = []
    steps.begin()
    for _ in range(count):
        stream.advance()
        steps.set_rates([rate])
        losses.append(float(steps(stream)))
    steps.release()
    return losses


class NeverCaptured(CapturedSteps):
    """Run every step as it is, with the rates in tensors all the same."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._failed = True


def train(
    optimizer: str, model: str, folder: Path, device: torch.device, kind: type[CapturedSteps],
    monkeypatch: pytest.MonkeyPatch, epochs: int = 1,
) -> tuple[list[dict[str, Any]], list[Tensor], Trainer]:  # fmt: skip
    """Train on digits. Return the metrics but for times, the weights and buffers, and the trainer."""
    monkeypatch.setattr(trainer, "can_capture", lambda *_: True)
    monkeypatch.setattr(trainer, "CapturedSteps", kind)
    config = load([f"optimizer={optimizer}", f"model={model}", "dataset.batch_size=143"])
    digits = load_data("digits", folder, device, batch_size=143)
    run = Run(folder, "digits", model, optimizer, "0123456789", 0)
    trained = Trainer(
        run, epochs, lambda: build_parts(config, 0, digits, device), {}, NoTracker(), lambda event: None
    )
    assert trained.train() == "finished"
    rows = [
        {name: value for name, value in row.items() if "seconds" not in name} for row in run.read_metrics()
    ]
    return rows, list(trained.parts.model.state_dict().values()), trained


CASES = [("mnistfc", optimizer) for optimizer in choices("optimizer") if "released" not in optimizer]
CASES += [
    (model, optimizer) for model in ("lenet", "resnet18") for optimizer in ("sgd_salr", "entropy_sgd_salr")
]


@pytest.mark.parametrize(("model", "optimizer"), CASES)
def test_a_run_is_bit_for_bit_the_same(
    model: str, optimizer: str, tmp_path: Path, graphs: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, weights, _ = train(optimizer, model, tmp_path / "a", graphs, NeverCaptured, monkeypatch)
    others, theirs, trained = train(optimizer, model, tmp_path / "b", graphs, CapturedSteps, monkeypatch)
    assert trained._captured is not None
    assert trained._captured._captured
    assert others == rows
    for mine, its in zip(weights, theirs, strict=True):
        assert torch.equal(mine, its)


def test_a_run_is_resumed_bit_for_bit(
    tmp_path: Path, graphs: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint between its epochs has the rates, the counts and the median of the replayed steps."""
    whole = train("sgd_salr", "mnistfc", tmp_path / "a", graphs, CapturedSteps, monkeypatch, epochs=3)
    train("sgd_salr", "mnistfc", tmp_path / "b", graphs, CapturedSteps, monkeypatch, epochs=2)
    resumed = train("sgd_salr", "mnistfc", tmp_path / "b", graphs, CapturedSteps, monkeypatch, epochs=3)
    assert resumed[0] == whole[0]
    for mine, its in zip(resumed[1], whole[1], strict=True):
        assert torch.equal(mine, its)
    states = [each[2].parts.optimizer.state_dict()["param_groups"] for each in (whole, resumed)]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda base: base,
        SALR,
        lambda base: SALR(base, GradientNorm()),
        lambda base: SALR(base, interval=3),
        lambda base: SALR(base, shared_noise=False),
        lambda base: SmoothOut(base, 0.01),
    ],
)
def test_a_replay_follows_batch_rate_and_parameters(wrap: Callable[[SGD], Any], graphs: torch.device) -> None:
    ends = []
    for failed in (True, False):
        model = small(graphs)
        steps, optimizer, counts = steps_of(model, wrap)
        steps._failed = failed
        stream = Stream(batches(graphs))
        losses = take(steps, stream, 9)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        losses += take(steps, stream, 8, rate=0.7)
        assert bool(steps._captured) != failed
        assert optimizer.param_groups[0]["lr"] == 0.7
        ends.append([losses, *(value.tolist() for value in model.state_dict().values()), counts])
    assert ends[0] == ends[1]


def test_the_scope_of_the_local_entropy_grows_from_replay_to_replay(graphs: torch.device) -> None:
    ends = []
    for failed in (True, False):
        model = small(graphs)
        steps, optimizer, _ = steps_of(model, lambda base: LocalEntropy(base, scope_growth=0.5), count=5)
        steps._failed = failed
        losses = take(steps, Stream(batches(graphs)), 12)
        ends.append((losses, optimizer.current_scope))
    assert ends[0] == ends[1]


def test_all_evaluations_of_a_measurement_see_the_same_masks(graphs: torch.device) -> None:
    """With fresh masks, the difference of two losses would be mostly noise."""
    model = small(graphs)
    seen: list[Tensor] = []
    model[3].register_forward_hook(lambda module, given, output: seen.append(output == 0))
    steps, _, _ = steps_of(model)
    stream = Stream(batches(graphs))
    take(steps, stream, 4)  # the last one captures an iteration without a measurement
    seen.clear()
    take(steps, stream, 1)  # captures one with a measurement
    captured = list(seen)
    assert len(captured) == 11
    masks = []
    for _ in range(2):
        take(steps, stream, 2)
        masks.append([mask.clone() for mask in captured])
    for one in masks:
        shares = [float((mask == one[0]).float().mean()) for mask in one]
        assert min(shares) > 0.9  # zeros of ReLU may differ, since the parameters do
    assert float((masks[0][0] == masks[1][0]).float().mean()) < 0.9


def test_batches_of_another_shape_are_captured_anew(graphs: torch.device) -> None:
    model = small(graphs)
    steps, _, _ = steps_of(model)
    assert len(set(take(steps, Stream(batches(graphs)), 6))) == 6
    assert len(set(take(steps, Stream(batches(graphs, size=7)), 6))) == 6
    assert steps._captured


class _Reading(nn.Module):
    """A layer whose forward pass reads a value, so that the host waits for the device."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.detach().sum()) > 0 else -x


class _Drawing(nn.Module):
    """A layer whose noise cannot be told from its input."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rrelu(x, training=True)


@pytest.mark.parametrize("layer", [_Reading, _Drawing])
def test_what_cannot_be_captured_is_run_with_one_warning(
    layer: type[nn.Module], graphs: torch.device
) -> None:
    ends = []
    for failed in (True, False):
        model = small(graphs, layer)
        steps, _, counts = steps_of(model)
        steps._failed = failed
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            losses = take(steps, Stream(batches(graphs)), 9)
        said = [str(each.message) for each in caught]
        assert [line.startswith("an iteration cannot be captured") for line in said] == [True] * (not failed)
        ends.append((losses, counts))
    assert ends[0] == ends[1]


class Kept(SALR):
    """A subclass of a user, which may keep anything."""


def test_only_what_a_graph_can_follow_is_captured() -> None:
    model, cuda = small(torch.device("cpu")), torch.device("cuda")
    base, task = SGD(model.parameters(), lr=0.1), Classification()
    assert can_capture(base, task, model, cuda)
    assert can_capture(SALR(base), task, model, cuda)
    assert can_capture(SALR(LocalEntropy(base)), task, model, cuda)
    assert not can_capture(SALR(base), task, model, torch.device("cpu"))
    assert not can_capture(SALR(base), Classification(clip=lambda parameters: None), model, cuda)
    assert not can_capture(Kept(base), task, model, cuda)
    assert not can_capture(ReleasedSALR(base), task, model, cuda)
    assert not can_capture(torch.optim.LBFGS(model.parameters()), task, model, cuda)
    assert not can_capture(SALR(base, type("Own", (GradientNorm,), {})()), task, model, cuda)
    assert not can_capture(Wrapper(base), task, model, cuda)
    model.reset_state = lambda: None
    assert not can_capture(SALR(base), task, model, cuda)


def test_replays_do_not_wait_for_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: an emulated graph cannot wait for one")
    device = torch.device("cuda")
    steps, _, _ = steps_of(small(device))
    stream = Stream(batches(device))
    take(steps, stream, 6)
    steps.begin()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            stream.advance()
            steps.set_rates([0.1])
            steps(stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
