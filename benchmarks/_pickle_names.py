"""The few names that a pickle may use here, and what stands for them.

Nothing of numpy itself is called: its own restoring functions believe what the file says about memory. And nothing
copies more than the file has bytes: a pickle may refer to one object thousands of times, so that a call which copies
its argument makes gigabytes of a few bytes.
"""

from __future__ import annotations

__all__ = ["DAMAGE", "ForbiddenNameError", "Names"]

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_COPIES = 4  # protocol 2 turns an array's text into bytes and these into the array
_KINDS = "biuf"  # booleans, integers, floats: no objects, no structures

#: What a damaged pickle makes an unpickler raise, besides UnpicklingError.
DAMAGE: Final = (
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


class ForbiddenNameError(Exception):
    """Carries a forbidden name through an unpickler; never reaches users."""


class _Ordered(OrderedDict[Any, Any]):
    """An ordered dictionary without attributes: torch hides layer versions there, and copies of them are refused."""

    def __setstate__(self, state: object) -> None:
        del state


class _DType:
    """Stands for ``numpy.dtype``: plain numbers of 1 to 8 bytes in either byte order; Python 2 names it in bytes."""

    def __init__(self, name: str | bytes, align: object = False, copy: object = True) -> None:
        del align, copy
        name = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(name, str):
            raise TypeError("a dtype must be named by a string")
        self.dtype: np.dtype[Any] = np.dtype(name[:64])
        if self.dtype.kind not in _KINDS or self.dtype.itemsize > 8:
            raise ForbiddenNameError(f"numpy.dtype({name!r:.80})")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in {"<", ">", "|", "="}:
            raise ValueError("unknown byte order")
        self.dtype = self.dtype.newbyteorder("=" if order == "|" else order)


class _Array(np.ndarray[Any, Any]):
    """Stands for ``numpy.ndarray`` as protocols 2 to 4 restore it: made empty, then filled from a state."""

    names: Names

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise TypeError("an array needs a plain dtype and bytes")
        self.names.count(len(data))
        plain: Any = (1, tuple(shape), dtype.dtype, bool(fortran), data)
        super().__setstate__(plain)


def _scalar(dtype: _DType, data: bytes) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise TypeError("a number needs a plain dtype and as many bytes")
    return np.frombuffer(data, dtype=dtype.dtype)[0]


def _no_bytes() -> bytes:
    """Stand for ``bytes``, by which protocol 2 writes an empty string of bytes."""
    return b""


class Names:
    """The allowed names during the reading of one pickle.

    Parameters
    ----------
    size
        Number of bytes of the pickle so far: all calls together may copy a few times as many elements.
    more
        Further names of a kind of file: (module, name) → what stands for it.
    """

    def __init__(self, size: Callable[[], int], more: Mapping[tuple[str, str], Any] | None = None) -> None:
        self._size, self._copied = size, 0
        self._allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): self._ordered,
            ("_codecs", "encode"): self._encode,
            ("numpy", "dtype"): _DType,
            ("numpy", "ndarray"): "numpy.ndarray",  # only an argument of _reconstruct; not callable on purpose
        }
        for module in ("builtins", "__builtin__"):  # Python 3 and 2
            self._allowed[module, "bytes"] = _no_bytes
            self._allowed[module, "set"] = self._set
            self._allowed[module, "frozenset"] = self._frozenset
        for module in ("numpy.core", "numpy._core"):  # numpy 2 renamed it
            self._allowed[f"{module}.multiarray", "_reconstruct"] = self._reconstruct
            self._allowed[f"{module}.multiarray", "scalar"] = _scalar
            self._allowed[f"{module}.numeric", "_frombuffer"] = self._from_buffer
        self._allowed.update(more or {})

    def find(self, module: str, name: str) -> Any:
        """Return what stands for a name.

        Raises
        ------
        ForbiddenNameError
            If it is not in the list.
        """
        try:
            return self._allowed[module, name]
        except KeyError:
            raise ForbiddenNameError(f"{module[:80]}.{name[:80]}") from None

    def count(self, length: int) -> None:
        """Count elements that a call copies.

        Raises
        ------
        ValueError
            If there are far more of them than the pickle has bytes.
        """
        self._copied += length
        if self._copied > _COPIES * self._size():
            raise ValueError("it copies more than there is in it")

    def _reconstruct(self, kind: object, shape: object, code: object) -> npt.NDArray[Any]:
        del kind, shape, code
        array = np.empty((0,), dtype=np.int8).view(_Array)
        array.names = self
        return array

    def _ordered(self, items: Any = ()) -> _Ordered:
        self.count(len(items))
        return _Ordered(items)

    def _set(self, items: Any = ()) -> set[Any]:
        self.count(len(items))
        return set(items)

    def _frozenset(self, items: Any = ()) -> frozenset[Any]:
        self.count(len(items))
        return frozenset(items)

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Stand for ``_codecs.encode``, by which protocol 2 writes bytes."""
        if encoding != "latin1":
            raise ForbiddenNameError(f"_codecs.encode(…, {encoding!r:.40})")
        self.count(len(text))
        return text.encode("latin1")

    def _from_buffer(
        self, data: bytes | bytearray, dtype: _DType, shape: tuple[int, ...], order: str
    ) -> npt.NDArray[Any]:
        if not isinstance(dtype, _DType):
            raise TypeError("an array needs a plain dtype")
        self.count(len(data))
        return np.frombuffer(bytes(data), dtype=dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
