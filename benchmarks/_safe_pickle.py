"""Reading official files, which are pickles, without trusting them.

A pickle is a program: it can call any function that it names. Here it may name only what is in a short
list, and of numpy only replacements written below, because numpy's own restoring functions believe
what the file says about memory. Everything else ends in an error before anything is called.
"""

from __future__ import annotations

__all__ = ["MAX_BYTES", "load", "loads"]

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._pickle_scan import refusal
from tauzero.spaces import BenchmarkFormatError

#: Files above this size (bytes) are refused before they are read.
MAX_BYTES: Final = 256 * 2**20

_KINDS = "biuf"  # booleans, integers, floats: no objects, no structures

# What a damaged pickle makes the unpickler raise, besides UnpicklingError.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class _Forbidden(Exception):  # noqa: N818 - carries a name through the unpickler, never leaves this file
    pass


class _DType:
    """Stands for ``numpy.dtype``: plain numbers of 1 to 8 bytes in either byte order."""

    def __init__(self, name: str, align: object = False, copy: object = True) -> None:
        del align, copy
        if not isinstance(name, str):
            raise TypeError("a dtype must be named by a string")
        self.dtype: np.dtype[Any] = np.dtype(name)
        if self.dtype.kind not in _KINDS or self.dtype.itemsize > 8:
            raise _Forbidden(f"numpy.dtype({name!r})")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in {"<", ">", "|", "="}:
            raise ValueError("unknown byte order")
        self.dtype = self.dtype.newbyteorder("=" if order == "|" else order)


class _Array(np.ndarray[Any, Any]):
    """Stands for ``numpy.ndarray`` as protocols 2 to 4 restore it: made empty, then filled from a state."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise TypeError("an array needs a plain dtype and bytes")
        plain: Any = (1, tuple(shape), dtype.dtype, bool(fortran), data)
        super().__setstate__(plain)


def _reconstruct(kind: object, shape: object, code: object) -> npt.NDArray[Any]:
    del kind, shape, code
    return np.empty((0,), dtype=np.int8).view(_Array)


def _scalar(dtype: _DType, data: bytes) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise TypeError("a number needs a plain dtype and as many bytes")
    return np.frombuffer(data, dtype=dtype.dtype)[0]


def _from_buffer(data: bytes | bytearray, dtype: _DType, shape: tuple[int, ...], order: str) -> npt.NDArray[Any]:
    if not isinstance(dtype, _DType):
        raise TypeError("an array needs a plain dtype")
    return np.frombuffer(bytes(data), dtype=dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise _Forbidden(f"_codecs.encode(…, {encoding!r})")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for ``bytes``, by which protocol 2 writes an empty string of bytes."""
    return b""


_ALLOWED: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): "numpy.ndarray",  # only an argument of _reconstruct; not callable on purpose
}
for _module in ("builtins", "__builtin__"):  # Python 3 and 2
    _ALLOWED[_module, "bytes"] = _no_bytes
    _ALLOWED[_module, "set"] = set
    _ALLOWED[_module, "frozenset"] = frozenset
for _module in ("numpy.core", "numpy._core"):  # numpy 2 renamed it
    _ALLOWED[f"{_module}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_module}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_module}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    inert: Mapping[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name] if (module, name) in _ALLOWED else self.inert[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> Any:
        raise _Forbidden(f"the persistent object {pid!r}")


def loads(data: bytes, source: str, *, inert: Mapping[tuple[str, str], type] | None = None) -> Any:
    """Read a pickle that holds containers, numbers, strings and numpy arrays or scalars of plain numbers.

    Parameters
    ----------
    data
        The pickle, any protocol.
    source
        What to call it in messages: a path.
    inert
        Further names (module, class) and what stands in for each: a class of the caller's own that only holds what
        it is given.

    Raises
    ------
    BenchmarkFormatError
        If it is too large, truncated, no pickle, or names anything else; the message says which.
    """
    if len(data) > MAX_BYTES:
        raise _too_large(source, len(data))
    if reason := refusal(data):
        raise BenchmarkFormatError(
            f"'{source}' is damaged or not safe to read: {reason}. Get the file again from its official source."
        )

    def read() -> Any:
        unpickler = _Unpickler(io.BytesIO(data))
        unpickler.inert = inert or {}
        return unpickler.load()

    return _guarded(read, source)


def load(path: Path) -> Any:
    """Read a pickle file; see `loads`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BenchmarkFormatError(f"Cannot read '{path}': {error.strerror or error}.") from error
    return loads(data, str(path))


def _guarded(read: Callable[[], Any], source: str) -> Any:
    try:
        return read()
    except _Forbidden as error:
        raise BenchmarkFormatError(
            f"'{source}' is not safe to read: the pickle asks for {error}, which is neither a container, a number, a "
            "string nor a plain numpy array. Get the file from its official source, and do not open it by other means."
        ) from None
    except _DAMAGE as error:
        raise BenchmarkFormatError(
            f"'{source}' is truncated or no pickle ({type(error).__name__}: {error}). Get the file again."
        ) from error


def _too_large(source: str, size: int) -> BenchmarkFormatError:
    return BenchmarkFormatError(
        f"'{source}' is too large to be read as a pickle: at least {size} bytes, the limit is {MAX_BYTES}."
    )
