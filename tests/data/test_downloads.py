"""Downloads from mirrors that work and mirrors that do not: the official file arrives, or nothing does."""

import gzip
import io
import os
import socket
import tarfile
import tempfile
from pathlib import Path

import pytest

from data import files, mnist
from data.base import DataError
from data.files import FileSet
from tests.helpers.data import Serve, assert_one_line, entries, file_set, idx, official

CONTENT = b"the official content" * 1000
# What a mirror does wrong, and what the error says of it.
FAILURES = {
    "cut": "10,000 bytes instead of 20,000",
    "short": "10,000 bytes instead of 20,000",
    "stall": "timed out",
    "endless": "more than 20,000 bytes",
    "chunks": "IncompleteRead",
    "html": "bytes instead of 20,000",
    "loop": "redirect",
    "local": "not allowed",
    "unavailable": "HTTP Error 503",
    "absent": "HTTP Error 404",
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SILENCE", 0.5)


def text(content: bytes, *urls: str) -> FileSet:
    return FileSet("ptb", "folder", (official("a.txt", content, *urls),), "pydoc")


def tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return packed.getvalue()


def archived(packed: bytes, url: str) -> FileSet:
    archive = official("packed.tar.gz", packed, url)
    return FileSet("cifar10", "folder", (official("a", b"first"),), "digits", archive)


# Mirrors


@pytest.mark.parametrize("way", FAILURES)
def test_a_mirror_that_fails_leaves_nothing(way: str, tmp_path: Path, serve: Serve) -> None:
    mirror = serve({"a.txt": CONTENT})
    with pytest.raises(DataError) as refused:
        text(CONTENT, f"{mirror.url}/{way}/a.txt").read(tmp_path, download=True)
    assert_one_line(refused.value, "ptb: a.txt missing in", "127.0.0.1: ", FAILURES[way], "dataset=pydoc")
    assert mirror.requests
    assert entries(tmp_path) == []


@pytest.mark.parametrize("way", FAILURES)
def test_the_second_mirror_is_used_when_the_first_one_fails(way: str, tmp_path: Path, serve: Serve) -> None:
    first, second = serve({"a.txt": CONTENT}), serve({"a.txt": CONTENT})
    source = text(CONTENT, f"{first.url}/{way}/a.txt", f"{second.url}/good/a.txt")
    assert source.read(tmp_path, download=True) == {"a.txt": CONTENT}
    assert first.requests
    assert second.requests == ["/good/a.txt"]
    assert entries(tmp_path) == ["folder/a.txt"]


def test_a_redirect_is_followed(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({"a.txt": CONTENT})
    source = text(CONTENT, f"{mirror.url}/redirect/a.txt", f"{mirror.url}/unused/a.txt")
    assert source.read(tmp_path, download=True) == {"a.txt": CONTENT}
    assert mirror.requests == ["/redirect/a.txt", "/good/a.txt"]


def test_a_wrong_checksum_is_refused(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({"a.txt": CONTENT[:-1] + b"T"})
    with pytest.raises(DataError) as refused:
        text(CONTENT, f"{mirror.url}/good/a.txt").read(tmp_path, download=True)
    assert_one_line(refused.value, "127.0.0.1: not the official file (its sha256 differs)")
    assert entries(tmp_path) == []


def test_all_mirrors_that_fail_are_named(tmp_path: Path, serve: Serve) -> None:
    url = serve({"a.txt": CONTENT}).url
    urls = [f"{url}/{way}/a.txt" for way in ("cut", "unavailable", "absent")]
    with pytest.raises(DataError) as refused:
        text(CONTENT, *urls).read(tmp_path, download=True)
    assert_one_line(refused.value, *(FAILURES[way] for way in ("cut", "unavailable", "absent")))
    assert str(refused.value).count("127.0.0.1: ") == 3


def test_an_endless_answer_is_not_read_to_its_end(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({})
    with pytest.raises(DataError, match="more than 20,000 bytes"):
        text(CONTENT, f"{mirror.url}/endless/a.txt").read(tmp_path, download=True)
    assert mirror.closing.wait(10)  # the connection was closed
    assert mirror.sent < 1 << 25


def test_a_silent_mirror_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(DataError) as refused:
            text(CONTENT, url).read(tmp_path, download=True)
    assert_one_line(refused.value, "ptb: a.txt missing in", "timed out")
    assert socket.getdefaulttimeout() is None
    assert entries(tmp_path) == []


def test_a_mirror_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError) as refused:
        text(CONTENT, f"http://127.0.0.1:{port}/a.txt").read(tmp_path, download=True)
    assert_one_line(refused.value, "127.0.0.1: ", "refused")


def test_the_folder_for_temporary_files_is_not_used(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on another disk, from which a file cannot be renamed into place."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not used"))
    mirror = serve({"a.txt": CONTENT})
    source = FileSet("ptb", "some/folder", text(CONTENT, f"{mirror.url}/good/a.txt").files, "pydoc")
    assert source.read(tmp_path, download=True) == {"a.txt": CONTENT}
    assert entries(tmp_path) == ["some/folder/a.txt"]


# The disk


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path, serve: Serve) -> None:
    large = os.urandom(2 << 20)
    first, second = serve({"a.txt": large}), serve({"a.txt": large})
    source = text(large, f"{first.url}/good/a.txt", f"{second.url}/good/a.txt")
    with pytest.raises(DataError) as refused:
        source.read(small_disk, download=True)
    assert_one_line(refused.value, f"ptb: a.txt missing in {small_disk}", "No space left on device")
    assert second.requests == []  # another mirror does not help
    assert entries(small_disk) == []


def test_a_disk_that_fills_while_an_archive_is_unpacked_leaves_nothing(
    small_disk: Path, serve: Serve
) -> None:
    large = bytes(2 << 20)  # packs well
    packed = tar({"folder/a": large})
    mirror = serve({"packed.tar.gz": packed})
    archive = official("packed.tar.gz", packed, f"{mirror.url}/good/packed.tar.gz")
    source = FileSet("cifar10", "folder", (official("a", large),), "digits", archive)
    with pytest.raises(DataError) as refused:
        source.read(small_disk, download=True)
    assert_one_line(refused.value, f"cifar10: a missing in {small_disk}", "No space left on device")
    assert entries(small_disk) == []


def test_files_that_arrived_whole_are_kept_when_the_disk_fills(small_disk: Path, serve: Serve) -> None:
    small, large = os.urandom(1000), os.urandom(2 << 20)
    mirror = serve({"a": small, "b": large})
    wanted = (official("a", small, f"{mirror.url}/good/a"), official("b", large, f"{mirror.url}/good/b"))
    with pytest.raises(DataError, match="No space left on device"):
        FileSet("ptb", "folder", wanted, "pydoc").read(small_disk, download=True)
    assert entries(small_disk) == ["folder/a"]
    assert (small_disk / "folder" / "a").read_bytes() == small


# Archives


def test_an_archive_gives_only_what_is_missing(tmp_path: Path, serve: Serve) -> None:
    packed = tar(
        {"folder/a": b"first", "folder/b": b"second", "../outside": b"evil", "folder/extra": b"unasked"},
        {"folder/link": "/etc/passwd"},
    )
    mirror = serve({"packed.tar.gz": packed})
    root = tmp_path / "root"
    archive = official("packed.tar.gz", packed, f"{mirror.url}/good/packed.tar.gz")
    source = file_set(root, "cifar10", "folder", {"a": b"first", "b": b"second"}, archive=archive)
    (root / "folder" / "b").unlink()
    before = (root / "folder" / "a").stat().st_mtime_ns
    assert source.read(root, download=True) == {"a": b"first", "b": b"second"}
    assert entries(tmp_path) == ["root/folder/a", "root/folder/b"]
    assert (root / "folder" / "a").stat().st_mtime_ns == before


@pytest.mark.parametrize("links", [{}, {"folder/a": "/etc/passwd"}, {"folder/a": "../../../../etc/passwd"}])
def test_an_archive_without_the_file_is_refused(links: dict[str, str], tmp_path: Path, serve: Serve) -> None:
    """A link in its place is never followed, inside the archive or out of it."""
    packed = tar({"folder/b": b"other"}, links)
    mirror = serve({"packed.tar.gz": packed})
    with pytest.raises(DataError) as refused:
        archived(packed, f"{mirror.url}/good/packed.tar.gz").read(tmp_path, download=True)
    assert_one_line(refused.value, "cifar10: a missing in")
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "packed",
    [
        b"not an archive",
        b"",
        tar({"folder/a": os.urandom(100_000)})[:50_000],
        gzip.compress(b"not a tar file", mtime=0),
    ],
    ids=["text", "empty", "truncated", "gzip"],
)
def test_what_is_no_archive_is_refused(packed: bytes, tmp_path: Path, serve: Serve) -> None:
    mirror = serve({"packed.tar.gz": packed})
    with pytest.raises(DataError) as refused:
        archived(packed, f"{mirror.url}/good/packed.tar.gz").read(tmp_path, download=True)
    assert_one_line(refused.value, "cifar10: a missing in")
    assert entries(tmp_path) == []


