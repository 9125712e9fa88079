"""The official files of the data sets: found or fetched, checked byte for byte, and only then handed on."""

import hashlib
import http.client
import os
import shutil
import socket
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from torch.hub import download_url_to_file

from data.base import DataError, read_bytes

SILENCE = 30  # seconds without a byte after which a mirror is given up


@dataclass(frozen=True)
class OfficialFile:
    """One file as its authors publish it: `size` in bytes, and the mirrors that serve it alone (if any)."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...] = ()

    def check(self, content: bytes, path: Path, dataset: str) -> bytes:
        """`content` where it is the official file's; otherwise a DataError that names `path`."""
        if len(content) != self.size:
            wrong = f"{len(content):,} bytes instead of {self.size:,}"
        elif hashlib.sha256(content).hexdigest() != self.sha256:
            wrong = "its sha256 differs"
        else:
            return content
        raise DataError(
            f"{dataset}: {path} is not the official file ({wrong}): remove it, and it is downloaded again"
        )


@dataclass(frozen=True)
class FileSet:
    """The files of one data set in `folder` below the data root.

    `offline` names the data set of the same kind that needs no file. `archive` is the tar file that holds `folder`;
    without one, each file has its own mirrors. `alternative` is the same data in another form, read where only that is there.
    """

    dataset: str
    folder: str
    files: tuple[OfficialFile, ...]
    offline: str
    archive: OfficialFile | None = None
    alternative: "FileSet | None" = None

    def present(self, root: Path) -> bool:
        """Whether every file is in its place (checked or not)."""
        return not self._missing(root)

    def read(self, root: Path, download: bool) -> dict[str, bytes]:
        """The checked content of every file by name, after fetching what is missing; DataError for anything less.

        What was checked is what is returned: a file that changes later is not read again.
        """
        if self.alternative and self.alternative.present(root) and not self.present(root):
            return self.alternative.read(root, download)
        if missing := self._missing(root):
            self._fetch(root, missing, download)
        folder = root / self.folder
        return {
            file.name: file.check(
                read_bytes(folder / file.name, self.dataset), folder / file.name, self.dataset
            )
            for file in self.files
        }

    def _missing(self, root: Path) -> list[OfficialFile]:
        return [file for file in self.files if not os.path.exists(root / self.folder / file.name)]

    def _fetch(self, root: Path, missing: list[OfficialFile], download: bool) -> None:
        folder = root / self.folder
        if not download:
            raise self._absent(folder, missing, "downloading is off")
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Beside the destination, hence on the same file system: moving into place is a rename.
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch:
                for file in (
                    self._unpacked(missing, Path(scratch))
                    if self.archive
                    else self._single(missing, Path(scratch))
                ):
                    folder.mkdir(parents=True, exist_ok=True)
                    os.replace(file, folder / file.name)
        except (OSError, tarfile.TarError) as error:
            raise self._absent(folder, missing, " ".join(str(error).split())) from error

    def _single(self, missing: list[OfficialFile], scratch: Path) -> Iterator[Path]:
        for file in missing:
            yield _download(file, scratch)

    def _unpacked(self, missing: list[OfficialFile], scratch: Path) -> Iterator[Path]:
        """The missing files out of the archive: their content alone, so that no path, link or mode in it is ever followed."""
        assert self.archive is not None
        with tarfile.open(_download(self.archive, scratch)) as archive:
            for file in missing:
                member = f"{self.folder}/{file.name}"
                try:
                    content = archive.extractfile(member)
                except KeyError:  # neither the file nor what a link in its place points to is in the archive
                    content = None
                if content is None:
                    raise OSError(f"{self.archive.name} has no file {member}")
                with (scratch / file.name).open("wb") as unpacked:
                    shutil.copyfileobj(content, unpacked)
                yield scratch / file.name

    def _absent(self, folder: Path, missing: Sequence[OfficialFile], reason: str) -> DataError:
        names = ", ".join(file.name for file in missing)
        return DataError(
            f"{self.dataset}: {names} missing in {folder} and could not be fetched ({reason}): "
            f"put the official file{'s' * (len(missing) > 1)} there, or use dataset={self.offline}, which needs no download"
        )


def _download(file: OfficialFile, folder: Path) -> Path:
    """`file` in `folder`, from the first mirror that serves it with its checksum; OSError where none does."""
    reasons = []
    for url in file.urls:
        print(f"downloading {url} ({file.size / 1e6:.1f} MB)", file=sys.stderr)
        try:
            with _impatient():
                download_url_to_file(
                    url, str(folder / file.name), hash_prefix=file.sha256, progress=sys.stderr.isatty()
                )
            return folder / file.name
        except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
            reasons.append(
                f"{urlsplit(url).hostname}: {' '.join(str(error).split()) or type(error).__name__}"
            )
    raise OSError("; ".join(reasons))


@contextmanager
def _impatient() -> Iterator[None]:
    """torch.hub sets no time limit of its own: without one, a silent host would hang a run for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
