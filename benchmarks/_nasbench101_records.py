"""Records of NAS-Bench-101 as arrays, thousands at a time."""

from __future__ import annotations

__all__ = ["VALUES", "Records", "read_block"]

import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._nasbench101_metrics import (
    EVALUATION,
    MetricsLayout,
    TextLayout,
    metrics_layout,
    text_layout,
)
from tauzero.benchmarks._tfrecord import Block
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, NASBench101

#: Values of a record: those at the end of the training, then those halfway.
VALUES = (*EVALUATION[1:], *(f"{name}_halfway" for name in EVALUATION[1:]))

_MOST_LAYOUTS = 64  # forms of records of one length; what has more of them is read one by one
_CLOSE = 0.01  # an epoch is recorded as steps divided by the steps of an epoch, which is not exact halfway
_Layout = TypeVar("_Layout", TextLayout, MetricsLayout)
_Bytes = npt.NDArray[np.uint8]
_Rows = npt.NDArray[np.int64]


class _FoundError(ValueError):
    """Something wrong with one of several records; which one is found by reading them singly."""


@dataclass(frozen=True)
class Records:
    """Records of a block, in their order.

    Attributes
    ----------
    cell
        ``int32[n]``: `space.index` of the cell.
    hash
        ``uint8[n, 16]``: module hash as stored.
    epochs
        ``int32[n]``: epochs that the training was planned for.
    parameters
        ``int32[n]``.
    values
        ``float32[n, 8]``: `VALUES`, accuracies in percent, times in seconds; NaN where there is none. The doubles in
        the files hold single-precision numbers.
    elsewhere
        ``bool[n]``: whether there are evaluations between start and end of which none is halfway.
    """

    cell: npt.NDArray[np.int32]
    hash: npt.NDArray[np.uint8]
    epochs: npt.NDArray[np.int32]
    parameters: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    elsewhere: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, n: int) -> Records:
        """Room for n records."""
        return cls(
            np.zeros(n, np.int32),
            np.zeros((n, 16), np.uint8),
            np.zeros(n, np.int32),
            np.zeros(n, np.int32),
            np.zeros((n, len(VALUES)), np.float32),
            np.zeros(n, np.bool_),
        )


def read_block(space: NASBench101, block: Block) -> Records:
    """Read all records of a block.

    Raises
    ------
    BenchmarkFormatError
        If one is no record of NAS-Bench-101, naming it.
    """
    records = Records.empty(len(block))
    order = np.argsort(block.lengths, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(block.lengths[order])) + 1):
        if not len(rows):
            continue
        width = int(block.lengths[rows[0]])
        if width == 0:
            raise BenchmarkFormatError(f"{block.named(int(rows[0]))} is empty.")
        texts = np.lib.stride_tricks.sliding_window_view(block.data, width)[block.starts[rows]]
        for layout, some in _alike(texts, text_layout):
            if isinstance(layout, str):
                raise BenchmarkFormatError(f"{block.named(int(rows[some[0]]))} is no cell: {layout}.")
            try:
                _take(space, texts[some], layout, rows[some], records)
            except _FoundError:
                _one_by_one(space, block, texts[some], layout, rows[some], records=records)
    return records


def _one_by_one(
    space: NASBench101, block: Block, texts: _Bytes, layout: TextLayout, rows: _Rows, *, records: Records
) -> None:
    for k in range(len(rows)):
        try:
            _take(space, texts[k : k + 1], layout, rows[k : k + 1], records)
        except _FoundError as error:
            raise BenchmarkFormatError(f"{block.named(int(rows[k]))} is no training of a cell: {error}.") from error


def _alike(matrix: _Bytes, layout_of: Callable[[bytes], _Layout | str]) -> Iterator[tuple[_Layout | str, _Rows]]:
    """Yield groups of rows of one layout, or a single row and what is wrong with it."""
    left: _Rows = np.arange(len(matrix), dtype=np.int64)
    for number in range(len(matrix)):
        if not len(left):
            return
        template = matrix[left[0]]
        layout = layout_of(template.tobytes())
        if isinstance(layout, str) or number >= _MOST_LAYOUTS:
            yield layout, left[:1]
            left = left[1:]
            continue
        # The first rows mostly are all that there are: no need to copy them then.
        rows = matrix if len(left) == len(matrix) else matrix[left]
        same = ~((rows[:, layout.fixed] ^ template[layout.fixed]) & layout.mask).any(axis=1)
        yield layout, left[same]
        left = left[~same]


def _take(space: NASBench101, texts: _Bytes, layout: TextLayout, rows: _Rows, records: Records) -> None:
    """Read records of one text layout into their places.

    Raises
    ------
    _FoundError
        If there is something wrong with one of them.
    """
    try:
        digests = binascii.unhexlify(texts[:, layout.hash].tobytes())
    except binascii.Error:
        raise _FoundError("its module hash must be 32 hexadecimal digits") from None
    records.hash[rows] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)
    records.epochs[rows] = _number(texts[:, layout.epochs])
    records.cell[rows] = _cells(space, texts, layout)
    for messages, group in _decoded(texts[:, layout.metrics]):
        for metrics, some in _alike(messages, metrics_layout):
            if isinstance(metrics, str):
                raise _FoundError(metrics)
            chosen, places = messages[some], rows[group[some]]
            digits = chosen[:, metrics.parameters].astype(np.int64) & 127
            total = (digits << 7 * np.arange(digits.shape[1])).sum(axis=1)
            if ((total <= 0) | (total >= 2**31)).any():
                raise _FoundError(f"its number of trainable parameters is {total[0]}")
            records.parameters[places] = total
            values, elsewhere = _chosen(_doubles(chosen, metrics), records.epochs[places])
            records.values[places], records.elsewhere[places] = values, elsewhere


