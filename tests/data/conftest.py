"""A mirror on this machine, for the tests of downloads, and no network for the others."""

import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data import files
from tests.helpers.data import Serve


class Mirror(ThreadingHTTPServer):
    """Serves contents by path. ``/good/NAME`` is served as it is; other first parts say what goes wrong."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = contents
        self.closing = threading.Event()
        self.requests: list[str] = []
        self.sent = 0  # bytes of all bodies
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, way, name = self.path.split("/", 2)
        content = self.server.contents.get(name, b"")
        half = content[: len(content) // 2]
        match way:
            case "good":
                self.send(content)
            case "cut":  # promises the whole, and closes the connection after the half
                self.send(half, promised=len(content))
            case "short":
                self.send(half)
            case "stall":  # sends the half, and then nothing
                self.send(half, promised=len(content))
                self.server.closing.wait(30)
            case "endless":
                self.start(200, {})
                while not self.server.closing.is_set():
                    self.write(bytes(1 << 16))
            case "chunks":  # a length in chunks that is no number
                self.start(200, {"Transfer-Encoding": "chunked"})
                self.write(b"5\r\nhello\r\nzz\r\n")
            case "html":
                self.send(
                    b"<!DOCTYPE html>\n<html>Log in to the network</html>\n", {"Content-Type": "text/html"}
                )
            case "redirect":
                self.start(302, {"Location": f"/good/{name}"})
            case "loop":
                self.start(302, {"Location": self.path})
            case "local":
                self.start(302, {"Location": "file:///etc/passwd"})
            case "unavailable":
                self.start(503, {})
            case _:
                self.start(404, {})

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes, headers: dict[str, str] | None = None, promised: int | None = None) -> None:
        length = len(body) if promised is None else promised
        self.start(200, {"Content-Length": str(length), **(headers or {})})
        self.write(body)

    def write(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:  # the other side has had enough
            self.server.closing.set()
        else:
            self.server.sent += len(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start mirrors with these contents by name."""
    mirrors: list[Mirror] = []

    def start(contents: dict[str, bytes]) -> Mirror:
        mirrors.append(Mirror(contents))
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail every download, with an error of two lines."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError(OSError("no route\nto host"))

    monkeypatch.setattr(files, "urlopen", unreachable)
