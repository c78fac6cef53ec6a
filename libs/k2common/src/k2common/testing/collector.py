"""A collector of spans: an HTTP server that keeps what is posted to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Collector(ThreadingHTTPServer):
    """`received` has the path and the body of each request, in OTLP's protobuf."""

    def __init__(self, port: int = 0) -> None:
        """Listens on any free port if none is given."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.received: list[tuple[str, bytes]] = []

    @property
    def endpoint(self) -> str:
        """What to give to K2_OBSERVABILITY__OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector that runs until the end."""
    with Collector(port) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
