"""A downloader for pooch that goes on where a connection was cut.

HTTP ranges (RFC 9110, sections 13.1.5 and 14): the part that there is is continued only if the server says that the
file is still the same one, by its ETag or its time of change; else it is fetched from the beginning.
"""

from __future__ import annotations

__all__ = ["DownloadError", "ResumingDownloader"]

import errno
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tauzero.benchmarks._files import atomic_path, unwritable
from tauzero.spaces import Progress, TauzeroError

if TYPE_CHECKING:
    import requests

_CONNECT, _STALL = 10.0, 60.0  # seconds for a connection, and between two pieces of a file
_PIECE = 1 << 16
_LONGEST_WAIT = 60.0
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class DownloadError(TauzeroError, OSError):
    """A file that cannot be fetched; the message says why and how to get it by hand."""


class _TryAgain(Exception):  # noqa: N818 - never leaves this file
    """A failure that may pass: a cut connection, a busy server."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class _State:
    """What the server said of the file of which there is a part."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What a server compares before it continues; weak ETags do not stand for equal bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class ResumingDownloader:
    """What pooch calls to fetch a file.

    Parameters
    ----------
    part
        Where the file is gathered; what is found there is continued. Beside it, ``PART.json`` says what it is a part
        of.
    checked
        Whether a checksum will be compared afterwards; without one, and without an ETag or time of change, nothing
        is continued.
    timeout
        Seconds for everything.
    size
        Exact size that the file must have; None if it is not known.
    progress
        Called with (bytes there, bytes in all).
    retries
        Failures in a row, without one more byte, after which it gives up.
    wait
        Seconds before the first new try; doubled with each.
    """

    def __init__(
        self,
        part: Path,
        *,
        checked: bool,
        timeout: float,
        progress: Progress,
        size: int | None = None,
        retries: int = 4,
        wait: float = 0.5,
    ) -> None:
        self.part = part
        self.checked = checked
        self.size = size
        self.progress = progress
        self.retries = retries
        self.wait = wait
        self.timeout = timeout
        self._notes = part.with_name(part.name + ".json")
        self._deadline = 0.0

    def __call__(self, url: str, output_file: str | os.PathLike[str], pooch: Any = None) -> None:
        """Fetch `url` and put it to `output_file`; pooch compares the checksum then.

        Raises
        ------
        DownloadError
            If the server refuses, cannot be reached, or time is up; the part is kept.
        UnwritableFolderError
            If the disk is full.
        """
        import requests

        del pooch
        self._deadline = time.monotonic() + self.timeout
        failures = 0
        with requests.Session() as session:
            while True:
                before = self._have()
                try:
                    self._attempt(session, url)
                    break
                except _TryAgain as error:
                    failures = 1 if self._have() > before else failures + 1
                    if failures > self.retries:
                        raise DownloadError(f"{error} ({failures} tries)") from error
                    pause = min(max(error.wait, self.wait * 2 ** (failures - 1)), _LONGEST_WAIT)
                    if time.monotonic() + pause > self._deadline:
                        raise self._late() from error
                    time.sleep(pause)
        self._notes.unlink(missing_ok=True)
        self.part.replace(output_file)

    # -- one request --------------------------------------------------------------------------

    def _attempt(self, session: requests.Session, url: str) -> None:
        import requests

        state = self._known(url)
        have = self._have() if state else 0
        if state and state.total is not None and have == state.total:
            return
        # Packed transfers have no ranges of the file itself.
        headers = {"Accept-Encoding": "identity", "User-Agent": "tauzero"}
        if state and have:
            headers["Range"] = f"bytes={have}-"
            if state.validator:
                headers["If-Range"] = state.validator
        stall = max(0.1, min(_STALL, self._deadline - time.monotonic()))
        try:
            with session.get(url, headers=headers, stream=True, timeout=(min(_CONNECT, stall), stall)) as response:
                self._refuse(response, url)
                if response.status_code == 206 and state:
                    self._check_range(response, state, have)
                else:
                    state, have = self._begin(response, url), 0
                self._write(response, state, have)
        except requests.exceptions.SSLError as error:
            raise DownloadError(f"the server's certificate is not accepted ({_reason(error)})") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise self._interrupted(error) from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise self._interrupted(error) from error
        except requests.exceptions.RequestException as error:
            raise DownloadError(_reason(error)) from error

    def _refuse(self, response: requests.Response, url: str) -> None:
        """Raise for everything but the content of a file."""
        status = response.status_code
        if status in _RETRIED:
            after = response.headers.get("Retry-After", "")
            raise _TryAgain(f"the server answered {status} {response.reason}", float(after) if after.isdigit() else 0.0)
        if status == 416:  # there is no such range: the part is none of this file
            self._discard()
            raise _TryAgain("the server has no more of the file that was begun")
        if status not in {200, 206}:
            raise DownloadError(f"the server answered {status} {response.reason}")
        if url.startswith("https://") and not response.url.startswith("https://"):
            raise DownloadError(f"it was led from https to the insecure address {response.url}")
        if response.headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
            raise DownloadError("the server sent it packed although that was not asked for")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DownloadError("a web page came instead of the file")

    def _check_range(self, response: requests.Response, state: _State, have: int) -> None:
        """Make sure that what comes continues the part that there is."""
        found = _RANGE.match(response.headers.get("Content-Range", ""))
        etag = response.headers.get("ETag")
        fits = found is not None and int(found[1]) == have and (found[2] in {"*", str(state.total)} or not state.total)
        if not fits or (etag and state.etag and etag != state.etag):
            self._discard()
            raise _TryAgain("the server continued another file than the one that was begun")

    def _begin(self, response: requests.Response, url: str) -> _State:
        """Note what the file is of which the first byte comes now."""
        if response.status_code == 206:  # nobody asked for a range
            raise DownloadError("the server sent a part of the file only")
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if None not in {total, self.size} and total != self.size:
            raise DownloadError(f"the server has a file of {total} bytes where {self.size} are published")
        state = _State(url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
        self._discard()
        with atomic_path(self._notes) as temporary:
            temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
        return state

    def _write(self, response: requests.Response, state: _State, have: int) -> None:
        """Append what comes."""
        total = state.total
        if total is not None and shutil.disk_usage(self.part.parent).free < total - have:
            raise unwritable(self.part, OSError(errno.ENOSPC, f"no space for {(total - have) / 1e6:.0f} MB more"))
        # Opened outside of the loop over the response, whose errors are OSErrors, too.
        with self._opened(have) as stream:
            self.progress(have, total or have)
            for piece in response.iter_content(_PIECE):
                self._append(stream, piece)
                have += len(piece)
                self.progress(have, total or have)
                if total is not None and have > total:
                    self._discard()
                    raise DownloadError(f"the server sent more than the {total} bytes that it announced")
                if time.monotonic() > self._deadline:
                    raise self._late()
        if total is not None and have < total:
            raise _TryAgain(f"the connection was cut after {have} of {total} bytes")

    def _opened(self, have: int) -> Any:
        try:
            stream = self.part.open("r+b" if have else "wb", buffering=0)
        except OSError as error:
            raise unwritable(self.part, error) from error
        stream.seek(have)
        return stream

    def _append(self, stream: Any, piece: bytes) -> None:
        try:
            view = memoryview(piece)
            while view:
                view = view[stream.write(view) :]
        except OSError as error:
            raise unwritable(self.part, error) from error

    # -- what there is ------------------------------------------------------------------------

    def _have(self) -> int:
        try:
            return self.part.stat().st_size
        except OSError:
            return 0

    def _known(self, url: str) -> _State | None:
        """What the part is a part of; None if it is of another address, or could not be continued safely."""
        try:
            state = _State(**json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return state if state.url == url and (state.validator or self.checked) and self.part.exists() else None

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def _interrupted(self, error: Exception) -> Exception:
        if time.monotonic() > self._deadline:
            return self._late()
        return _TryAgain(_reason(error))

    def _late(self) -> DownloadError:
        return DownloadError(f"it was not finished within {self.timeout:g} seconds ({self._have()} bytes are there)")


def _reason(error: Exception) -> str:
    """The innermost cause of an error of requests, in one line."""
    inner: Any = error
    while inner.args and isinstance(inner.args[0], Exception):
        inner = inner.args[0]
    inner = getattr(inner, "reason", None) or inner
    text = re.sub(r"^.*object at 0x[0-9a-f]+>: |^\w+\([^()]*\): ", "", str(inner).strip().split("\n")[0])
    return text or type(error).__name__
