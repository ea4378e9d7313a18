"""A server of weight files on this machine that fails in every way a test requests, and what the tests of it share."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import h5py
import numpy as np

from npmobilenet.hub.cache import source_path
from npmobilenet.hub.published_models import KnownModel, find_model

V1 = find_model("mobilenet_v1_0.25_128")  # has no published hash
V3 = find_model("mobilenet_v3_small_1.0_224")  # has one
FETCH = """
import sys
from npmobilenet.hub.cache import fetch_source
from npmobilenet.hub.published_models import find_model
print(fetch_source(find_model(sys.argv[1])))
"""


@dataclass
class Server:
    """State of a server: its files, the failures to simulate, and the requests received."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range) of each request
    statuses: list[int] = field(default_factory=list)  # HTTP statuses to send before a file
    cuts: list[int] = field(
        default_factory=list
    )  # for each of the next responses: bytes of the body before the connection is closed
    ranges: bool = True
    validator: str | None = "ETag"
    chunked: bool = False
    pause: float = 0.0  # seconds between pieces of PIECE bytes
    silence: float = 0.0  # seconds before the body

    PIECE = 20_000


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            requested = self.headers.get("Range")
            server.requests.append((self.path, requested))
            status = server.statuses.pop(0) if server.statuses else 200
            contents = server.files.get(self.path.lstrip("/"))
            if contents is None or status != 200:
                self.send_error(404 if contents is None else status)
                return
            tag = f'"{hashlib.sha256(contents).hexdigest()[:16]}"'
            date = f"Sat, 01 Jan 2022 00:00:{len(contents) % 60:02} GMT"
            validator = {"ETag": tag, "Last-Modified": date, None: ""}[server.validator]
            start = 0
            if server.ranges and requested and self.headers.get("If-Range") == validator:
                start = int(requested.removeprefix("bytes=").removesuffix("-"))
            if start > len(contents):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
            if server.validator:
                self.send_header(server.validator, validator)
            if server.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(contents) - start))
            self.end_headers()
            self._send(contents[start:])

        def _send(self, body: bytes) -> None:
            cut = server.cuts.pop(0) if server.cuts else None
            time.sleep(server.silence)
            try:
                for at in range(0, len(body[:cut]), server.PIECE):
                    piece = body[:cut][at : at + server.PIECE]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if server.chunked else piece)
                    self.wfile.flush()
                    time.sleep(server.pause)
                if server.chunked and cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass  # the client has disconnected
            self.close_connection = cut is not None or self.close_connection

    return Handler


@contextmanager
def serving() -> Iterator[Server]:
    """Serve files in a thread."""
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    http.daemon_threads = True
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def weight_file(seed: int = 0, size: int = 300_000) -> bytes:
    """Contents of an HDF5 file that is accepted until it is converted."""
    with h5py.File("weights.h5", "w", driver="core", backing_store=False) as file:
        file["kernel"] = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        file.flush()
        return bytes(file.id.get_file_image())


def files_of(model: KnownModel) -> set[str]:
    """Names of the files in the folder of the model's file, except locks."""
    return {path.name for path in source_path(model).parent.iterdir() if path.suffix != ".lock"}


def ranges(server: Server) -> list[str | None]:
    """Range header of each request."""
    return [requested for _, requested in server.requests]
