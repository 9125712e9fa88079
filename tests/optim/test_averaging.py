"""Weight averaging: against a plain twin with its cyclic rate, and the statistics that an average lacks."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from salr.optim import WeightAverage, cyclic_rate, recompute_batch_statistics
from tests.helpers.optim import Flat

pytestmark = pytest.mark.usefixtures("default_device")


def test_a_trajectory_is_the_twins() -> None:
    """The rate falls linearly in cycles of five steps; the parameters at each cycle's end are averaged."""
    fast, slow = Flat(), Flat()
    first, last, cycle = 0.5, 0.1, 5
    optimizer, average = SGD(fast.model.parameters(), lr=1.0), WeightAverage(fast.model)
    theta, ends = slow.theta, []
    for iteration in range(4 * cycle):
        place = iteration % cycle / (cycle - 1)
        optimizer.param_groups[0]["lr"] = cyclic_rate(place, first, last)
        optimizer.zero_grad()
        fast.loss().backward()
        optimizer.step()
        fast.advance()
        theta = theta - (first - place * (first - last)) * slow.gradient_at(theta)
        slow.advance()
        if place == 1:
            average.update()
            ends.append(theta)
            mean = torch.stack(ends).mean(0)
            averaged = torch.cat([parameter.detach().flatten() for parameter in average.model.parameters()])
            torch.testing.assert_close(averaged, mean, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        fast.theta, theta, rtol=1e-9, atol=1e-11
    )  # the run itself does not know of its average


def test_an_average_goes_through_its_state() -> None:
    model = nn.Linear(3, 2)
    average, shown = WeightAverage(model), []
    resumed = WeightAverage(model)
    for turn in range(5):
        with torch.no_grad():
            model.weight.normal_()
        if turn == 2:
            resumed.load_state_dict(average.state_dict())
        for one in [average] if turn < 2 else [average, resumed]:
            one.update()
        shown.append(model.weight.detach().clone())
    torch.testing.assert_close(average.model.weight.detach(), torch.stack(shown).mean(0))
    assert torch.equal(resumed.model.weight, average.model.weight)


def test_the_statistics_of_an_average_are_stale_until_they_are_recomputed() -> None:
    """The mean of two networks normalises by neither's statistics."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    data = torch.randn(40, 3)
    average = WeightAverage(model)
    for _ in range(2):
        with torch.no_grad():
            model[0].weight.normal_()
            model[0].bias.normal_()
        model(data)
        average.update()
    mean = average.model[0](data).mean(0)
    assert not torch.allclose(average.model[1].running_mean, mean, atol=1e-2)
    recompute_batch_statistics(average.model, data.split(20))
    torch.testing.assert_close(average.model[1].running_mean, mean)
    assert int(model[1].num_batches_tracked) == 2  # the source keeps its own


def test_recomputed_statistics_are_those_of_the_data_with_dropout_off() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    model[1].momentum = 0.3
    data = torch.randn(60, 3) * 2 + 1
    model(data * 9)  # what has been recorded before does not count
    recompute_batch_statistics(
        model, ({"x": part} for part in data.split(20)), lambda m, batch: m(batch["x"])
    )
    torch.testing.assert_close(model[1].running_mean, data.mean(0))
    spread = torch.stack([part.var(0) for part in data.split(20)]).mean(0)
    torch.testing.assert_close(model[1].running_var, spread)
    assert model[1].momentum == 0.3
    assert model.training
    assert model[0].training


def test_statistics_that_are_not_a_batchs_are_left_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True))
    model(torch.randn(5, 3, 4))
    before = model[1].running_mean.clone()
    recompute_batch_statistics(model, [torch.randn(5, 3, 4)])
    assert torch.equal(model[1].running_mean, before)


def test_modes_and_momenta_come_out_as_they_were_when_a_batch_fails() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).eval()
    model[1].train()
    with pytest.raises(ValueError, match="expected"):
        recompute_batch_statistics(model, [torch.randn(4, 3), torch.randn(())])
    assert model[0].momentum == 0.1
    assert [module.training for module in model.modules()] == [False, False, True]


def test_statistics_are_recomputed_where_there_are_none_without_reading_a_batch() -> None:
    def unread() -> Tensor:
        raise AssertionError

    recompute_batch_statistics(nn.Linear(2, 2), (unread() for _ in range(1)))


def test_a_cycle_is_linear() -> None:
    assert [cyclic_rate(place, 5e-3, 1e-4) for place in (0.0, 0.5, 1.0)] == pytest.approx(
        [5e-3, 2.55e-3, 1e-4]
    )


def test_the_mean_of_half_precision_is_accumulated_in_single() -> None:
    """1 + 1/k · (0.01) is below bfloat16's spacing: a mean in it would stay where it began."""
    model = nn.Linear(4, 1).bfloat16()
    average, shown = WeightAverage(model), []
    resumed = WeightAverage(model)
    for turn in range(300):
        with torch.no_grad():
            model.weight.fill_(1.0 + (turn >= 100))
        shown.append(model.weight.detach().float().clone())
        average.update()
        if turn == 150:
            resumed.load_state_dict(average.state_dict())
        elif turn > 150:
            resumed.update()
    expected = torch.stack(shown).mean(0)
    for one in (average, resumed):
        assert one.model.weight.dtype is torch.bfloat16
        assert torch.equal(one.model.weight, expected.bfloat16())


