"""Note the file operations of a process, and build what a power cut may leave on a POSIX file system."""

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

Tree = dict[str, bytes | None]
"""The content of each file and None for each folder, by path below the root, which is the path ""."""

ROOT = 0
"""The number of the root folder, which is durable. Files and folders have numbers, as inodes do."""


@dataclass(frozen=True)
class Name:
    """Names of a folder appear or, with None, disappear, in one atomic step."""

    folder: int
    changes: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Write:
    """Bytes of a file are written."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """A file gets another size."""

    file: int
    size: int


@dataclass(frozen=True)
class Sync:
    """All that was done to a file, or to the names of a folder, is durable from here on."""

    node: int


@dataclass(frozen=True)
class Mark:
    """What the process has promised by now."""

    epochs: int
    finished: bool


Operation = Name | Write | Truncate | Sync | Mark


@dataclass
class Disk:
    """The names in each folder and the content of each file."""

    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    files: dict[int, bytes] = field(default_factory=dict)

    def apply(self, operation: Operation) -> None:
        match operation:
            case Name(folder, changes):
                for name, node in changes:
                    if node is None:
                        self.folders.setdefault(folder, {}).pop(name, None)
                    else:
                        self.folders.setdefault(folder, {})[name] = node
            case Write(file, offset, data):
                old = self.files.get(file, b"").ljust(offset, b"\0")
                self.files[file] = old[:offset] + data + old[offset + len(data) :]
            case Truncate(file, size):
                self.files[file] = self.files.get(file, b"")[:size].ljust(size, b"\0")

    def tree(self, kinds: dict[int, bool], folder: int = ROOT, path: str = "") -> Tree:
        """Return what can be reached from the root. ``kinds`` says which numbers are folders."""
        tree: Tree = {path: None}
        for name, node in self.folders.get(folder, {}).items():
            below = f"{path}/{name}" if path else name
            tree |= self.tree(kinds, node, below) if kinds[node] else {below: self.files.get(node, b"")}
        return tree

    def copy(self) -> "Disk":
        return Disk({folder: dict(names) for folder, names in self.folders.items()}, dict(self.files))


class Journal:
    """The operations below a root folder.

    Args:
        root: the folder.
        before: what was done already. The root must have this content.
    """

    def __init__(self, root: Path, before: "Journal | None" = None, until: int = 0) -> None:
        self.root = os.path.abspath(root)
        self.operations: list[Operation] = [] if before is None else before.operations[:until]
        self.kinds: dict[int, bool] = {ROOT: True} if before is None else dict(before.kinds)
        self._descriptors: dict[int, int] = {}
        disk = Disk()
        for operation in self.operations:
            disk.apply(operation)
        self._nodes = {self.root: ROOT}
        self._find(disk, ROOT, self.root)

    @classmethod
    def durable(cls, tree: Tree, root: Path, promised: Mark) -> "Journal":
        """Return the journal of a process that has made the tree below the root, all of it durable."""
        journal = cls(root)
        for path, content in tree.items():
            if path:
                node = journal._new(root / path, is_folder=content is None)
                journal.operations += [] if content is None else [Write(node, 0, content)]
        journal.operations += [Sync(node) for node in journal.kinds]
        journal.operations.append(promised)
        return journal

    def mark(self, epochs: int, finished: bool = False) -> None:
        self.operations.append(Mark(epochs, finished))

    def whole(self, until: int | None = None) -> Tree:
        """Return the tree after the first ``until`` operations, if there is no power cut."""
        disk = Disk()
        for operation in self.operations[:until]:
            disk.apply(operation)
        return disk.tree(self.kinds)

    def promised(self, until: int) -> Mark:
        marks = [operation for operation in self.operations[:until] if isinstance(operation, Mark)]
        return marks[-1] if marks else Mark(0, False)

    def left_by_a_power_cut(
        self, until: int, choices: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> Iterator[Tree]:
        """Yield the trees that a power cut after ``until`` operations may leave.

        What was synced is there. Of the changes of a folder's names since its last sync, any subset may be
        there; of the writes to a file, any number, with the last one whole, cut short, or a hole of zeros.

        Args:
            choices: picks some of many combinations.
        """
        durable = Disk()
        names: dict[int, list[Operation]] = {}
        data: dict[int, list[Operation]] = {}
        for operation in self.operations[:until]:
            match operation:
                case Name(folder, _):
                    names.setdefault(folder, []).append(operation)
                case Write(file) | Truncate(file):
                    data.setdefault(file, []).append(operation)
                case Sync(node):
                    for done in [*names.pop(node, []), *data.pop(node, [])]:
                        durable.apply(done)
        options = [list(_subsets(pending)) for pending in names.values()]
        options += [list(_torn(pending)) for pending in data.values()]
        seen = set()
        for chosen in choices(list(itertools.product(*options))):
            disk = durable.copy()
            for operation in itertools.chain(*chosen):
                disk.apply(operation)
            tree = disk.tree(self.kinds)
            if (key := frozenset(tree.items())) not in seen:
                seen.add(key)
                yield tree

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note all operations of this process while the block runs."""
        real = {name: getattr(os, name) for name in _PATCHED}
        real_open = io.open

        def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not self._inside(path) or not set(mode) & set("wa+x"):
                return real_open(path, mode, *arguments, **options)
            existed = os.path.lexists(path)
            stream = real_open(path, mode, *arguments, **options)
            node = self._file(path, existed)
            if existed and "w" in mode:
                self.operations.append(Truncate(node, 0))
            self._descriptors[stream.fileno()] = node
            return _Noted(stream, lambda at, written: self._write(node, at, written), "a" in mode)

        def os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            existed = os.path.lexists(path)
            descriptor = real["open"](path, flags, *arguments, **options)
            self._descriptors.pop(descriptor, None)
            anonymous = flags & os.O_TMPFILE == os.O_TMPFILE
            if self._inside(path) and not anonymous:
                self._descriptors[descriptor] = self._file(path, existed)
            return descriptor

        def mkdir(path: Any, *arguments: Any, **options: Any) -> None:
            real["mkdir"](path, *arguments, **options)
            if self._inside(path):
                self._new(path, is_folder=True)

        def rename(old: Any, new: Any, **options: Any) -> None:
            real["rename"](old, new, **options)
            if self._inside(old):
                node = self._nodes.pop(os.path.abspath(old))
                self._nodes[os.path.abspath(new)] = node
                assert os.path.dirname(old) == os.path.dirname(new)
                changes = ((os.path.basename(old), None), (os.path.basename(new), node))
                self.operations.append(Name(self._nodes[os.path.dirname(os.path.abspath(old))], changes))

        def unlink(path: Any, **options: Any) -> None:
            real["unlink"](path, **options)
            if self._inside(path):
                path = os.path.abspath(path)
                del self._nodes[path]
                self.operations.append(
                    Name(self._nodes[os.path.dirname(path)], ((os.path.basename(path), None),))
                )

        def ftruncate(descriptor: int, size: int) -> None:
            real["ftruncate"](descriptor, size)
            if descriptor in self._descriptors:
                self.operations.append(Truncate(self._descriptors[descriptor], size))

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            count = real["pwrite"](descriptor, data, offset)
            if descriptor in self._descriptors:
                self._write(self._descriptors[descriptor], offset, bytes(data)[:count])
            return count

        def fsync(descriptor: int) -> None:
            real["fsync"](descriptor)
            if descriptor in self._descriptors:
                self.operations.append(Sync(self._descriptors[descriptor]))

        noted = (os_open, mkdir, rename, rename, unlink, ftruncate, pwrite, fsync)
        with (
            mock.patch.multiple(os, **dict(zip(_PATCHED, noted, strict=True))),
            mock.patch("io.open", opened),
        ):
            yield

    def _inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and f"{os.path.abspath(path)}/".startswith(f"{self.root}/")

    def _file(self, path: Any, existed: bool) -> int:
        return self._nodes[os.path.abspath(path)] if existed else self._new(path, is_folder=False)

    def _new(self, path: Any, is_folder: bool) -> int:
        folder, name = os.path.split(os.path.abspath(path))
        node = len(self.kinds)
        self.kinds[node] = is_folder
        self._nodes[os.path.join(folder, name)] = node
        self.operations.append(Name(self._nodes[folder], ((name, node),)))
        return node

    def _write(self, file: int, offset: int, data: bytes) -> None:
        """Note a write, joined with the one before if it continues that one."""
        last = self.operations[-1] if self.operations else None
        if isinstance(last, Write) and last.file == file and last.offset + len(last.data) == offset:
            self.operations[-1] = Write(file, last.offset, last.data + data)
        else:
            self.operations.append(Write(file, offset, data))

    def _find(self, disk: Disk, folder: int, path: str) -> None:
        for name, node in disk.folders.get(folder, {}).items():
            below = os.path.join(path, name)
            self._nodes[below] = node
            if self.kinds[node]:
                self._find(disk, node, below)


