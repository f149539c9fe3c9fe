"""Reading files of ``torch.save`` without torch and without trusting them; tensors become numpy arrays.

Two formats. Since torch 1.6 a zip archive: ``NAME/data.pkl``, the pickle, and ``NAME/data/KEY``, each storage's bytes.
Before, one stream: pickles of a magic number, of the protocol version, of facts about the machine and of the object,
then a pickle of the storages' keys, then for each its number of elements (int64) and its bytes. In both the object's
pickle names storages by persistent identifiers ``("storage", type, key, place, elements, …)``. Source: PyTorch,
torch/serialization.py and torch/_utils.py.
"""

from __future__ import annotations

__all__ = ["Limits", "head", "load"]

import struct
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._pickle_input import Limits
from tauzero.benchmarks._pickle_machine import Consumer, Machine
from tauzero.benchmarks._pickle_names import ForbiddenNameError
from tauzero.benchmarks._safe_pickle import read_guarded
from tauzero.spaces import BenchmarkFormatError

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number as every torch pickled it
_ZIP = b"PK\x03\x04"
_SMALL = Limits(string=2**16, entry=2**16)  # of the pickles around the object's
_MOST_DIMENSIONS = 32
_KIND = "intact file of torch.save"

_NUMBERS: Final = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "BFloat16": "bf2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "b1",
}
_DTYPES: Final = {
    **{name: name for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")},
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}


class _Kind(NamedTuple):
    """Stands for a storage class: what its elements are, ``bf2`` for bfloat16."""

    code: str

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return int(self.code[-1])


def _names() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {("torch", f"{k}Storage"): _Kind(code) for k, code in _NUMBERS.items()}
    names |= {(module, "UntypedStorage"): _Kind("u1") for module in ("torch", "torch.storage")}
    names |= {("torch", name): np.dtype(ours) for name, ours in _DTYPES.items()}
    names |= {
        ("torch", "Size"): _size,
        ("torch", "device"): _device,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
    }
    return names


def _plain(kind: _Kind) -> np.dtype[Any]:
    return np.dtype("f4" if kind.code == "bf2" else kind.code)


class _Storage:
    """The elements of a storage, in one dimension, once they are read."""

    def __init__(self, kind: _Kind, count: int) -> None:
        self.kind, self.count = kind, count
        self.elements: npt.NDArray[Any] = np.empty(0, _plain(kind))


def _size(items: tuple[int, ...] = ()) -> tuple[int, ...]:
    return _whole_numbers(items)


def _device(*parts: object) -> str:
    return ":".join(str(part)[:40] for part in parts)


def _whole_numbers(items: object) -> tuple[int, ...]:
    if not isinstance(items, tuple | list) or not all(type(n) is int and n >= 0 for n in items):
        raise ValueError("a shape must be whole numbers")
    if len(items) > _MOST_DIMENSIONS:
        raise ValueError("a tensor of too many dimensions")
    return tuple(items)


def _tensor(storage: _Storage, offset: int, size: object, stride: object, *rest: object) -> npt.NDArray[Any]:
    """Stand for ``_rebuild_tensor_v2``: a read-only view, all of whose elements lie within the storage."""
    del rest  # whether gradients are wanted, hooks
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without a storage")
    shape, steps = _whole_numbers(size), _whole_numbers(stride)
    (start,) = _whole_numbers((offset,))
    if len(shape) != len(steps):
        raise ValueError("a tensor with strides for other dimensions")
    last = start + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    elements = storage.elements
    if 0 in shape:
        return np.empty(shape, dtype=_plain(storage.kind))
    if last >= len(elements):
        raise ValueError(f"a tensor of elements up to {last} in a storage of {storage.count}")
    width = elements.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        elements[start:], shape, tuple(step * width for step in steps), writeable=False
    )


def _parameter(data: npt.NDArray[Any], *rest: object) -> npt.NDArray[Any]:
    del rest
    if not isinstance(data, np.ndarray):
        raise TypeError("a parameter without a tensor")
    return data


def _filled(kind: _Kind, raw: npt.NDArray[np.uint8], order: str) -> npt.NDArray[Any]:
    """Interpret bytes: bfloat16 as the upper halves of float32, truth as what is not zero."""
    if kind.code == "bf2":
        return (raw.view(order + "u2").astype(np.uint32) << 16).view(np.float32)
    if kind.code == "b1":
        return raw != 0
    return raw.view(order + kind.code)


class _Storages:
    """Storages by key; together they have no more bytes than the file, however often their keys stand there."""

    def __init__(self, room: int, read: Callable[[str, _Storage], npt.NDArray[Any]]) -> None:
        self._room, self._read = room, read
        self.by_key: dict[str, _Storage] = {}

    def find(self, pid: object) -> _Storage:
        """Storage of a persistent identifier.

        Raises
        ------
        ForbiddenNameError
            If the identifier is no storage's.
        ValueError
            If it is damaged.
        """
        if not (isinstance(pid, tuple) and len(pid) in {5, 6} and pid[0] == "storage" and isinstance(pid[1], _Kind)):
            raise ForbiddenNameError(f"the persistent object {pid!r:.80}")
        _, kind, key, _, count = pid[:5]
        if type(key) is not str or type(count) is not int or count < 0 or (len(pid) == 6 and pid[5] is not None):
            raise ValueError("a damaged identifier of a storage")
        if key in self.by_key:
            if self.by_key[key].kind != kind:
                raise ValueError(f"two kinds of the storage {key!r:.40}")
            return self.by_key[key]
        self._room -= count * kind.width + 1
        if self._room < 0:
            raise ValueError(f"the storage {key!r:.40} of {count} elements has more bytes than there are")
        storage = _Storage(kind, count)
        storage.elements = self._read(key, storage)
        self.by_key[key] = storage
        return storage


