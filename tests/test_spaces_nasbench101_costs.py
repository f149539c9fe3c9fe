"""Channels, parameters and multiply-adds of NAS-Bench-101: the published rule, figures and table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tauzero import spaces
from tauzero.benchmarks._nasbench101_parquet import genotypes_of_codes
from tauzero.spaces import NASBench101
from tauzero.spaces._nasbench101_costs import vertex_channels

SPACE = spaces.get("nasbench101")
assert isinstance(SPACE, NASBench101)

#: The example of the README of google-research/nasbench. Its notebook gives the number of parameters.
INCEPTION = (
    "0111010000000100000010000100000000100000010000000:"
    "input,conv1x1-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,maxpool3x3,output"
)
INCEPTION_PARAMETERS = 2_694_282


def plain_channels(matrix: np.ndarray, reads: int, channels: int) -> list[int]:
    """The official rule, vertex by vertex (nasbench, model_builder.py, compute_vertex_channels)."""
    last = len(matrix) - 1
    width = [reads, *[0] * (last - 1), channels]
    if last == 1:
        return width
    feeding = [v for v in range(1, last) if matrix[v, last]]
    for place, v in enumerate(feeding):
        width[v] = channels // len(feeding) + (place < channels % len(feeding))
    for v in range(last - 2, 0, -1):
        if not matrix[v, last]:
            width[v] = max(width[w] for w in range(v + 1, last) if matrix[v, w])
    return width


def plain_convolutions(matrix: np.ndarray, operations: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Kernel area, channels in and out, and side of the image of every convolution of a network, in order."""
    last = len(matrix) - 1
    yield 9, 3, 128, 32
    reads = 128
    for stack in range(3):
        channels, side = 128 * 2**stack, 32 // 2**stack
        for _ in range(3):
            width = plain_channels(matrix, reads, channels)
            for v in range(1, last + 1):
                if matrix[0, v]:
                    yield 1, reads, width[v], side
                if operations[v].startswith("conv"):
                    yield {"conv1x1-bn-relu": 1, "conv3x3-bn-relu": 9}[operations[v]], width[v], width[v], side
            reads = channels


def plain_costs(matrix: np.ndarray, operations: list[str]) -> tuple[int, int]:
    convolutions = list(plain_convolutions(matrix, operations))
    weights = [area * a * b for area, a, b, _ in convolutions]
    norms = sum(2 * b for _, _, b, _ in convolutions)
    adds = sum(w * side**2 for w, (_, _, _, side) in zip(weights, convolutions, strict=True))
    return sum(weights) + norms + 512 * 10 + 10, adds + 512 * 10


def cells(rows: np.ndarray) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Pruned matrices and operations, read from the notation of the space."""
    for text in SPACE.to_string(rows):
        bits, _, names = text.partition(":")
        operations = names.split(",")
        yield np.array(list(bits), dtype=int).reshape(len(operations), len(operations)), operations


@pytest.mark.parametrize("channels", [128, 256, 512, 7])
def test_channels_against_the_official_rule(channels: int) -> None:
    rows = SPACE.canonical(SPACE.sample(300, channels))
    graphs = SPACE.graphs(rows)
    assert set(graphs.num_nodes.tolist()) >= {5, 6, 7}
    for found, (matrix, _) in zip(vertex_channels(graphs, channels).tolist(), cells(rows), strict=True):
        inner = plain_channels(matrix, 128, channels)[1:-1]
        assert found == [0, *inner, *[0] * (6 - len(inner))]


def test_widths_are_shares_of_the_channels() -> None:
    rows = SPACE.from_string([INCEPTION, "0100:input,output"])
    graphs = SPACE.graphs(rows)
    widths = SPACE.vertex_widths(graphs)
    for row, (matrix, _) in zip(widths, cells(rows), strict=True):
        expected = [c / 128 for c in plain_channels(matrix, 128, 128)]
        assert row.tolist() == [*expected, *[0.0] * (7 - len(expected))]
    # Four vertices share the channels of the example, and its input is seen whole.
    assert sorted(widths[0].tolist()) == [0.25] * 5 + [1.0] * 2


def test_costs_layer_by_layer() -> None:
    rows = np.concatenate([SPACE.canonical(SPACE.sample(200, 1)), SPACE.from_string(["0100:input,output"])])
    parameters, multiply_adds = SPACE.costs(rows)
    assert parameters.dtype == multiply_adds.dtype == np.int64
    expected = [plain_costs(*cell) for cell in cells(rows)]
    assert list(zip(parameters.tolist(), multiply_adds.tolist(), strict=True)) == expected
    np.testing.assert_allclose(SPACE.descriptors(rows), np.log(expected), rtol=1e-14)


def test_published_parameters_of_the_example() -> None:
    assert SPACE.costs(SPACE.from_string([INCEPTION]))[0].tolist() == [INCEPTION_PARAMETERS]


def test_parameters_are_the_published_ones(shared_data: Path) -> None:
    columns = ["n_vertices", "adj_bits", "ops_base3", "params"]
    table = pd.read_parquet(shared_data / "nb101" / "nb101.parquet", columns=columns)
    rows = genotypes_of_codes(*(table[name].to_numpy() for name in columns[:3]))
    assert len(rows) == 423_624
    np.testing.assert_array_equal(SPACE.costs(rows)[0], table["params"])