_PATCHED = ("open", "mkdir", "rename", "replace", "unlink", "ftruncate", "pwrite", "fsync")


class _Noted:
    """A stream whose writes are noted."""

    def __init__(self, stream: Any, note: Callable[[int, bytes], None], appends: bool) -> None:
        self._stream, self._note, self._appends = stream, note, appends

    def write(self, data: Any) -> int:
        at = os.fstat(self._stream.fileno()).st_size if self._appends else self._stream.tell()
        count = self._stream.write(data)
        self._note(at, bytes(data)[:count])
        return count

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> "_Noted":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lay_out(tree: Tree, root: Path) -> None:
    """Make a tree on the real disk."""
    for path, content in tree.items():
        if content is None:
            (root / path).mkdir(parents=True)
        else:
            (root / path).write_bytes(content)


def read_back(root: Path) -> Tree:
    """Return the tree on the real disk."""
    tree: Tree = {"": None}
    for path in root.rglob("*"):
        tree[path.relative_to(root).as_posix()] = None if path.is_dir() else path.read_bytes()
    return tree


def _subsets(pending: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """Yield none, all, and every other subset of a few changes of names, each in its order."""
    yield ()
    yield pending
    for length in range(1, len(pending)):
        yield from itertools.combinations(pending, length)


def _torn(pending: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """Yield no write, all writes, and every number of writes with the last one cut short or a hole."""
    yield ()
    yield pending
    for number, operation in enumerate(pending):
        before = pending[:number]
        if number:
            yield before
        if isinstance(operation, Write):
            for kept in (len(operation.data) // 2, len(operation.data) - 1):
                yield (*before, Write(operation.file, operation.offset, operation.data[:kept]))
            yield (*before, Write(operation.file, operation.offset, bytes(len(operation.data))))
