"""The text data sets: streams held against a plain twin, and the real files word by word, byte by byte."""

import sys
import types
from pathlib import Path

import pytest
import torch

import data
from data import corpora
from data.text import Corpus, TextData
from experiments.schema.dataset import TextDatasetConfig, check_dataset
from tests.helpers.data import CPU, assert_one_line, configuration, file_set, generators, load, root_of

NAMES = [name for name in data.names() if isinstance(configuration(name), TextDatasetConfig)]


def fake(train: int = 103, rest: int = 20) -> Corpus:
    """Return a text in which every token is different, so that each tells its place."""
    return Corpus(torch.arange(train), torch.arange(rest), torch.arange(rest) + 5, max(train, rest + 5))


def one_pass(text: TextData, passes: int = 1) -> list[data.Batch]:
    return list(text.batches(*generators(0), passes))


def evaluated(text: TextData, split: str) -> tuple[list[int], list[int]]:
    """Return inputs and targets of the one stream that an evaluation reads."""
    batches = list(text.evaluation(split))
    assert [batch.restart for batch in batches] == [True] + [False] * (len(batches) - 1)
    assert {batch.inputs.shape for batch in batches[:-1]} <= {(1, 1000)}
    assert all(batch.inputs.shape == batch.targets.shape for batch in batches)
    return torch.cat([b.inputs[0] for b in batches]).tolist(), torch.cat(
        [b.targets[0] for b in batches]
    ).tolist()