class _Source:
    """A stream to which what was read too far can be given back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._back = stream, b""

    def unread(self, data: bytes) -> None:
        self._back = data + self._back

    def read(self, count: int) -> bytes:
        if self._back:
            found, self._back = self._back[:count], self._back[count:]
            return found
        return self._stream.read(count)

    def pickle(self, machine: Machine) -> Any:
        found = machine.load()
        self.unread(machine.rest)
        return found

    def fill_storage(self, storage: _Storage) -> None:
        count = int.from_bytes(self._exactly(np.empty(8, np.uint8)).tobytes(), "little", signed=True)
        if count != storage.count:
            raise ValueError(f"a storage has {count} elements, not {storage.count}")
        plain = storage.elements.view(np.uint8)
        if storage.kind.width == storage.elements.itemsize and storage.kind.code != "b1":
            self._exactly(plain)
        else:
            raw = self._exactly(np.empty(count * storage.kind.width, np.uint8))
            storage.elements[:] = _filled(storage.kind, raw, "<")

    def _exactly(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        buffer, at = raw.data, 0
        while at < len(buffer):
            part = self.read(min(len(buffer) - at, 2**24))
            if not part:
                raise EOFError("it ends within a storage")
            buffer[at : at + len(part)] = part
            at += len(part)
        return raw


def load(path: Path, consumer: Consumer | None = None, limits: Limits | None = None) -> Any:
    """Read a file of ``torch.save`` in either format.

    Parameters
    ----------
    path
        The file.
    consumer, limits
        As of `Machine`, for the object's pickle.

    Returns
    -------
    Any
        The object: containers, numbers, strings, numpy arrays. Tensors and parameters are read-only views on their
        storages; bfloat16 becomes float32.

    Raises
    ------
    BenchmarkFormatError
        If it is truncated, no such file, or holds anything else.
    """
    limits = limits or Limits()
    try:
        with path.open("rb") as stream:
            begin = stream.read(len(_ZIP))
            stream.seek(0)
            read = _load_zip if begin == _ZIP else _load_legacy
            return read_guarded(lambda: read(stream, path.stat().st_size, consumer, limits), str(path), _KIND)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, struct.error) as error:  # RuntimeError: encrypted
        raise BenchmarkFormatError(f"'{path}' is no intact file of torch.save ({error}). Get it again.") from error
    except OSError as error:
        raise BenchmarkFormatError(f"Cannot read '{path}': {error.strerror or error}.") from error


def head(path: Path, count: int = 2**16) -> bytes:
    """First bytes of the object's pickle; empty if the file is none of ``torch.save``."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as stream:
            begin = stream.read(len(_LEGACY))
            if begin == _LEGACY:
                return stream.read(count)
            if begin[: len(_ZIP)] != _ZIP:
                return b""
            with zipfile.ZipFile(stream) as archive, archive.open(_pickle_of(archive)) as member:
                return member.read(count)
    except (OSError, zipfile.BadZipFile, RuntimeError, struct.error, ValueError, EOFError):
        return b""


def _pickle_of(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise ValueError("it has no data.pkl")
    return _stored(found[0])


def _stored(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"torch compresses nothing, but {info.filename!r:.80} is compressed")
    return info


def _load_zip(stream: BinaryIO, size: int, consumer: Consumer | None, limits: Limits) -> Any:
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(stream))
        member = _pickle_of(archive)
        folder = member.filename.rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        order = "<"
        if f"{prefix}byteorder" in archive.NameToInfo:
            order = ">" if archive.open(f"{prefix}byteorder").read(8) == b"big" else "<"

        def read(key: str, storage: _Storage) -> npt.NDArray[Any]:
            info = _stored(archive.getinfo(f"{prefix}data/{key}"))
            if info.file_size != storage.count * storage.kind.width:
                raise ValueError(f"the storage {key!r:.40} has {info.file_size} bytes, not {storage.count} elements")
            return _filled(storage.kind, np.frombuffer(archive.read(info), np.uint8), order)

        storages = _Storages(size, read)
        pickled: Any = stack.enter_context(archive.open(member))
        machine = Machine(pickled, limits, _names(), consumer, storages.find)
        found = machine.load()
        if machine.rest or pickled.read(1):
            raise ValueError("there is more after the object")
        return found


def _load_legacy(stream: BinaryIO, size: int, consumer: Consumer | None, limits: Limits) -> Any:
    source = _Source(stream)
    if source.pickle(Machine(source, _SMALL)) != _MAGIC:
        raise ValueError("it does not begin as torch.save begins")
    if source.pickle(Machine(source, _SMALL)) != _VERSION:
        raise ValueError("another version of torch.save's format")
    facts = source.pickle(Machine(source, _SMALL))
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise ValueError("from a machine of another byte order")

    def reserve(key: str, storage: _Storage) -> npt.NDArray[Any]:
        # The bytes come after the object; the tensors are views on what will be read into this place.
        del key
        return np.empty(storage.count, _plain(storage.kind))

    storages = _Storages(size, reserve)
    found = source.pickle(Machine(source, limits, _names(), consumer, storages.find))
    keys = source.pickle(Machine(source, limits))
    if not isinstance(keys, list) or len(keys) != len(storages.by_key) or set(keys) != storages.by_key.keys():
        raise ValueError("other storages than those of the tensors")
    for key in keys:
        source.fill_storage(storages.by_key[key])
    if source.read(1):
        raise ValueError("there is more after the storages")
    return found