def _number(digits: _Bytes) -> npt.NDArray[np.int64]:
    values = digits.astype(np.int64) - ord("0")
    if ((values < 0) | (values > 9)).any() or (values[:, 0] == 0).any():
        raise _FoundError("its epochs must be a number")
    total: npt.NDArray[np.int64] = values @ 10 ** np.arange(values.shape[1] - 1, -1, -1)
    return total


def _cells(space: NASBench101, texts: _Bytes, layout: TextLayout) -> npt.NDArray[np.int64]:
    """`space.index` of the adjacency matrices and operations, ``int64[n]``."""
    matrix = texts[:, layout.adjacency] & 1
    k = isqrt(matrix.shape[1])
    lists, which = _distinct(texts[:, layout.operations])
    codes = np.zeros((len(lists), k - 2), dtype=np.int8)
    for row, text in zip(codes, lists, strict=True):
        row[:] = _operations(space.operations, text, k)
    try:
        return space.index(space.from_matrices(matrix.reshape(-1, k, k), codes[which]))
    except InvalidGenotypeError as error:
        raise _FoundError(f"its cell is not in the space: {error}") from error


def _distinct(texts: _Bytes) -> tuple[list[bytes], npt.NDArray[np.intp]]:
    """Different rows, and which of them each row is: by a 64-bit key, and compared."""
    n, width = texts.shape
    padded = np.zeros((n, -(-width // 8) * 8), dtype=np.uint8)
    padded[:, :width] = texts
    factors = np.random.default_rng(0).integers(1 << 62, size=padded.shape[1] // 8, dtype=np.uint64) * 2 + 1
    keys = (padded.view("<u8") * factors).sum(axis=1, dtype=np.uint64)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    if not (padded[first][which] == padded).all():  # two texts with one key
        return [row.tobytes() for row in texts], np.arange(n)
    return [row.tobytes() for row in texts[first]], which.reshape(-1)


@lru_cache(maxsize=1024)
def _operations(names: tuple[str, ...], text: bytes, vertices: int) -> list[int]:
    """Codes of the inner vertices."""
    words = text.decode("ascii", "replace").split(",")
    if len(words) != vertices or words[0] != "input" or words[-1] != "output" or not set(words[1:-1]) <= set(names):
        raise _FoundError(
            f"expected {vertices} operations: input, then some of {', '.join(names)}, and output; got {words}"
        )
    return [names.index(word) for word in words[1:-1]]


def _decoded(digits: _Bytes) -> Iterator[tuple[_Bytes, _Rows]]:
    """Metrics out of base64 ``uint8[n, m]``: messages of equal length ``uint8[k, l]``, and whose they are."""
    filler = digits[:, -2:] == ord("=")
    digits[:, -2:][filler] = ord("A")  # so that all rows are one long text
    try:
        data = binascii.a2b_base64(digits.tobytes(), strict_mode=True)
    except binascii.Error as error:
        raise _FoundError(f"its metrics are no base64: {error}") from None
    messages = np.frombuffer(data, dtype=np.uint8).reshape(len(digits), -1)
    lacking = filler.sum(axis=1)
    for number in np.unique(lacking).tolist():
        rows = np.flatnonzero(lacking == number)
        yield messages[rows, : messages.shape[1] - number], rows


def _doubles(messages: _Bytes, layout: MetricsLayout) -> npt.NDArray[np.float64]:
    """Values of the evaluations, ``float64[n, e, 5]``, NaN for those that are not there."""
    values = np.full((len(messages), *layout.evaluations.shape), np.nan)
    e, v = np.nonzero(layout.evaluations >= 0)
    places = layout.evaluations[e, v]
    raw = messages[:, (places[:, None] + np.arange(8)).reshape(-1)]
    values[:, e, v] = np.ascontiguousarray(raw).view("<f8")
    return values


def _chosen(
    evaluations: npt.NDArray[np.float64], epochs: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Values at the end and halfway, and whether there are others between start and end instead.

    The end is the last evaluation, as in the authors' ``api.py``; halfway is the one whose epoch is that.
    """
    evaluations = np.where(np.isnan(evaluations), np.nan, evaluations)  # signalling ones give warnings
    if np.isinf(evaluations).any():
        raise _FoundError("it has an infinite value")
    if (evaluations < 0).any() or (evaluations[:, :, 2:] > 1).any():
        raise _FoundError("its accuracies must lie in [0, 1], its times and epochs must not be negative")
    at = evaluations[:, :, 0]
    if (np.abs(at[:, -1] - epochs) > _CLOSE * epochs).any():
        raise _FoundError(f"its last evaluation is after {at[0, -1]:g} epochs, not after {epochs[0]}")
    between = at[:, 1:-1]
    final = evaluations[:, -1, 1:]
    half = np.full(final.shape, np.nan)
    near = np.abs(2.0 * between - epochs[:, None]) <= _CLOSE * epochs[:, None]
    there = near.any(axis=1)
    if there.any():
        half[there] = evaluations[there, 1 + near[there].argmax(axis=1), 1:]
    values = np.concatenate([final, half], axis=1) * np.array([1.0, 100.0, 100.0, 100.0] * 2)
    with np.errstate(over="raise"):
        try:
            return values.astype(np.float32), ~there & (evaluations.shape[1] > 2)
        except FloatingPointError:
            raise _FoundError("it has a value that is too large") from None
