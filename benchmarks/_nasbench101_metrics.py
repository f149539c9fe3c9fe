"""What a record of NAS-Bench-101 holds: its text, and the message ``ModelMetrics`` in it.

Layout (google-research/nasbench b942470, ``api.py`` and ``lib/model_metrics.proto``): a JSON list of module hash,
epochs, adjacency matrix, operations and the message in base64. The message has evaluations (field 1: epoch 1, training
seconds 2, accuracies on training 3, validation 4 and test images 5, all doubles), trainable parameters (2) and the
total time (3). Other fields, of which other authors have added some, are passed over.

A layout says which bytes all records of a form have in common and where the values stand between them, so that
thousands of records are taken apart at once. Reading one record goes the same way, by its own layout.
"""

from __future__ import annotations

__all__ = ["EVALUATION", "MetricsLayout", "TextLayout", "metrics_layout", "text_layout"]

import re
from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._protobuf import BYTES, DOUBLE, VARINT, WireError, fields

#: Values of an evaluation, by field number from 1.
EVALUATION = ("epoch", "training_seconds", "train_accuracy", "validation_accuracy", "test_accuracy")

_EVALUATIONS, _PARAMETERS = 1, 2
_TEXT = re.compile(
    rb'\s*\[\s*"(?P<hash>[0-9a-fA-F]{32})"\s*,\s*(?P<epochs>[1-9][0-9]{0,5})\s*,\s*"(?P<adjacency>[01]{4,49})"\s*,'
    rb'\s*"(?P<operations>[a-z0-9,-]+)"\s*,\s*"(?P<metrics>(?:[A-Za-z0-9+/]|\\n)+={0,2}(?:\\n)?)"\s*\]\s*'
)


@dataclass(frozen=True)
class TextLayout:
    """Where the values of a record's text stand.

    Attributes
    ----------
    fixed
        ``int64[k]``: columns that are the same in all records of this form.
    mask
        ``uint8[k]``: which bits of them.
    hash, epochs, adjacency, operations
        Columns of the values.
    metrics
        ``int64[m]``: columns of the base64 digits and the ``=`` behind them, without line breaks.
    """

    fixed: npt.NDArray[np.int64]
    mask: npt.NDArray[np.uint8]
    hash: slice
    epochs: slice
    adjacency: slice
    operations: slice
    metrics: npt.NDArray[np.int64]


@dataclass(frozen=True)
class MetricsLayout:
    """Where the values of the message stand; `fixed` and `mask` as in `TextLayout`.

    Attributes
    ----------
    evaluations
        ``int64[e, 5]``: where each value of each evaluation begins, -1 for one that is not there.
    parameters
        Columns of the number of parameters, seven bits each, the lowest first.
    """

    fixed: npt.NDArray[np.int64]
    mask: npt.NDArray[np.uint8]
    evaluations: npt.NDArray[np.int64]
    parameters: slice


def _compared(mask: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    fixed = np.flatnonzero(mask)
    return fixed, mask[fixed]


def text_layout(text: bytes) -> TextLayout | str:
    """Layout of a record's text, or what is wrong with it."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return (
            "expected a JSON list of module hash, epochs, adjacency matrix, operations and metrics in base64, "
            f"got {text[:60]!r}…"
        )
    spans = {name: slice(*match.span(name)) for name in ("hash", "epochs", "adjacency", "operations", "metrics")}
    adjacency = spans["adjacency"]
    entries = adjacency.stop - adjacency.start
    if isqrt(entries) ** 2 != entries:
        return f"its adjacency matrix has {entries} entries, which is no square"
    mask = np.full(len(text), 255, dtype=np.uint8)
    for name in ("hash", "epochs", "operations"):
        mask[spans[name]] = 0
    mask[adjacency] = 0xFE  # '0' and '1' differ in the last bit
    digits = np.frombuffer(text, dtype=np.uint8)[spans["metrics"]]
    code = digits != ord("\\")
    code[1:] &= digits[:-1] != ord("\\")  # the n of a line break
    metrics = np.flatnonzero(code) + spans["metrics"].start
    if len(metrics) % 4:
        return f"its metrics are {len(metrics)} digits of base64, no multiple of four"
    mask[metrics] = 0
    del spans["metrics"]
    fixed, bits = _compared(mask)
    return TextLayout(fixed, bits, **spans, metrics=metrics)


def metrics_layout(message: bytes) -> MetricsLayout | str:
    """Layout of a message ``ModelMetrics``, or what is wrong with it."""
    mask = np.full(len(message), 255, dtype=np.uint8)
    evaluations, parameters = [], None
    try:
        for field in fields(message):
            place = slice(field.start, field.stop)
            if field.number == _EVALUATIONS and field.kind == BYTES:
                evaluations.append(_evaluation(message, place, mask))
                continue
            mask[place] = 0x80 if field.kind == VARINT else 0
            if field.number == _PARAMETERS and field.kind == VARINT:
                parameters = place
                if not 0 < field.value < 2**31 or field.stop - field.start > 5:
                    return f"its number of trainable parameters is {field.value}"
    except WireError as error:
        return f"its metrics are no message of protocol buffers: {error}"
    if parameters is None:
        return "its number of trainable parameters is missing"
    if not evaluations:
        return "it has no evaluations"
    return MetricsLayout(*_compared(mask), np.array(evaluations, dtype=np.int64), parameters)


def _evaluation(message: bytes, place: slice, mask: npt.NDArray[np.uint8]) -> list[int]:
    """Where the values of an evaluation begin; their bytes are taken from the mask."""
    begins = [-1] * len(EVALUATION)
    for field in fields(message, place.start, place.stop):
        mask[field.start : field.stop] = 0x80 if field.kind == VARINT else 0
        if field.kind == DOUBLE and field.number <= len(begins):
            begins[field.number - 1] = field.start  # of repeated values the last one counts
    return begins