# The contract of every text


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, request: pytest.FixtureRequest) -> None:
    config = configuration(name)
    assert isinstance(config, TextDatasetConfig)
    check_dataset(config)
    text = load(name, root_of(name, request), **config.load_options())
    assert isinstance(text, TextData)
    assert text.input_shape == ()
    assert text.outputs == config.vocabulary
    expected = (config.train_size // config.batch_size - 1) // config.sequence_length
    assert text.iterations == config.iterations == expected

    inputs, targets = evaluated(text, "train")
    assert len(inputs) == config.train_size - 1
    assert inputs[1:] == targets[:-1]
    for split in ("validation", "test"):
        others, following = evaluated(text, split)
        assert others[1:] == following[:-1]
        assert 0 <= min(others + following) <= max(others + following) < config.vocabulary

    # The parallel training streams are the text from its start, in as many pieces.
    batches = one_pass(text)
    assert len(batches) == text.iterations
    assert {batch.inputs.shape for batch in batches} == {(config.batch_size, config.sequence_length)}
    assert all(batch.inputs.is_contiguous() and batch.inputs.dtype == torch.int64 for batch in batches)
    length = config.train_size // config.batch_size
    steps = text.iterations * config.sequence_length
    for stream in (0, config.batch_size // 2, config.batch_size - 1):
        begin = stream * length
        assert (
            torch.cat([batch.inputs[stream] for batch in batches]).tolist() == inputs[begin : begin + steps]
        )
        assert (
            torch.cat([batch.targets[stream] for batch in batches]).tolist() == targets[begin : begin + steps]
        )

    with pytest.raises(ValueError, match="'valid': expected one of train, validation, test"):
        text.evaluation("valid")


# Streams


@pytest.mark.parametrize(("batch_size", "sequence_length"), [(4, 5), (1, 7), (10, 9), (3, 33)])
def test_streams_as_cut_token_by_token(batch_size: int, sequence_length: int) -> None:
    corpus = fake()
    text = TextData(corpus, CPU, batch_size=batch_size, sequence_length=sequence_length)
    tokens = corpus.train.tolist()
    length = len(tokens) // batch_size
    streams = [tokens[stream * length : (stream + 1) * length] for stream in range(batch_size)]
    expected = []
    step = 0
    while step + sequence_length + 1 <= length:  # a step needs the token after it
        expected.append(
            (
                [stream[step : step + sequence_length] for stream in streams],
                [stream[step + 1 : step + sequence_length + 1] for stream in streams],
                step == 0,
            )
        )
        step += sequence_length
    assert [
        (batch.inputs.tolist(), batch.targets.tolist(), batch.restart) for batch in one_pass(text)
    ] == expected
    assert text.iterations == len(expected)


def test_passes_are_equal_and_each_starts_from_the_beginning() -> None:
    text = TextData(fake(), CPU, batch_size=4, sequence_length=5)
    batches = one_pass(text, passes=3)
    assert [batch.restart for batch in batches] == ([True] + [False] * (text.iterations - 1)) * 3
    for one, other in zip(batches[: text.iterations], batches[-text.iterations :], strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)


def test_the_generators_are_not_used() -> None:
    text = TextData(fake(), CPU, batch_size=4, sequence_length=5)
    used = generators(0)
    assert len(list(text.batches(*used))) == text.iterations
    assert all(
        torch.equal(one.get_state(), other.get_state())
        for one, other in zip(used, generators(0), strict=True)
    )


@pytest.mark.parametrize("length", [2, 1000, 1001, 1002, 2500])
def test_evaluation_counts_every_target_once(length: int) -> None:
    text = TextData(fake(rest=length), CPU, batch_size=4, sequence_length=5)
    inputs, targets = evaluated(text, "validation")
    assert inputs == list(range(length - 1))
    assert targets == list(range(1, length))
    assert evaluated(text, "test")[1][-1] == length - 1 + 5


@pytest.mark.parametrize(
    ("batch_size", "sequence_length", "message"),
    [
        (0, 5, "batch_size=0"),
        (4, 0, "sequence_length=0"),
        (4, 25, "more than the 103 training tokens"),
        (104, 1, "more than"),
    ],
)
def test_impossible_streams_are_refused(batch_size: int, sequence_length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextData(fake(), CPU, batch_size=batch_size, sequence_length=sequence_length)


# Penn Treebank


def test_ptb_is_numbered_by_first_appearance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "ptb.train.txt": b" the cat \n the <unk> sat \n",
        "ptb.valid.txt": b" sat \n",
        "ptb.test.txt": b" cat the \n",
    }
    monkeypatch.setattr(corpora, "PTB", file_set(tmp_path, "ptb", "ptb", contents))
    corpus = corpora.read_ptb(tmp_path, download=False)
    assert corpus.train.tolist() == [0, 1, 2, 0, 3, 4, 2]  # the, cat, <eos>, <unk>, sat
    assert corpus.validation.tolist() == [4, 2]
    assert corpus.test.tolist() == [1, 0, 2]
    assert corpus.vocabulary == 5


def test_ptb_is_the_published_one(request: pytest.FixtureRequest) -> None:
    root = root_of("ptb", request)
    text = load("ptb", root, batch_size=20, sequence_length=35)
    assert text.iterations == 1327  # a pass in the code of Zaremba et al.
    words: dict[int, str] = {}
    for split, name, count, lines in (
        ("train", "train", 929_589, 42_068),
        ("validation", "valid", 73_760, 3_370),
        ("test", "test", 82_430, 3_761),
    ):
        inputs, targets = evaluated(text, split)
        tokens = [inputs[0], *targets]
        content = (root / "ptb" / f"ptb.{name}.txt").read_text(encoding="utf-8")
        expected = [word for line in content.splitlines() for word in [*line.split(), "<eos>"]]
        assert len(tokens) == len(expected) == count
        assert expected.count("<eos>") == lines
        for token, word in zip(tokens, expected, strict=True):
            assert words.setdefault(token, word) == word
    assert len(words) == len(set(words.values())) == text.outputs == 10_000
    assert [words[token] for token in range(3)] == ["aer", "banknote", "berlitz"]
    assert corpora.PTB.files[0].sha256.startswith("fcea919f")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ptb.train.txt", b"the \xff cat\n", "ptb.train.txt is not a text in UTF-8"),
        ("ptb.test.txt", b"\xe2\x82", "ptb.test.txt is not a text in UTF-8"),
        ("ptb.valid.txt", b"dog\n", "ptb.valid.txt has the word 'dog', which the training text lacks"),
        ("ptb.train.txt", b"", "ptb.valid.txt has the word 'cat', which the training text lacks"),
        ("ptb.test.txt", b"x" * 1_000_000, "ptb.test.txt has the word 'xxx"),
    ],
)
def test_words_that_are_wrong_are_refused(name: str, content: bytes, message: str) -> None:
    contents = dict.fromkeys(("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"), b"cat\n")
    with pytest.raises(data.DataError) as refused:
        corpora.parse_words({**contents, name: content}, "ptb")
    assert_one_line(refused.value, f"ptb: {message}")
    assert len(str(refused.value)) < 200