# MNIST


def mnist_sets(root: Path, url: str) -> tuple[dict[str, bytes], FileSet]:
    """Return small MNIST files, unpacked, and the set of the packed ones, which a mirror serves."""
    contents = {
        "train-images-idx3-ubyte": idx((3, 2, 2), bytes(range(12))),
        "train-labels-idx1-ubyte": idx((3,), bytes([2, 0, 1])),
        "t10k-images-idx3-ubyte": idx((1, 2, 2), bytes(range(4))),
        "t10k-labels-idx1-ubyte": idx((1,), bytes([1])),
    }
    packed = {f"{name}.gz": gzip.compress(part, mtime=0) for name, part in contents.items()}
    wanted = tuple(official(name, part, f"{url}/good/{name}") for name, part in packed.items())
    plain = FileSet("mnist", "raw", tuple(official(*item) for item in contents.items()), "digits")
    return contents, FileSet("mnist", "raw", wanted, "digits", alternative=plain)


def test_files_of_mnist_that_were_unpacked_by_hand_are_accepted(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve({})
    contents, packed = mnist_sets(tmp_path, mirror.url)
    (tmp_path / "raw").mkdir()
    for name, content in contents.items():
        (tmp_path / "raw" / name).write_bytes(content)
    monkeypatch.setattr(mnist, "FILES", packed)
    assert mnist.read(tmp_path, download=True).train.flatten().tolist() == list(range(12))
    assert mirror.requests == []


def test_files_of_mnist_of_which_some_were_unpacked_are_completed(tmp_path: Path, serve: Serve) -> None:
    contents, _ = mnist_sets(tmp_path, "")
    packed = {f"{name}.gz": gzip.compress(part, mtime=0) for name, part in contents.items()}
    mirror = serve(packed)
    _, wanted = mnist_sets(tmp_path, mirror.url)
    (tmp_path / "raw").mkdir()
    for number, name in enumerate(contents):
        if number < 2:
            (tmp_path / "raw" / name).write_bytes(contents[name])
        else:
            (tmp_path / "raw" / f"{name}.gz").write_bytes(packed[f"{name}.gz"])
    assert wanted.read(tmp_path, download=True) == packed
    assert len(mirror.requests) == 2


def test_a_damaged_file_of_mnist_that_was_unpacked_is_named(tmp_path: Path) -> None:
    contents, packed = mnist_sets(tmp_path, "")
    (tmp_path / "raw").mkdir()
    for name, content in contents.items():
        (tmp_path / "raw" / name).write_bytes(content)
    damaged = tmp_path / "raw" / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError) as refused:
        packed.read(tmp_path, download=True)
    assert_one_line(refused.value, f"mnist: {damaged} is not the official file (19 bytes instead of 20)")
