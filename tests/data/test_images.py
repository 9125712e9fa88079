"""The image data sets: batches against plain twins, and the splits."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import data
from data import images as images_module
from data.images import ImageData, Images, channel_statistics
from data.splits import stratified_split
from experiments.schema.dataset import ImageDatasetConfig, check_dataset
from tests.helpers.data import CPU, configuration, generators, load, root_of, standardised
from tests.helpers.devices import no_waiting

NAMES = [name for name in data.names() if isinstance(configuration(name), ImageDatasetConfig)]


def fake(count: int = 60, shape: tuple[int, int, int] = (2, 6, 5), classes: int = 3) -> Images:
    """Return random images that differ in their first pixel."""
    pixels = torch.randint(1, 256, (count + 20, *shape), dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(count + 20, dtype=torch.uint8)
    labels = torch.arange(count + 20) % classes
    return Images(pixels[:count], labels[:count], pixels[count:], labels[count:], classes)


def one_pass(images: ImageData, seed: int = 0, passes: int = 1) -> list[data.Batch]:
    return list(images.batches(*generators(seed), passes))


def identities(images: ImageData, raw: Images, inputs: torch.Tensor) -> list[int]:
    """Return which training images these are, by the first pixel."""
    codes = standardised(
        torch.arange(256.0).view(256, 1, 1, 1).expand(256, raw.train.shape[1], 1, 1), raw.train
    )[:, 0, 0, 0]
    return torch.cdist(inputs[:, 0, 0, :1], codes.view(-1, 1)).argmin(1).tolist()


def same(left: list[data.Batch], right: list[data.Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
        for one, other in zip(left, right, strict=True)
    )


# The contract of every data set


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, request: pytest.FixtureRequest) -> None:
    config = configuration(name)
    check_dataset(config)
    images = load(name, root_of(name, request), **config.load_options())
    assert isinstance(images, ImageData)
    assert images.input_shape == (config.channels, config.height, config.width)
    assert images.outputs == config.classes
    assert images.iterations == config.iterations == config.train_size // config.batch_size

    # Standardised over the training split, which is read in file order, with nothing left out.
    total = squares = torch.zeros(config.channels, dtype=torch.float64)
    labels = []
    for batch in images.evaluation("train"):
        assert batch.inputs.dtype == torch.float32
        assert not batch.restart
        total = total + batch.inputs.double().sum((0, 2, 3))
        squares = squares + batch.inputs.double().square().sum((0, 2, 3))
        labels.append(batch.targets)
    assert {len(part) for part in labels[:-1]} == {500}
    counts = torch.bincount(torch.cat(labels))
    pixels = counts.sum() * config.height * config.width
    assert counts.sum() == config.train_size
    assert len(counts) == config.classes
    torch.testing.assert_close(total / pixels, torch.zeros_like(total), atol=1e-4, rtol=0)
    torch.testing.assert_close(squares / pixels, torch.ones_like(total), atol=1e-4, rtol=0)

    seen = torch.zeros_like(counts)
    batches = 0
    for batch in images.batches(*generators(0)):
        assert batch.inputs.shape == (config.batch_size, *images.input_shape)
        assert batch.targets.dtype == torch.int64
        assert batch.inputs.is_contiguous()
        assert not batch.restart
        seen += torch.bincount(batch.targets, minlength=config.classes)
        batches += 1
    assert batches == images.iterations
    assert (seen <= counts).all()
    assert counts.sum() - seen.sum() == config.train_size % config.batch_size

    with pytest.raises(ValueError, match="'nonsense': expected one of train, test"):
        images.evaluation("nonsense")
    with pytest.raises(ValueError, match="'validation': expected one of train, test"):
        images.evaluation("validation")


# Batches


def test_a_pass_is_a_permutation_and_each_pass_is_another_one() -> None:
    raw = fake()
    images = ImageData(raw, CPU, batch_size=12)
    batches = one_pass(images, passes=2)
    assert len(batches) == 2 * images.iterations == 10
    orders = [
        identities(images, raw, torch.cat([batch.inputs for batch in part]))
        for part in (batches[:5], batches[5:])
    ]
    for order in orders:
        assert sorted(order) == list(range(60))
        assert order != list(range(60))
    assert orders[0] != orders[1]
    targets = torch.cat([batch.targets for batch in batches[:5]])
    assert torch.equal(targets, raw.train_labels[orders[0]])


def test_the_rest_of_a_pass_is_left_out() -> None:
    raw = fake()
    images = ImageData(raw, CPU, batch_size=16)
    seen = identities(images, raw, torch.cat([batch.inputs for batch in one_pass(images)]))
    assert images.iterations == 3
    assert len(seen) == len(set(seen)) == 48


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_batches_depend_only_on_the_generators(augment: str) -> None:
    raw = fake()
    one, other = (ImageData(raw, CPU, batch_size=8, augment=augment) for _ in range(2))
    first = one_pass(one)
    torch.manual_seed(99)  # the global generator is not used
    assert same(first, one_pass(other))
    assert not same(first, one_pass(other, seed=1))
    order, augmentation = generators(0)
    twice = [*one.batches(order, augmentation), *one.batches(order, augmentation)]
    assert same(twice, one_pass(one, passes=2))


def test_the_generators_are_independent_of_each_other() -> None:
    images = ImageData(fake(), CPU, batch_size=8, augment="crop_flip")
    order, _ = generators(0)
    mixed = list(images.batches(order, torch.Generator().manual_seed(77)))
    assert all(
        torch.equal(one.targets, other.targets) for one, other in zip(mixed, one_pass(images), strict=True)
    )
    assert not same(mixed, one_pass(images))


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_preparing_in_blocks_changes_nothing(augment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ImageData(fake(), CPU, batch_size=7, augment=augment)
    whole = one_pass(images)
    for pixels in (1, 3 * 7 * 60):  # one batch at a time; three, with two left over
        monkeypatch.setattr(images_module, "BLOCK_PIXELS", pixels)
        assert same(whole, one_pass(images))


def test_crop_and_flip_as_done_image_by_image() -> None:
    raw = fake()
    images = ImageData(raw, CPU, batch_size=25, augment="crop_flip")
    order, augmentation = generators(3)
    chosen = torch.randperm(60, generator=order)[:50]
    rows, columns = torch.randint(0, 9, (2, 50), generator=augmentation)
    flips = torch.randint(0, 2, (1, 50), generator=augmentation)[0]
    expected = []
    for index, row, column, flip in zip(
        chosen.tolist(), rows.tolist(), columns.tolist(), flips.tolist(), strict=True
    ):
        padded = torch.zeros(2, 14, 13, dtype=torch.uint8)  # black, before standardising
        padded[:, 4:10, 4:9] = raw.train[index]
        crop = padded[:, row : row + 6, column : column + 5]
        expected.append(crop.flip(2) if flip else crop)
    batches = one_pass(images, seed=3)
    torch.testing.assert_close(
        torch.cat([batch.inputs for batch in batches]), standardised(torch.stack(expected), raw.train)
    )
    assert torch.equal(torch.cat([batch.targets for batch in batches]), raw.train_labels[chosen])


def test_every_crop_and_both_directions_occur() -> None:
    """The place of one bright pixel tells which of 9 x 9 crops was taken, and whether it was flipped."""
    pixels = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    pixels[:, :, 4, 3] = 255  # next to the middle, so that a flip is seen
    labels = torch.zeros(2000, dtype=torch.int64)
    images = ImageData(
        Images(pixels, labels, pixels[:1], labels[:1], 1), CPU, batch_size=2000, augment="crop_flip"
    )
    (batch,) = one_pass(images)
    landed = torch.nonzero(batch.inputs > batch.inputs.min())[:, 2:]
    # Without a flip it is in the columns -1 to 7, with one in 1 to 9, of 0 to 8: at -1 and 9 it is not seen.
    assert {tuple(place) for place in landed.tolist()} == {
        (row, column) for row in range(9) for column in range(9)
    }
    assert abs(len(landed) / 2000 - 8 / 9) < 0.03


def test_evaluation_is_in_file_order_and_not_augmented() -> None:
    raw = fake(count=60)
    images = ImageData(raw, CPU, batch_size=8, augment="crop_flip", validation=True)
    kept, taken = stratified_split(raw.train_labels, 6)
    pixels = {"train": raw.train[kept], "validation": raw.train[taken], "test": raw.test}
    labels = {"train": raw.train_labels[kept], "validation": raw.train_labels[taken], "test": raw.test_labels}
    for split in pixels:
        (batch,) = images.evaluation(split)
        torch.testing.assert_close(batch.inputs, standardised(pixels[split], raw.train[kept]))
        assert torch.equal(batch.targets, labels[split])
    with pytest.raises(ValueError, match="expected one of train, validation, test"):
        images.evaluation("valid")


def test_statistics_are_the_definition() -> None:
    pixels = torch.randint(0, 256, (50, 3, 7, 7), dtype=torch.uint8)
    mean, deviation = channel_statistics(pixels)
    torch.testing.assert_close(mean, pixels.double().mean((0, 2, 3)))
    torch.testing.assert_close(deviation, pixels.double().std((0, 2, 3), correction=0))


def test_no_batch_waits_for_the_device(device: torch.device) -> None:
    raw = fake()
    images = ImageData(raw, device, batch_size=8, augment="crop_flip")
    expected = one_pass(ImageData(raw, CPU, batch_size=8, augment="crop_flip"))
    one_pass(images)  # the first pass allocates the pinned memory
    with no_waiting():
        batches = one_pass(images)
    for ours, theirs in zip(batches, expected, strict=True):
        torch.testing.assert_close(ours.inputs.cpu(), theirs.inputs)


# Splits


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.data())
def test_a_stratified_split_keeps_the_proportions(labels: list[int], draw: st.DataObject) -> None:
    size = draw.draw(st.integers(0, len(labels)))
    values = torch.tensor(labels)
    kept, taken = stratified_split(values, size)
    assert len(taken) == size
    assert sorted([*kept.tolist(), *taken.tolist()]) == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist())
    assert taken.tolist() == sorted(taken.tolist())
    for label in set(labels):
        quota = labels.count(label) * size / len(labels)
        assert abs(int((values[taken] == label).sum()) - quota) < 1


def test_the_validation_split_is_a_tenth_that_is_held_out() -> None:
    raw = fake(count=100, classes=4)
    images = ImageData(raw, CPU, batch_size=9, validation=True)
    (held,) = images.evaluation("validation")
    kept, taken = stratified_split(raw.train_labels, 10)
    assert torch.bincount(held.targets).tolist() in ([3, 3, 2, 2], [2, 2, 3, 3], [3, 2, 3, 2], [2, 3, 2, 3])
    assert torch.equal(held.targets, raw.train_labels[taken])
    trained = set(
        identities(
            images, Images(raw.train[kept], *raw[1:]), torch.cat([batch.inputs for batch in one_pass(images)])
        )
    )
    assert images.iterations == 10
    assert trained == set(kept.tolist())
    assert trained.isdisjoint(taken.tolist())


# Wrong options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: expected 1 to 60"),
        ({"batch_size": 61}, "batch_size=61: expected 1 to 60"),
        ({"batch_size": 55, "validation": True}, "batch_size=55: expected 1 to 54"),
        ({"batch_size": 4, "augment": "rotate"}, "augment='rotate': expected one of none, crop_flip"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageData(fake(), CPU, **options)


def test_an_unknown_name_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'\.\./digits': expected one of digits, mnist"):
        data.load("../digits", tmp_path, CPU, batch_size=1)
    with pytest.raises(ValueError, match="expected one of digits, mnist"):
        data.fetch("imagenet", tmp_path)


def test_an_option_of_a_text_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="digits has no option 'sequence_length': expected one of augment, "):
        data.load("digits", tmp_path, CPU, batch_size=1, sequence_length=3)


def test_the_padded_images_are_not_kept_twice() -> None:
    images = ImageData(fake(), CPU, batch_size=8, augment="crop_flip")
    assert images._windows is not None
    assert (
        images._parts["train"][0].untyped_storage().data_ptr() == images._windows.untyped_storage().data_ptr()
    )
    assert torch.equal(
        images._windows[:, :, 0, 0], F.pad(images._parts["train"][0], (4, 4, 4, 4))[:, :, :6, :5]
    )
