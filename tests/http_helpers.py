"""A web server on this machine that serves one file, with every fault that servers have."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What the server does, and what it saw.

    Attributes
    ----------
    content
        The file.
    etag, modified
        Its validators; None to send none.
    ranges
        Whether ranges are served.
    cut_after
        For each request in turn: close the connection after so many bytes of the content; None for not.
    statuses
        For each request in turn: answer with this status only; 0 for the file.
    headers
        Further headers of the file.
    lengths
        Whether Content-Length is sent.
    pause
        Seconds before each kilobyte.
    redirect
        Address that "/moved" leads to.
    sent
        Bytes of content sent for each request.
    requested
        Headers of each request.
    """

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    cut_after: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    lengths: bool = True
    pause: float = 0.0
    redirect: str = ""
    wrong_range: bool = False
    url: str = ""
    sent: list[int] = field(default_factory=list)
    requested: list[dict[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", site.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        site.requested.append(dict(self.headers))
        number = len(site.requested) - 1
        status = site.statuses[number] if number < len(site.statuses) else 0
        if status:
            site.sent.append(0)
            self.send_error(status)
            return
        start = self._start()
        if start is not None and start >= len(site.content):
            site.sent.append(0)
            self.send_error(416)
            return
        body = site.content[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            begin = start + (7 if site.wrong_range else 0)
            self.send_header("Content-Range", f"bytes {begin}-{len(site.content) - 1}/{len(site.content)}")
        if site.lengths:
            self.send_header("Content-Length", str(len(body)))
        for name, value in (("ETag", site.etag), ("Last-Modified", site.modified), *site.headers.items()):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self._send(body, site.cut_after[number] if number < len(site.cut_after) else None)

    def _start(self) -> int | None:
        """First byte of a range that is to be served."""
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if not (self.site.ranges and wanted):
            return None
        if condition is not None and condition not in {self.site.etag, self.site.modified}:
            return None
        return int(wanted.removeprefix("bytes=").partition("-")[0])

    def _send(self, body: bytes, cut: int | None) -> None:
        site = self.site
        site.sent.append(0)
        allowed = body if cut is None else body[:cut]
        for begin in range(0, len(allowed), 1024):
            if site.pause:
                time.sleep(site.pause)
            try:
                self.wfile.write(allowed[begin : begin + 1024])
            except OSError:
                return
            site.sent[-1] += len(allowed[begin : begin + 1024])
        if cut is not None or not site.lengths:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve until the end of the block; ``site.url`` is where."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
