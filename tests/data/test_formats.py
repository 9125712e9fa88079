"""The formats of the image files, MNIST's idx and CIFAR's pickles: read if they are right, else refused."""

import gzip
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch

from data import cifar, mnist
from data.base import DataError
from data.files import FileSet
from tests.helpers.data import assert_one_line, bounded, cifar_pickle, file_set, idx

# MNIST's format


def test_idx_files_packed_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "train-images-idx3-ubyte": idx((3, 2, 2), bytes(range(12))),
        "train-labels-idx1-ubyte": idx((3,), bytes([2, 0, 1])),
        "t10k-images-idx3-ubyte": idx((1, 2, 2), bytes(range(4))),
        "t10k-labels-idx1-ubyte": idx((1,), bytes([1])),
    }
    packed = file_set(
        tmp_path / "packed",
        "mnist",
        "raw",
        {f"{name}.gz": gzip.compress(part) for name, part in contents.items()},
    )
    plain = file_set(tmp_path / "plain", "mnist", "raw", contents)
    monkeypatch.setattr(mnist, "FILES", FileSet(**{**packed.__dict__, "alternative": plain}))
    for root in ("packed", "plain"):
        images = mnist.read(tmp_path / root, download=False)
        assert images.train.flatten().tolist() == list(range(12))
        assert images.train.shape == (3, 1, 2, 2)
        assert images.train_labels.tolist() == [2, 0, 1]
        assert images.train_labels.dtype == torch.int64
        assert images.test.shape == (1, 1, 2, 2)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz, .* missing in"):
        mnist.read(tmp_path / "neither", download=False)


PACKED = gzip.compress(idx((3,), b"xyz"), mtime=0)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            b"\0\0\x08\x01" + idx((1, 1, 1), b"x")[4:],
            "a-idx3-ubyte",
            "not an idx file of 3-dimensional bytes (its first bytes are 00000801)",
        ),
        (b"\0\0\x0d\x01" + idx((1,), b"x")[4:], "a-idx1-ubyte", "its first bytes are 00000d01"),
        (b"\0\0\x08\x03\0\0", "a-idx3-ubyte", "not an idx file"),
        (b"", "a-idx1-ubyte", "not an idx file"),
        (idx((4,), b"xyz"), "a-idx1-ubyte", "holds 3 bytes, its header says 4"),
        (idx((2,), b"xyz"), "a-idx1-ubyte", "holds 3 bytes, its header says 2"),
        (idx((2**31, 2**31, 2**31), b"xyz"), "a-idx3-ubyte", "holds 3 bytes"),
        (idx((0, 28, 28), b""), "a-idx3-ubyte", "holds 0 bytes, its header says 0"),
        (PACKED[:-9], "a-idx1-ubyte.gz", "not a whole gzip file"),
        (PACKED[:10] + b"\xff" * 20, "a-idx1-ubyte.gz", "not a whole gzip file"),
        (idx((3,), b"xyz"), "a-idx1-ubyte.gz", "not a whole gzip file"),
    ],
)
def test_what_is_no_idx_file_is_refused(content: bytes, name: str, message: str) -> None:
    with pytest.raises(DataError) as refused:
        mnist.parse_idx(content, name)
    assert_one_line(refused.value, f"mnist: {name} ", message)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_in_bounded_memory() -> None:
    once = gzip.compress(bytes(1 << 24), mtime=0)
    bomb = gzip.compress(idx((1 << 32 - 1,), b""), mtime=0) + once * 200  # 3.4 GB in 3 MB
    assert len(bomb) < 1 << 22
    with bounded(200), pytest.raises(DataError) as refused:
        mnist.parse_idx(bomb, "train-labels-idx1-ubyte.gz")
    assert_one_line(refused.value, "unpacks to more than 47,040,016 bytes")


