"""A server on this machine that gives files, or breaks off, lies, hangs or knows nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOWS = ("half", "wrong", "missing", "hangs", "hangs half-way", "refuses", "another page")


class Server:
    """What it gives, and how.

    Args:
        files: Contents by the last part of their address.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.how, self.asked = files, "whole", 0
        self.over = threading.Event()
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request in the way that was chosen."""
        self.asked += request.command == "GET"
        content = self.files.get(request.path.rpartition("/")[2], b"")
        how = self.how
        if how == "refuses":
            request.connection.close()
            return
        if how == "hangs":
            self.over.wait(20)
            return
        if how == "missing":
            request.send_error(404)
            return
        length = len(content)
        if how == "wrong":
            content = bytes(255 - byte for byte in content)
        if how == "another page":  # of a network that asks to log in
            content = b"<html>Please log in.</html>"
            length = len(content)
        request.send_response(200)
        request.send_header("Content-Length", str(length))
        request.end_headers()
        if request.command == "GET":
            half = how in ("half", "hangs half-way")
            request.wfile.write(content[: length // 2] if half else content)
            request.wfile.flush()
        if how == "hangs half-way" and request.command == "GET":
            self.over.wait(20)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Yield a server that runs until the end of the block."""
    state = Server(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the other side has left
                state.answer(self)

        do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
