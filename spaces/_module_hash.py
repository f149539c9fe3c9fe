"""The official NAS-Bench-101 module hash, computed for whole batches at once."""

from __future__ import annotations

__all__ = ["module_hashes"]

import hashlib

import numpy as np
import numpy.typing as npt

_HEX = 32
_CHUNK = 100_000  # texts assembled at a time: bounds the memory to some tens of megabytes
_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def _md5_rows(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """MD5 of each row of a character matrix, ``uint8[k, 16]``; part of a file format here, not a protection."""
    md5, width = hashlib.md5, text.shape[1]
    view = np.ascontiguousarray(text).reshape(-1).data
    digests = [md5(view[i : i + width], usedforsecurity=False).digest() for i in range(0, len(text) * width, width)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)


def _hex(digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Hexadecimal characters of each digest, ``uint8[k, 32]``."""
    return _DIGITS[np.stack([digests >> 4, digests & 15], axis=-1).reshape(len(digests), _HEX)]


def _sorted_rank(digests: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Sort digests and give the place of each one; distinct states have distinct digests."""
    words = np.ascontiguousarray(digests).view(">u8").astype(np.uint64)
    order = np.lexsort((words[:, 1], words[:, 0]))
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return digests[order], rank


def _join(parts: list[npt.NDArray[np.uint8] | bytes], n: int) -> npt.NDArray[np.uint8]:
    """Write fixed texts and character matrices side by side, ``uint8[n, width]``."""
    columns = [
        np.broadcast_to(np.frombuffer(p, dtype=np.uint8), (n, len(p))) if isinstance(p, bytes) else p for p in parts
    ]
    return np.concatenate(columns, axis=1)


def _distinct(columns: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First row of each distinct row and the number of its group for every row, by a checked 64-bit hash."""
    multipliers = np.random.default_rng(0).integers(1 << 62, size=(columns.shape[1], 2), dtype=np.uint64) | np.uint64(1)
    key = np.zeros(len(columns), dtype=np.uint64)
    for column, (factor, offset) in zip(columns.T, multipliers, strict=True):
        mixed = (column.astype(np.uint64) + offset) * factor
        key = key * np.uint64(0x9E3779B97F4A7C15) + (mixed ^ (mixed >> np.uint64(29)))
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    if not (columns[first[group]] == columns).all():  # a collision: fall back to the exact, slower way
        _, first, group = np.unique(columns, axis=0, return_index=True, return_inverse=True)
        group = group.reshape(-1)
    return first.astype(np.int64), group.astype(np.int64)


def module_hashes(adjacency: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Hash pruned modules of one size as ``graph_util.hash_module`` of google-research/nasbench does.

    Every vertex starts from ``md5(str((out_degree, in_degree, label)))`` and is replaced V times by the
    MD5 of its sorted predecessors' digests, its sorted successors' and its own. Vertices in the same
    state share the digest, so MD5 runs once per distinct state of a round, not once per cell.

    Parameters
    ----------
    adjacency
        ``uint8[n, V, V]``, upper triangular, without vertices off the input-output paths.
    labels
        ``int[n, V]``: -1 for the input, -2 for the output, else the official operation index.

    Returns
    -------
    ``uint8[n, 16]``: the 128-bit digests.
    """
    n, v = labels.shape
    if n == 0:
        return np.zeros((0, 16), dtype=np.uint8)
    into = adjacency.transpose(0, 2, 1).astype(bool)
    out = adjacency.astype(bool)
    start = np.stack([out.sum(axis=2), into.sum(axis=2), labels], axis=-1).reshape(n * v, 3).astype(np.int32)
    first, group = _distinct(start)
    texts = [str(tuple(row)).encode() for row in start[first].tolist()]
    digests = np.concatenate([_md5_rows(np.frombuffer(t, dtype=np.uint8)[None]) for t in texts])
    for _ in range(v):
        # Numbers in the order of the digests, so that sorting numbers sorts digests.
        digests, rank = _sorted_rank(digests)
        own = rank[group].reshape(n, v)
        absent = np.int32(len(digests))
        before = np.sort(np.where(into, own[:, None, :], absent), axis=2)
        after = np.sort(np.where(out, own[:, None, :], absent), axis=2)
        state = np.concatenate([before, after, own[:, :, None]], axis=2).reshape(n * v, 2 * v + 1)
        first, group = _distinct(state)
        digests = _hash_states(state[first], _hex(digests))
    digests, rank = _sorted_rank(digests)
    own = np.sort(rank[group].reshape(n, v), axis=1)
    first, group = _distinct(own)
    names = _hex(digests)
    final = []
    for chunk in np.split(own[first], range(_CHUNK, len(first), _CHUNK)):
        parts: list[npt.NDArray[np.uint8] | bytes] = []
        for column in range(v):  # the text that Python gives for a list of strings
            parts += [b"', '" if column else b"['", names[chunk[:, column]]]
        final.append(_md5_rows(_join([*parts, b"']"], len(chunk))))
    return np.ascontiguousarray(np.concatenate(final)[group])


def _hash_states(states: npt.NDArray[np.int32], names: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Digest of each state ``[sorted before | sorted after | own]``, absent neighbours numbered ``len(names)``."""
    v = states.shape[1] // 2
    absent = len(names)
    num_before = (states[:, :v] != absent).sum(axis=1)
    num_after = (states[:, v : 2 * v] != absent).sum(axis=1)
    digests = np.empty((len(states), 16), dtype=np.uint8)
    shape = num_before * (v + 1) + num_after
    for key in np.unique(shape):  # texts of one shape have one length
        members = np.flatnonzero(shape == key)
        before, after = divmod(int(key), v + 1)
        for chunk in np.split(members, range(_CHUNK, len(members), _CHUNK)):
            row = states[chunk]
            text = _join(
                [
                    names[row[:, :before]].reshape(len(chunk), -1),
                    b"|",
                    names[row[:, v : v + after]].reshape(len(chunk), -1),
                    b"|",
                    names[row[:, -1]],
                ],
                len(chunk),
            )
            digests[chunk] = _md5_rows(text)
    return digests