@pytest.mark.parametrize(
    ("shape", "labels"), [((2, 2, 2), [1]), ((1, 2, 2), [1, 2]), ((2, 2, 2), [3, 10]), ((1, 2, 2), [255])]
)
def test_labels_that_do_not_fit_the_images_are_refused(
    shape: tuple[int, ...], labels: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (idx((1, 2, 2), bytes(4)), idx((1,), bytes([9])))
    wrong = (idx(shape, bytes(4 * shape[0])), idx((len(labels),), bytes(labels)))
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for number, contents in enumerate(((*good, *wrong), (*wrong, *good))):
        files = file_set(tmp_path / str(number), "mnist", "raw", dict(zip(names, contents, strict=True)))
        monkeypatch.setattr(mnist, "FILES", files)
        with pytest.raises(DataError, match="mnist: there is not one label from 0 to 9 for each image"):
            mnist.read(tmp_path / str(number), download=False)


# CIFAR's pickles


class Evil:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def cifar_files(train: bytes, test: bytes) -> dict[str, bytes]:
    return {
        **{f"data_batch_{part}": train for part in range(1, 6)},
        "test_batch": test,
        "batches.meta": b"unused",
    }


def test_pickles_of_the_official_form_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = bytes(index % 251 for index in range(2 * 3072))
    contents = cifar_files(cifar_pickle(pixels, [7, 3]), cifar_pickle(pixels[3072:], [9]))
    monkeypatch.setattr(cifar, "CIFAR10", file_set(tmp_path, "cifar10", "batches", contents))
    images = cifar.read_cifar10(tmp_path, download=False)
    assert images.train.shape == (10, 3, 32, 32)
    assert images.train[8:].flatten().tolist() == list(pixels)
    assert images.train_labels.tolist() == [7, 3] * 5
    assert images.test.flatten().tolist() == list(pixels[3072:])
    assert images.test_labels.tolist() == [9]
    fine = {
        "train": cifar_pickle(pixels, [99, 0], b"fine_labels"),
        "test": cifar_pickle(pixels, [1, 2], b"fine_labels"),
        "meta": b"",
    }
    monkeypatch.setattr(cifar, "CIFAR100", file_set(tmp_path, "cifar100", "fine", fine))
    assert cifar.read_cifar100(tmp_path, download=False).train_labels.tolist() == [99, 0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_not_run(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    evil = pickle.dumps({"data": Evil(marker), "labels": []}, protocol)
    pickle.loads(evil)  # noqa: S301 - to see that there is something to be refused
    assert marker.is_dir()  # an ordinary reader would have run it
    marker.rmdir()

    genuine = cifar_files(cifar_pickle(bytes(3072), [1]), cifar_pickle(bytes(3072), [1]))
    monkeypatch.setattr(cifar, "CIFAR10", file_set(tmp_path, "cifar10", "batches", genuine))
    (tmp_path / "batches" / "data_batch_3").write_bytes(evil)
    with pytest.raises(DataError, match="data_batch_3 is not the official file"):
        cifar.read_cifar10(tmp_path, download=False)
    assert not marker.exists()

    # Even if the checksum is right.
    monkeypatch.setattr(
        cifar, "CIFAR10", file_set(tmp_path, "cifar10", "batches", {**genuine, "test_batch": evil})
    )
    with pytest.raises(DataError) as refused:
        cifar.read_cifar10(tmp_path, download=False)
    assert_one_line(
        refused.value, "cifar10: test_batch is not an official CIFAR pickle: it has the operation "
    )
    assert not marker.exists()


def test_a_name_in_the_official_form_is_not_called(tmp_path: Path) -> None:
    """Only operations that the official files have, but they name and call a function."""
    path = str(tmp_path / "marker").encode()
    call = b"cposix\nmkdir\nT" + struct.pack("<i", len(path)) + path + b"\x85R"
    whole = b"\x80\x02" + call + b"."
    pickle.loads(whole, encoding="utf-8")  # noqa: S301 - to see that there is something to be refused
    assert (tmp_path / "marker").is_dir()
    (tmp_path / "marker").rmdir()
    with pytest.raises(DataError) as refused:
        cifar.parse_batch(whole, "cifar10: test_batch", b"labels", 10)
    assert_one_line(refused.value, "not an official CIFAR pickle: it names posix.mkdir")
    assert not (tmp_path / "marker").exists()


PICKLE = cifar_pickle(bytes(3072), [1])
PROMISES = {
    # an index in the unpickler's table, which it fills up to there
    "memo": PICKLE[:3] + b"r" + struct.pack("<I", 1 << 31) + PICKLE[3:],
    # lengths of strings
    "string": PICKLE[:4] + b"T" + struct.pack("<i", 2**31 - 1) + PICKLE[4:],
    "negative": PICKLE[:4] + b"T" + struct.pack("<i", -1) + PICKLE[4:],
    "long string": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "byte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b".",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    # shapes of arrays: of the empty one that is made first, and of the one that is filled
    "empty array": PICKLE.replace(b"K\x00\x85", b"J" + struct.pack("<i", 2**31 - 1) + b"\x85"),
    "array": PICKLE.replace(b"M\x01\x00M", b"J" + struct.pack("<i", 2**31 - 1) + b"M"),
    # a tuple of a tuple of a tuple ..., whose hash makes Python crash
    "depth": b"\x80\x02}(N" + b"\x85" * 1_000_000 + b"Nu.",
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_pickle_that_promises_gigabytes_is_refused_in_bounded_memory(promise: str) -> None:
    assert PROMISES[promise] != PICKLE
    if promise == "empty array":  # its size is not used
        with bounded():
            pixels, _ = cifar.parse_batch(PROMISES[promise], "cifar10: a", b"labels", 10)
        assert pixels.shape == (1, 3, 32, 32)
        return
    with bounded(), pytest.raises(DataError) as refused:
        cifar.parse_batch(PROMISES[promise], "cifar10: a", b"labels", 10)
    assert_one_line(refused.value, "cifar10: a is not an official CIFAR pickle: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        cifar_pickle(bytes(3072), [1])[:-40],
        cifar_pickle(bytes(3072), [10]),
        cifar_pickle(bytes(3072), [1, 2]),
        cifar_pickle(bytes(3072), [1], key=b"names"),
        cifar_pickle(bytes(3000), [1], width=3000),
        cifar_pickle(bytes(3072), [1]).replace(b"u1", b"i1"),
        cifar_pickle(bytes(3072), [1]).replace(b"u1", b"O8"),
        cifar_pickle(bytes(3072), [1])[:2] + b"cbuiltins\neval\nX\x05\x00\x00\x001 + 1\x85R.",
        cifar_pickle(bytes(3072), [1])[:2] + b"\x82\x01.",  # an extension code
        cifar_pickle(bytes(3072), [1])[:2] + b"Psomewhere\n.",  # a persistent id
        b"\x80\x02F" + b"9x" * 5000 + b"\n.",  # a number that is none
        pickle.dumps([1, 2, 3]),
    ],
)
def test_what_is_no_official_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(DataError) as refused:
        cifar.parse_batch(content, "cifar10: test_batch", b"labels", 10)
    assert_one_line(refused.value, "cifar10: test_batch is not an official CIFAR pickle: ")
    assert len(str(refused.value)) < 300
