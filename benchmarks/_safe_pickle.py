"""Reading official files, which are pickles, without trusting them.

A pickle is a program: it can call any function that it names. Here it may name only what is in a short
list (`_pickle_names`), and it is run by a machine (`_pickle_machine`) that believes no length and no index. Everything
else ends in an error before anything is called.
"""

from __future__ import annotations

__all__ = ["MAX_BYTES", "load", "load_stream", "loads", "read_guarded"]

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from tauzero.benchmarks._pickle_input import Limits, Readable
from tauzero.benchmarks._pickle_machine import Machine
from tauzero.benchmarks._pickle_names import DAMAGE, ForbiddenNameError
from tauzero.spaces import BenchmarkFormatError

#: Files above this size (bytes) are refused before they are read.
MAX_BYTES: Final = 256 * 2**20

_T = TypeVar("_T")


def loads(data: bytes, source: str, *, inert: Mapping[tuple[str, str], type] | None = None) -> Any:
    """Read a pickle that holds containers, numbers, strings and numpy arrays or scalars of plain numbers.

    Parameters
    ----------
    data
        The pickle, any protocol.
    source
        What to call it in messages: a path.

    Raises
    ------
    BenchmarkFormatError
        If it is too large, truncated, no pickle, or names anything else; the message says which.
    """
    if len(data) > MAX_BYTES:
        raise _too_large(source, len(data))
    return load_stream(io.BytesIO(data), source, inert=inert)


def load_stream(
    stream: Readable,
    source: str,
    *,
    strings_are_bytes: bool = False,
    inert: Mapping[tuple[str, str], type] | None = None,
) -> Any:
    """Read a pickle from a stream; see `loads`.

    Parameters
    ----------
    stream
        Where the pickle is read from.
    source
        What to call it in messages.
    strings_are_bytes
        Whether what Python 2 wrote as plain strings is read as bytes, not as ASCII text.
    inert
        Further classes by the name that stands in the file; they must do nothing but keep their state.
    """
    limits = Limits(string=MAX_BYTES, entry=MAX_BYTES)
    return read_guarded(
        lambda: Machine(stream, limits, dict(inert or {}), strings_are_bytes=strings_are_bytes).load(), source
    )


def load(path: Path) -> Any:
    """Read a pickle file; see `loads`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BenchmarkFormatError(f"Cannot read '{path}': {error.strerror or error}.") from error
    return loads(data, str(path))


def read_guarded(read: Callable[[], _T], source: str, kind: str = "pickle") -> _T:
    """Call a function that runs an unpickler, and turn what it raises into errors for people.

    Raises
    ------
    BenchmarkFormatError
        If it asks for a forbidden name, or is damaged.
    """
    try:
        return read()
    except BenchmarkFormatError:
        raise
    except ForbiddenNameError as error:
        raise BenchmarkFormatError(
            f"'{source}' is not safe to read: the pickle asks for {error}, which is neither a container, a number, a "
            "string nor a plain numpy array. Get the file from its official source, and do not open it by other means."
        ) from None
    except DAMAGE as error:
        raise BenchmarkFormatError(
            f"'{source}' is truncated or no {kind} ({type(error).__name__}: {error!s:.200}). Get the file again."
        ) from error


def _too_large(source: str, size: int) -> BenchmarkFormatError:
    return BenchmarkFormatError(
        f"'{source}' is too large to be read as a pickle: at least {size} bytes, the limit is {MAX_BYTES}."
    )
