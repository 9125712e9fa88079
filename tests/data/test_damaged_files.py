"""Files damaged at random: a parser returns data of the right form or raises ``DataError``.

It does so in bounded memory. Official files are checked before they are parsed; here they are not.
"""

import gzip
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import cifar, corpora, mnist
from data.base import DataError
from tests.helpers.data import assert_one_line, bounded, cifar_pickle, idx

NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 40, (1 << 64) - 1]
EDGE = 160  # the bytes at both ends, where the headers are


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Change a file a few times: bits flipped, cut off, removed, inserted or doubled, numbers made large."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        last = len(changed)
        place = draw(
            st.integers(0, last) | st.integers(0, min(EDGE, last)) | st.integers(max(0, last - EDGE), last)
        )
        way = draw(st.sampled_from(["flip", "byte", "cut", "remove", "insert", "double", "number"]))
        length = draw(st.integers(1, 20))
        if way == "flip" and place < last:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif way == "byte" and place < last:
            changed[place] = draw(st.integers(0, 255))
        elif way == "cut":
            del changed[place:]
        elif way == "remove":
            del changed[place : place + length]
        elif way == "insert":
            changed[place:place] = draw(st.binary(min_size=1, max_size=length))
        elif way == "double":
            changed[place:place] = changed[place : place + length]
        elif way == "number":
            size, order = draw(st.sampled_from([(2, "little"), (4, "little"), (4, "big"), (8, "little")]))
            number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * size)
            changed[place : place + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
    return bytes(changed)


def holds_for(examples: int, contents: st.SearchStrategy[bytes], check: Callable[[bytes], None]) -> None:
    """Check a parser with this many contents, or garbage instead."""

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(contents | st.binary(max_size=300))
    def parsed(content: bytes) -> None:
        with bounded():
            try:
                check(content)
            except DataError as error:
                assert_short(error)

    parsed()


def assert_short(error: DataError) -> None:
    assert_one_line(error)
    assert len(str(error)) < 500


thoroughly = pytest.mark.parametrize("examples", [200, pytest.param(3_000, marks=pytest.mark.soak)])

IMAGES, LABELS = idx((3, 4, 5), bytes(range(60))), idx((40,), bytes(range(10)) * 4)


@thoroughly
@pytest.mark.parametrize(
    ("name", "content"), [("a-idx3-ubyte", IMAGES), ("a-idx1-ubyte", LABELS)], ids=["images", "labels"]
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_idx_files(packed: bool, name: str, content: bytes, examples: int) -> None:
    def check(content: bytes) -> None:
        values = mnist.parse_idx(content, f"{name}.gz" if packed else name)
        assert values.dtype == torch.uint8
        assert values.dim() == (3 if "idx3" in name else 1)
        assert values.numel() > 0

    contents = damaged(content)
    if packed:
        contents = damaged(gzip.compress(content, mtime=0)) | contents.map(gzip.compress)
    holds_for(examples, contents, check)


@thoroughly
@pytest.mark.parametrize(("images", "key", "classes"), [(1, b"labels", 10), (3, b"fine_labels", 100)])
def test_cifar_pickles(images: int, key: bytes, classes: int, examples: int) -> None:
    def check(content: bytes) -> None:
        pixels, labels = cifar.parse_batch(content, "cifar: a", key, classes)
        assert pixels.shape == (len(labels), 3, 32, 32)
        assert (pixels.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert ((labels >= 0) & (labels < classes)).all()

    pixels = bytes(index % 253 for index in range(images * cifar.PIXELS))
    holds_for(examples, damaged(cifar_pickle(pixels, [7, 3, 9][:images], key)), check)


@thoroughly
def test_words(examples: int) -> None:
    text = " the cat sat on the <unk> mat \n a naïve rôle \n".encode() * 3

    def check(content: bytes) -> None:
        third = len(content) // 3
        parts = (content, content[third : 2 * third], content[2 * third :])
        corpus = corpora.parse_words(dict(zip(("train", "valid", "test"), parts, strict=True)), "ptb")
        for tokens in corpus[:3]:
            assert tokens.dtype == torch.int64
            assert ((tokens >= 0) & (tokens < corpus.vocabulary)).all()
        assert corpus.train.unique().numel() == corpus.vocabulary

    holds_for(examples, damaged(text), check)


@thoroughly
def test_bytes(examples: int) -> None:
    def check(content: bytes) -> None:
        corpus = corpora.parse_bytes(content, "war_and_peace")
        tokens = torch.cat(corpus[:3])
        assert len(tokens) == len(content)
        assert tokens.unique().tolist() == list(range(corpus.vocabulary))

    holds_for(examples, damaged(b"Well, Prince, so Genoa and Lucca are now just family estates."), check)
