"""The files of the data sets: fetched from a real server, checked, and refused by name where they are not the official ones."""

import io
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.error
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import data
from data import cifar, corpora, files, mnist
from data.base import DataError
from data.files import FileSet
from scripts import download
from tests.helpers.data import CPU, assert_one_line, file_set, official

REPOSITORY = Path(__file__).parents[2]
Serve = Callable[[dict[str, bytes]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve contents by path on this machine; an unknown path is a 404, and `/cut/...` promises more than it sends."""
    servers = []

    def start(contents: dict[str, bytes]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = contents.get(self.path.removeprefix("/cut"))
                self.send_response(404 if content is None else 200)
                content = content or b""
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path.startswith("/cut") else content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, *_: object, **__: object) -> None:
        raise urllib.error.URLError(OSError("no route\nto host"))

    monkeypatch.setattr(files, "download_url_to_file", unreachable)


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


def entries(root: Path) -> list[str]:
    """Everything below `root`, hidden files too."""
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink()
    )


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


# Fetched


def test_the_next_mirror_is_tried_until_one_serves_the_official_file(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The system's folder for temporary files may be on another disk, from which nothing can be renamed into place.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not used"))
    good, other = b"the official content", b"the 0fficial content"
    host = serve({"/good": good, "/other": other})
    wanted = official("text.txt", good, f"{host}/absent", f"{host}/other", f"{host}/cut/good", f"{host}/good")
    source = FileSet("ptb", "some/folder", (wanted,), "pydoc")
    assert source.read(tmp_path, download=True) == {"text.txt": good}
    assert entries(tmp_path) == ["some/folder/text.txt"]


def test_a_silent_mirror_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(DataError) as refused:
            FileSet("ptb", "folder", (official("a", b"first", url),), "pydoc").read(tmp_path, download=True)
    assert_one_line(refused.value, "ptb: a missing in", "timed out")
    assert socket.getdefaulttimeout() is None


def test_no_mirror_with_the_official_file_leaves_nothing(tmp_path: Path, serve: Serve) -> None:
    good = b"the official content" * 1000
    host = serve({"/good": good, "/other": good[1:]})
    source = FileSet(
        "ptb",
        "folder",
        (official("a.txt", good, f"{host}/other", f"{host}/cut/good", f"{host}/absent"),),
        "pydoc",
    )
    with pytest.raises(DataError) as refused:
        source.read(tmp_path, download=True)
    assert_one_line(refused.value, "ptb: a.txt missing in", "127.0.0.1: HTTP Error 404", "dataset=pydoc")
    assert str(refused.value).count("invalid hash value") == 2
    assert entries(tmp_path) == []


def test_an_archive_gives_what_is_missing_and_nothing_else(tmp_path: Path, serve: Serve) -> None:
    packed = tar(
        {"folder/a": b"first", "folder/b": b"second", "../outside": b"evil", "folder/extra": b"unasked"},
        {"folder/link": "/etc/passwd"},
    )
    host = serve({"/packed.tar.gz": packed})
    root = tmp_path / "root"
    source = file_set(root, "cifar10", "folder", {"a": b"first", "b": b"second"})
    source = FileSet(
        **{**source.__dict__, "archive": official("packed.tar.gz", packed, f"{host}/packed.tar.gz")}
    )
    (root / "folder" / "b").unlink()
    before = (root / "folder" / "a").stat().st_mtime_ns
    assert source.read(root, download=True) == {"a": b"first", "b": b"second"}
    assert entries(tmp_path) == ["root/folder/a", "root/folder/b"]
    assert (root / "folder" / "a").stat().st_mtime_ns == before


@pytest.mark.parametrize("links", [{}, {"folder/a": "/etc/passwd"}, {"folder/a": "../../../../etc/passwd"}])
def test_an_archive_without_the_file_is_refused(links: dict[str, str], tmp_path: Path, serve: Serve) -> None:
    """A link in its place is never followed, inside the archive or out of it."""
    packed = tar({"folder/b": b"other"}, links)
    host = serve({"/packed.tar.gz": packed})
    archive = official("packed.tar.gz", packed, f"{host}/packed.tar.gz")
    source = FileSet("cifar10", "folder", (official("a", b"first"),), "digits", archive)
    with pytest.raises(DataError) as refused:
        source.read(tmp_path, download=True)
    assert_one_line(refused.value, "cifar10: a missing in")
    assert entries(tmp_path) == []


def test_an_archive_that_is_none_is_refused(tmp_path: Path, serve: Serve) -> None:
    host = serve({"/packed.tar.gz": b"not an archive"})
    archive = official("packed.tar.gz", b"not an archive", f"{host}/packed.tar.gz")
    with pytest.raises(DataError) as refused:
        FileSet("cifar10", "folder", (official("a", b"first"),), "digits", archive).read(
            tmp_path, download=True
        )
    assert_one_line(refused.value, "cifar10: a missing in")


# Damaged


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda content: content[:-3], "17 bytes instead of 20"),
        (lambda content: b"", "0 bytes instead of 20"),
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


def test_the_script_goes_on_after_a_failure(
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