def test_the_other_buffers_are_the_sources() -> None:
    """Spectral norm's vectors belong to the weights, and nobody recomputes InstanceNorm's statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
        nn.Unflatten(1, (2, 3)),
        nn.InstanceNorm1d(2, track_running_stats=True),
    )
    average = WeightAverage(model)
    for _ in range(50):
        model(torch.randn(8, 6))
    average.update()
    x = torch.randn(8, 6)
    assert torch.equal(average.model[2].running_mean, model[2].running_mean)
    torch.testing.assert_close(average.model.eval()(x), model.eval()(x))
    model.train()(x)  # and they are a copy
    assert not torch.equal(average.model[2].running_mean, model[2].running_mean)


def test_statistics_come_out_as_they_were_when_a_batch_fails() -> None:
    """A last batch of one example has no variance."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model(torch.randn(8, 3))
    before = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        recompute_batch_statistics(model, torch.randn(9, 3).split(4))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))


def test_without_a_batch_the_statistics_stay_and_it_is_said() -> None:
    layer = nn.BatchNorm1d(1)
    batches = iter([torch.tensor([[1.0], [3.0]])])
    recompute_batch_statistics(layer, batches)
    with pytest.raises(ValueError, match=r"\Abatches holds no batch; expected at least one.*\Z"):
        recompute_batch_statistics(layer, batches)  # it has been read
    assert float(layer.running_mean) == 2
    assert int(layer.num_batches_tracked) == 1


def test_a_layer_that_no_batch_reaches_keeps_its_statistics() -> None:
    model = nn.ModuleDict({"used": nn.BatchNorm1d(1), "other": nn.BatchNorm1d(1)})
    other = model["other"]
    other(torch.tensor([[1.0], [3.0]]))
    before = [buffer.clone() for buffer in other.buffers()]
    recompute_batch_statistics(
        model, [torch.tensor([[4.0], [6.0]])], lambda model, batch: model["used"](batch)
    )
    assert float(model["used"].running_mean) == 5
    assert all(torch.equal(a, b) for a, b in zip(before, other.buffers(), strict=True))


def test_a_buffer_that_modules_share_stays_shared() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(1, 1), nn.Linear(1, 1)
            self.a.register_buffer("count", torch.zeros(1))
            self.b.register_buffer("count", self.a.count)

    average = WeightAverage(Two())
    average.update()
    average.model.a.count.add_(1)
    assert float(average.model.b.count) == 1
    assert float(average._source.a.count) == 0


def test_a_loaded_mean_is_where_its_parameter_is() -> None:
    state = WeightAverage(nn.Linear(2, 1, dtype=torch.bfloat16, device="cpu")).state_dict()
    average = WeightAverage(nn.Linear(2, 1, dtype=torch.bfloat16, device="meta"))
    average.load_state_dict(state)
    assert {mean.device.type for mean in average._precise.values()} == {"meta"}
    average.update()


def test_a_frozen_parameter_of_whole_numbers_is_copied() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.steps = nn.Parameter(torch.tensor([3]), requires_grad=False)
    average = WeightAverage(model)
    for value in (1.0, 4.0):
        nn.init.constant_(model.weight, value)
        average.update()
    assert (float(average.model.weight.detach()), average.model.steps.tolist()) == (2.5, [3])


def test_an_average_can_be_copied_and_pickled() -> None:
    model = nn.Linear(1, 1)
    average = WeightAverage(model)
    average.update()
    pickled = pickle.loads(pickle.dumps(average))  # noqa: S301 - our own bytes
    for other in (copy.deepcopy(average), pickled):
        other.update()
        assert torch.equal(other.model.weight, average.model.weight)
