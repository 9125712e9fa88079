"""The files of the data sets: found, checked, and refused by name if they are not the official ones."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import data
from data import cifar, corpora, mnist
from data.base import DataError
from scripts import download
from tests.helpers.data import CPU, assert_one_line, bounded, entries, file_set

REPOSITORY = Path(__file__).parents[2]

# Missing


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "ptb", "war_and_peace"])
def test_offline_and_absent_is_one_line_that_helps(name: str, tmp_path: Path, offline: None) -> None:
    options = {"sequence_length": 5} if name in ("ptb", "war_and_peace") else {}
    embedded = "pydoc" if options else "digits"
    with pytest.raises(DataError) as refused:
        data.load(name, tmp_path / "root", CPU, batch_size=2, **options)
    assert_one_line(
        refused.value,
        f"{name}: ",
        "missing in",
        str(tmp_path / "root"),
        f"dataset={embedded}",
        "needs no download",
    )
    assert "no route to host" in str(refused.value)
    assert entries(tmp_path) == []
    with pytest.raises(DataError) as refused:
        data.load(name, tmp_path / "root", CPU, batch_size=2, download=False, **options)
    assert_one_line(refused.value, "downloading is off", f"dataset={embedded}")


def test_every_file_has_two_mirrors() -> None:
    for source in (mnist.FILES, cifar.CIFAR10, cifar.CIFAR100, corpora.PTB, corpora.WAR_AND_PEACE):
        for file in (source.archive,) if source.archive else source.files:
            assert len({url.split("/")[2] + url.split("/")[3] for url in file.urls}) >= 2, file.name
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)


def test_what_needs_no_files_needs_no_root(offline: None) -> None:
    assert data.load("digits", "/nowhere/at/all", CPU, batch_size=32).iterations == 44
    assert data.fetch("pydoc", "/nowhere/at/all") is None


def test_a_root_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError) as refused:
        data.load("mnist", tmp_path / "file" / "root", CPU, batch_size=2)
    assert_one_line(refused.value, "Not a directory")
    (tmp_path / "ptb" / "ptb.train.txt").mkdir(parents=True)
    for name in ("ptb.valid.txt", "ptb.test.txt"):
        (tmp_path / "ptb" / name).write_text("")
    with pytest.raises(DataError) as refused:
        data.load("ptb", tmp_path, CPU, batch_size=2, sequence_length=2)
    assert_one_line(refused.value, "ptb: cannot read", str(tmp_path / "ptb" / "ptb.train.txt"))


# Damaged


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda content: content[:-3], "17 bytes instead of 20"),
        (lambda content: b"", "0 bytes instead of 20"),
        (lambda content: content + b"!", "more than 20 bytes"),
        (lambda content: content[:5] + bytes([content[5] ^ 1]) + content[6:], "its sha256 differs"),
    ],
)
def test_a_damaged_file_is_named_and_kept(
    damage: Callable[[bytes], bytes], wrong: str, tmp_path: Path
) -> None:
    source = file_set(tmp_path, "mnist", "MNIST/raw", {"good": b"good", "bad": b"the official content"})
    path = tmp_path / "MNIST/raw/bad"
    path.write_bytes(damage(path.read_bytes()))
    damaged = path.read_bytes()
    with pytest.raises(DataError) as refused:
        source.read(tmp_path, download=True)
    assert_one_line(refused.value, f"mnist: {path} is not the official file ({wrong})", "remove it")
    assert path.read_bytes() == damaged


def test_a_file_larger_than_the_memory_is_not_read_whole(tmp_path: Path) -> None:
    source = file_set(tmp_path, "mnist", "raw", {"a": b"the official content"})
    with (tmp_path / "raw" / "a").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with bounded(), pytest.raises(DataError) as refused:
        source.read(tmp_path, download=True)
    assert_one_line(refused.value, "is not the official file (more than 20 bytes)")


def test_wrong_files_of_the_real_names_are_refused(tmp_path: Path) -> None:
    for source in (mnist.FILES, cifar.CIFAR10, cifar.CIFAR100, corpora.PTB, corpora.WAR_AND_PEACE):
        for file in source.files:
            path = tmp_path / source.folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"something else")
        with pytest.raises(DataError) as refused:
            data.fetch(source.dataset, tmp_path)
        assert_one_line(
            refused.value,
            f"{source.dataset}: {tmp_path / source.folder / source.files[0].name} is not the official",
        )


# The script


def test_the_script_continues_after_a_failure(
    tmp_path: Path, offline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download.main(["mnist", "digits", "ptb", "pydoc", "--root", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["digits: needs no files", "pydoc: needs no files"]
    failures = [line for line in err.splitlines() if not line.startswith("downloading ")]
    assert [line.split(":")[0] for line in failures] == ["mnist", "ptb"]
    assert download.main(["digits"]) == 0


def test_the_script_checks_what_is_there(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not corpora.PTB.present(data_root):
        pytest.skip("needs real data: ptb is not below SALR_DATA_DIR")
    assert download.main(["ptb", "--root", str(data_root)]) == 0
    assert capsys.readouterr().out == f"ptb: complete and checked in {data_root / 'ptb'}\n"


def test_the_script_as_it_is_called(tmp_path: Path) -> None:
    command = [sys.executable, REPOSITORY / "scripts" / "download.py"]
    wrong = subprocess.run([*command, "mnits"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert (
        wrong.stderr
        == f"download.py: no data set mnits: expected some of {', '.join(data.names())}; --help explains\n"
    )
    right = subprocess.run(
        [*command, "digits", "pydoc"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (right.returncode, right.stdout) == (0, "digits: needs no files\npydoc: needs no files\n")
    assert entries(tmp_path) == []
