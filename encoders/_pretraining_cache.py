"""Weights of encoders pretrained on unlabelled spaces, kept in the process and in the data folder."""

from __future__ import annotations

__all__ = ["cache_path", "cached"]

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import UnwritableFolderError, atomic_path, data_folder

_FORMAT = 2  # to be raised whenever training changes: what is cached is then trained anew
_known: dict[str, dict[str, npt.NDArray[Any]]] = {}
_lock = RLock()  # encoders are used from several threads at once; only one of them should train


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps({"format": _FORMAT, **key}, sort_keys=True).encode()).hexdigest()


def cache_path(key: Mapping[str, Any]) -> Path:
    """File of the weights of an encoder; `key` holds its name, its space and all that training depends on."""
    return data_folder() / "encoders" / f"{key['encoder']}-{key['space']}-{_digest(key)[:16]}.safetensors"


def cached(
    key: Mapping[str, Any],
    train: Callable[[], dict[str, npt.NDArray[Any]]],
    complete: Callable[[Mapping[str, npt.NDArray[Any]]], bool],
) -> dict[str, npt.NDArray[Any]]:
    """Return weights from memory, from disk, or from training, which is then remembered in both.

    Parameters
    ----------
    key
        What the weights depend on, JSON types.
    train
        Makes them.
    complete
        Whether arrays read from a file are the ones expected. A file that is damaged or is not
        is ignored and written again; a data folder that cannot be written to is passed over.

    Returns
    -------
    Arrays by name, read-only and shared.
    """
    digest = _digest(key)
    with _lock:
        if digest not in _known:
            path = cache_path(key)
            arrays = _read(path)
            if arrays is None or not complete(arrays):
                arrays = train()
                _write(path, arrays)
            for array in arrays.values():
                array.setflags(write=False)
            _known[digest] = arrays
        return _known[digest]


def _read(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return {k: np.array(v) for k, v in load(path.read_bytes()).items()}
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    from safetensors.numpy import save

    # The cache only saves time: a read-only or full disk is no reason to fail.
    with suppress(UnwritableFolderError), atomic_path(path) as temporary:
        temporary.write_bytes(save(arrays))
