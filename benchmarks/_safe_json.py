"""Reading JSON of others: bounded, strict, and with errors that name the file.

`json.loads` takes what JSON is not (a key twice, ``NaN``), and ends in four kinds of exceptions on damage. Here a
document is read as a whole or refused with a `BenchmarkFormatError`, and what it may take in memory is known before it
is parsed.
"""

from __future__ import annotations

__all__ = ["MAX_BYTES", "MAX_ITEMS", "load", "loads", "mapping", "number", "read_bytes"]

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from tauzero.spaces import BenchmarkFormatError

#: Files above this size (bytes) are refused before they are read, unless a reader says less.
MAX_BYTES: Final = 256 * 2**20
#: Most values of a document. Python needs at most about 60 bytes for each beside the text.
MAX_ITEMS: Final = 16_000_000

_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half of a character beyond 16 bits; alone it is no text
_SHOWN = 60


class _Refused(ValueError):  # noqa: N818 - carries a reason through the parser, never leaves this file
    pass


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Bytes of a file, at most `limit` of them.

    Raises
    ------
    BenchmarkFormatError
        If it cannot be read or is larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise BenchmarkFormatError(f"Cannot read '{path}': {error.strerror or error}.") from error
    if len(data) > limit:
        raise BenchmarkFormatError(
            f"'{path}' is too large to be read as JSON: more than {limit} bytes, which is the limit."
        )
    return data


def load(path: Path, expected: str, *, limit: int = MAX_BYTES, constants: bool = False) -> Any:
    """Read a JSON file; see `loads`."""
    return loads(read_bytes(path, limit), str(path), expected, constants=constants)


def loads(data: bytes, source: str, expected: str, *, constants: bool = False) -> Any:
    """Read a JSON document in UTF-8.

    Parameters
    ----------
    data
        The document.
    source
        What to call it in messages: a path.
    expected
        What it should have been, for messages: ``"a result of NAS-Bench-301"``.
    constants
        Whether ``NaN``, ``Infinity`` and ``-Infinity`` are admitted, which Python writes and JSON does not know.

    Raises
    ------
    BenchmarkFormatError
        If it is truncated, too deep or too large, no UTF-8, has a key twice in one object, a number of more than
        4,300 digits, or text that cannot be written.
    """
    items = data.count(b",") + data.count(b":")
    if items > MAX_ITEMS:
        raise _bad(source, expected, f"it has about {items} values, the limit is {MAX_ITEMS}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(source, expected, f"byte {error.start} is no UTF-8 ({error.reason})") from error
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_constant=float if constants else _no_constant)
    except _Refused as error:
        raise _bad(source, expected, str(error)) from None
    except RecursionError as error:
        raise _bad(source, expected, "it is nested too deeply") from error
    except ValueError as error:  # json.JSONDecodeError, and integers of more than 4,300 digits
        raise _bad(source, expected, str(error).split(";", 1)[0]) from error
    if _HALF.search(text) and any(not _writable(part) for part in _texts(content)):
        raise _bad(source, expected, "it has text with half a character (a lone surrogate)")
    return content


def mapping(value: object, what: str, source: str, expected: str) -> dict[str, Any]:
    """`value` if it is a JSON object with something in it; `what` names it in the error."""
    if not isinstance(value, dict) or not value:
        raise _bad(source, expected, f"{what} must be an object with entries, got {_show(value)}")
    return value


def number(value: object, what: str, source: str, expected: str) -> float:
    """`value` as a finite float; `what` names it in the error."""
    found = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:  # an integer above 1.8e308
            found = math.inf
    if not math.isfinite(found):
        raise _bad(source, expected, f"{what} must be a finite number, got {_show(value)}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {_show(twice)} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is no JSON")


def _texts(content: object) -> Iterator[str]:
    """All texts of a document, keys included."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show(value: object) -> str:
    """A value in a few characters; long containers and numbers are not written out."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"


def _bad(source: str, expected: str, reason: str) -> BenchmarkFormatError:
    return BenchmarkFormatError(f"'{source}' is not {expected}: {reason}. Get the file again, or from its source.")
