"""Writer of NAS-Bench-101's TFRecord files, from the documented layouts alone, with made-up trainings.

The layouts: TensorFlow's ``core/lib/io/record_writer.h`` (framing), RFC 3720 (CRC-32C), protobuf.dev (wire format),
google-research/nasbench b942470 ``api.py`` and ``lib/model_metrics.proto`` (records).
"""

import base64
import json
import struct
from pathlib import Path

import numpy as np

from tauzero import spaces

_TABLE = []
for _byte in range(256):
    _state = _byte
    for _ in range(8):
        _state = (_state >> 1) ^ (0x82F63B78 if _state & 1 else 0)
    _TABLE.append(_state)


def crc32c(data):
    """Byte by byte."""
    state = 0xFFFFFFFF
    for byte in data:
        state = _TABLE[(state ^ byte) & 255] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def mask(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crcs(texts):
    return [crc32c(text) for text in texts]


def write(path, payloads, checksums=crcs):
    """Write records; `checksums` turns a list of texts into their CRC-32C (a faster one for large files)."""
    lengths = [struct.pack("<Q", len(p)) for p in payloads]
    frames = zip(lengths, checksums(lengths), payloads, checksums(payloads), strict=True)
    with Path(path).open("ab") as stream:
        stream.writelines(
            length + struct.pack("<I", mask(head)) + payload + struct.pack("<I", mask(body))
            for length, head, payload, body in frames
        )
    return Path(path)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def double(number, value):
    return varint(number << 3 | 1) + struct.pack("<d", value)


def nested(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(evaluations, parameters, total_time=1.0, extra=b""):
    """``ModelMetrics``; an evaluation is epoch, seconds and the accuracies on training, validation and test images."""
    parts = [nested(1, b"".join(double(k + 1, v) for k, v in enumerate(e) if v is not None)) for e in evaluations]
    tail = b"" if parameters is None else varint(2 << 3) + varint(parameters)
    return b"".join(parts) + tail + double(3, total_time) + extra


def record(module_hash, epochs, adjacency, operations, metrics, encode=base64.encodebytes, **options):
    return json.dumps([module_hash, epochs, adjacency, operations, encode(metrics).decode("ascii")], **options).encode()


def described(cells):
    """Hash, adjacency, operations and parameters of cells by their number, as the official records have them."""
    space = spaces.get("nasbench101")
    rows = space.enumerate()[np.asarray(cells, dtype=np.int64)]
    strings = [text.split(":") for text in space.to_string(rows)]
    return [
        (h, a, o, int(p)) for h, (a, o), p in zip(space.hash_strings(rows), strings, space.costs(rows)[0], strict=True)
    ]


def made_up(n, epochs, final, rng):
    """``float64[n, 3, 5]``: start, halfway and end of trainings that end with the test accuracies `final` (in [0, 1]).

    Single-precision numbers, as the genuine ones; the rest of a training is invented around its end.
    """
    values = np.empty((n, 3, 5))
    values[:, :, 0] = [0.0, epochs / 2, epochs]
    values[:, 2, 1] = epochs * rng.uniform(5, 50, n)
    values[:, 1, 1] = values[:, 2, 1] / 2
    values[:, 0, 1] = 0.0
    values[:, 0, 2:] = 0.1 + rng.normal(0, 1e-3, (n, 3))
    values[:, 2, 2:] = np.clip(np.asarray(final)[:, None] + np.array([0.06, 0.003, 0.0]), 0, 1)
    values[:, 1, 2:] = 0.8 * values[:, 2, 2:]
    return values.astype(np.float32).astype(np.float64)


def payloads(cells, budgets=(108,), repeats=3, seed=0, encode=base64.encodebytes):
    """Records of cells, the repeats of a budget in a row, and the values ``float64[cells, budgets, repeats, 3, 5]``."""
    rng = np.random.default_rng(seed)
    facts = described(cells)
    n = len(facts)
    values = np.stack(
        [np.stack([made_up(n, e, rng.uniform(0.5, 0.94, n), rng) for _ in range(repeats)], axis=1) for e in budgets],
        axis=1,
    )
    texts = [
        record(module_hash, e, adjacency, operations, message(values[i, b, r].tolist(), parameters), encode)
        for i, (module_hash, adjacency, operations, parameters) in enumerate(facts)
        for b, e in enumerate(budgets)
        for r in range(repeats)
    ]
    return texts, values


def small(folder):
    """A valid file of some kilobytes: six cells, two budgets, two runs."""
    return write(Path(folder) / "small.tfrecord", payloads([0, 1, 5, 40, 2_000, 400_000], (4, 108), 2)[0])


FUZZ = {"nasbench101-tfrecord": small}
