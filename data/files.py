"""The official files of the data sets: found or fetched, and checked byte for byte before they are used."""

import errno
import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from data.base import DataError

SILENCE = 30  # seconds without a byte after which a mirror is given up
CHUNK = 1 << 17  # bytes read at a time
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class OfficialFile:
    """One file as its authors publish it.

    Attributes:
        name: Its name.
        size: Its size in bytes.
        sha256: Its checksum in hexadecimal digits.
        urls: The mirrors that serve it by itself, if any.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...] = ()

    def read(self, folder: Path, dataset: str) -> bytes:
        """Return the content of the file in ``folder``.

        Raises:
            DataError: It cannot be read or is not the official file.
        """
        path = folder / self.name
        try:
            with path.open("rb") as stream:
                content = stream.read(self.size + 1)  # a wrong file may be larger than the memory
        except OSError as error:
            raise DataError(f"{dataset}: cannot read {path}: {error.strerror or error}") from error
        if wrong := self.difference(len(content), hashlib.sha256(content).hexdigest()):
            raise DataError(
                f"{dataset}: {path} is not the official file ({wrong}): remove it, and it is downloaded again"
            )
        return content

    def difference(self, size: int, sha256: str) -> str:
        """Return how a file of this size and checksum differs from the official one; empty if equal."""
        if size > self.size:
            return f"more than {self.size:,} bytes"
        if size < self.size:
            return f"{size:,} bytes instead of {self.size:,}"
        return "" if sha256 == self.sha256 else "its sha256 differs"


@dataclass(frozen=True)
class FileSet:
    """The files of one data set.

    Attributes:
        dataset: Its name.
        folder: Where the files are, below the data root.
        files: The files.
        offline: A data set of the same kind that needs no file.
        archive: The tar file that contains ``folder``. Without one, each file has its own mirrors.
        alternative: The same data in another form, which is read if only that is there.
    """

    dataset: str
    folder: str
    files: tuple[OfficialFile, ...]
    offline: str
    archive: OfficialFile | None = None
    alternative: "FileSet | None" = None

    def present(self, root: Path) -> bool:
        """Return whether every file is there (checked or not)."""
        return not self._missing(root)

    def read(self, root: Path, download: bool) -> dict[str, bytes]:
        """Return the content of every file by name, after fetching the missing ones.

        The content is checked after it was read, so that a file that changes later does no harm.

        Raises:
            DataError: A file is not the official one, or is missing and cannot be fetched.
        """
        if self.alternative and self.alternative.present(root) and not self.present(root):
            return self.alternative.read(root, download)
        if missing := self._missing(root):
            self._fetch(root, missing, download)
        return {file.name: file.read(root / self.folder, self.dataset) for file in self.files}

    def _missing(self, root: Path) -> list[OfficialFile]:
        return [file for file in self.files if not os.path.exists(root / self.folder / file.name)]

    def _fetch(self, root: Path, missing: list[OfficialFile], download: bool) -> None:
        folder = root / self.folder
        if not download:
            raise self._absent(folder, missing, "downloading is off")
        try:
            root.mkdir(parents=True, exist_ok=True)
            # A folder beside the destination is on the same file system: a rename moves a file into place.
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as name:
                scratch = Path(name)
                fetched = self._from_archive(missing, scratch) if self.archive else _each(missing, scratch)
                for file in fetched:
                    folder.mkdir(parents=True, exist_ok=True)
                    os.replace(file, folder / file.name)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise self._absent(folder, missing, _line(error)) from error

    def _from_archive(self, missing: list[OfficialFile], scratch: Path) -> Iterator[Path]:
        """Yield the missing files. Only their content is taken: no path, link or mode is followed."""
        assert self.archive is not None
        with tarfile.open(_download(self.archive, scratch)) as archive:
            for file in missing:
                member = f"{self.folder}/{file.name}"
                try:
                    content = archive.extractfile(member)
                except KeyError:  # the archive has neither the file nor what a link of its name points to
                    content = None
                if content is None:
                    raise OSError(f"{self.archive.name} has no file {member}")
                with (scratch / file.name).open("wb") as unpacked:
                    shutil.copyfileobj(content, unpacked)
                yield scratch / file.name

    def _absent(self, folder: Path, missing: Sequence[OfficialFile], reason: str) -> DataError:
        names = ", ".join(file.name for file in missing)
        files = "file" if len(missing) == 1 else "files"
        return DataError(
            f"{self.dataset}: {names} missing in {folder} and could not be fetched ({reason}): "
            f"put the official {files} there, or use dataset={self.offline}, which needs no download"
        )


def _each(missing: list[OfficialFile], scratch: Path) -> Iterator[Path]:
    for file in missing:
        yield _download(file, scratch)


def _download(file: OfficialFile, folder: Path) -> Path:
    """Write the file into ``folder``, from the first mirror that serves the official one.

    Raises:
        OSError: No mirror does, or the disk is full.
    """
    path, reasons = folder / file.name, []
    for url in file.urls:
        print(f"downloading {url} ({file.size / 1e6:.1f} MB)", file=sys.stderr)
        try:
            _receive(url, file, path)
            return path
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise  # another mirror would not help
            reasons.append(f"{urlsplit(url).hostname}: {_line(error)}")
    raise OSError("; ".join(reasons))


def _receive(url: str, file: OfficialFile, path: Path) -> None:
    """Write to ``path`` what a mirror serves, but not much more than the file's size.

    Raises:
        OSError: The mirror cannot be reached, is silent, or does not serve the official file.
    """
    request = Request(url, headers={"User-Agent": "salr"})  # some servers refuse urllib's own
    digest, size = hashlib.sha256(), 0
    with urlopen(request, timeout=SILENCE) as response, path.open("wb") as stream:
        while size <= file.size and (chunk := response.read(CHUNK)):
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            if sys.stderr.isatty():
                print(f"\r{size / file.size:4.0%}", end="\r", file=sys.stderr, flush=True)
    if wrong := file.difference(size, digest.hexdigest()):
        raise OSError(f"not the official file ({wrong})")


def _line(error: BaseException) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__
