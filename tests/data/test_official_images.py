"""The real image sets, image by image, held against other readers."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from data.splits import stratified_split
from tests.helpers.data import configuration, load, root_of, standardised


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_what_torchvision_reads(name: str, request: pytest.FixtureRequest) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    root = root_of(name, request)
    theirs = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](root, train=False)
    pixels = torch.from_numpy(theirs.data).permute(0, 3, 1, 2)
    mean, deviation = (values.view(3, 1, 1) for values in channel_of(name))
    ours = list(load(name, root, **configuration(name).load_options()).evaluation("test"))
    assert torch.cat([batch.targets for batch in ours]).tolist() == theirs.targets
    expected = (pixels.double() / 255 - mean) / deviation
    torch.testing.assert_close(
        torch.cat([batch.inputs for batch in ours]).double(), expected, atol=2e-3, rtol=0
    )


def channel_of(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means and deviations in general use, with their four printed digits."""
    known = {
        "mnist": ([0.1307], [0.3081]),
        "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        "cifar100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    }[name]
    mean, deviation = (torch.tensor(values, dtype=torch.float64) for values in known)
    return mean, deviation


def test_mnist_is_what_its_files_say(request: pytest.FixtureRequest) -> None:
    root = root_of("mnist", request)
    folder = root / "MNIST" / "raw"
    if not (folder / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("needs the packed files of MNIST")
    pixels = np.frombuffer(
        gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
    )
    labels = np.frombuffer(
        gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    )
    mean, deviation = channel_of("mnist")
    ours = list(load("mnist", root, **configuration("mnist").load_options()).evaluation("test"))
    assert torch.cat([batch.targets for batch in ours]).tolist() == labels.tolist()
    expected = (torch.from_numpy(pixels.copy()).view(10_000, 1, 28, 28).double() / 255 - mean) / deviation
    torch.testing.assert_close(
        torch.cat([batch.inputs for batch in ours]).double(), expected, atol=2e-3, rtol=0
    )


def test_the_split_of_the_digits_never_changes() -> None:
    """A changed split would silently change every number measured on the digits."""
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    kept, taken = stratified_split(torch.from_numpy(bunch.target), 360)
    assert taken[:12].tolist() == [3, 7, 13, 19, 36, 38, 43, 48, 53, 55, 60, 62]
    assert int(taken.sum()) == 313_341
    digits = load("digits", Path("unused"), batch_size=32)
    for split, indices in (("train", kept), ("test", taken)):
        batches = list(digits.evaluation(split))
        pixels = [
            torch.from_numpy(bunch.images)[part].to(torch.uint8).unsqueeze(1) for part in (indices, kept)
        ]
        torch.testing.assert_close(torch.cat([batch.inputs for batch in batches]), standardised(*pixels))
        assert torch.cat([batch.targets for batch in batches]).tolist() == bunch.target[indices].tolist()