# War and Peace


def test_war_and_peace_is_read_as_bytes(request: pytest.FixtureRequest) -> None:
    root = root_of("war_and_peace", request)
    content = (root / "war_and_peace" / "warpeace_input.txt").read_bytes()
    text = load("war_and_peace", root, batch_size=128, sequence_length=50)
    values = bytes(sorted(set(content)))
    assert text.outputs == len(values) == 87
    read = []
    for split, size in (("train", 2_606_596), ("validation", 325_825), ("test", 325_825)):
        inputs, targets = evaluated(text, split)
        assert len(targets) + 1 == size
        read += [inputs[0], *targets]
    assert bytes(values[token] for token in read) == content


def test_bytes_are_numbered_by_value() -> None:
    corpus = corpora.parse_bytes(b"banana bandana xx bc", "war_and_peace")
    assert corpus.vocabulary == len(set(b"banana bandana xx bc"))
    tokens = torch.cat([corpus.train, corpus.validation, corpus.test]).tolist()
    values = sorted(set(b"banana bandana xx bc"))
    assert bytes(values[token] for token in tokens) == b"banana bandana xx bc"
    assert [len(part) for part in corpus[:3]] == [16, 2, 2]
    with pytest.raises(data.DataError, match="war_and_peace: the text is empty"):
        corpora.parse_bytes(b"", "war_and_peace")


# The text that Python contains


def topics(monkeypatch: pytest.MonkeyPatch, content: dict[str, str]) -> None:
    module = types.ModuleType("pydoc_data.topics")
    module.topics = content  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)


def test_the_text_of_python_is_printable() -> None:
    corpus = corpora.read_pydoc(Path("unused"), download=False)
    tokens = torch.cat([corpus.train, corpus.validation, corpus.test])
    text = bytes((tokens + 32).tolist())
    assert [len(corpus.train), len(corpus.validation), len(corpus.test)] == [320_000, 40_000, 40_000]
    assert text.startswith(b'The "assert" statement')
    assert b"  " not in text
    assert text.count(b" the ") > 1000


def test_the_text_of_python_hardly_depends_on_its_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    topics(monkeypatch, {"b": "two — “words”…\n\n" + "x " * 200_000, "a": "it's\t one °ß"})
    spelt = corpora.read_pydoc(Path("unused"), download=False)
    topics(monkeypatch, {"a": "it’s\n\n one ", "b": 'two  - "words"...' + "\nx" * 200_000})
    again = corpora.read_pydoc(Path("unused"), download=False)
    for one, other in zip(spelt, again, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert bytes((spelt.train[:30] + 32).tolist()) == b'it\'s one two - "words"... x x '


@pytest.mark.parametrize("content", [{"a": "too short"}, {"a": "\x00" * 500_000}])
def test_another_documentation_is_refused(content: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    topics(monkeypatch, content)
    with pytest.raises(data.DataError) as refused:
        data.load("pydoc", "unused", CPU, batch_size=2, sequence_length=2)
    assert_one_line(refused.value, "pydoc: ", "400,000 printable characters")


def test_a_python_without_its_documentation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(data.DataError) as refused:
        data.load("pydoc", "unused", CPU, batch_size=2, sequence_length=2)
    assert_one_line(refused.value, "pydoc: this Python was built without its documentation")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "pydoc needs the option sequence_length: it is missing"),
        ({"sequence_lenght": 2}, "pydoc has no option 'sequence_lenght': expected one of sequence_length"),
    ],
)
def test_a_missing_or_misspelt_option_is_refused(
    options: dict[str, int], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics(monkeypatch, {"a": "x " * 250_000})
    with pytest.raises(ValueError, match=f"^{line}$"):
        data.load("pydoc", "unused", CPU, batch_size=2, **options)
