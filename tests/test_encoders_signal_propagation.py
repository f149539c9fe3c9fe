"""Signal propagation against a second implementation: one cell, one pair of vertices at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from tauzero import encoders, spaces
from tauzero.encoders import signal_propagation
from tauzero.spaces import OPERATIONS, NASBench101, SearchSpace

AREA = {"conv_1x1": 1, "conv_3x3": 9, "conv_5x5": 25}
DARTS_AREA = {"sep_conv_3x3": 9, "sep_conv_5x5": 25, "dil_conv_3x3": 9, "dil_conv_5x5": 25}
MACRO_AREA = dict.fromkeys(("block", "block_wide", "block_down", "block_wide_down"), 9)
SIZE_AREA = {f"block_c{channels}": 9 for channels in range(8, 65, 8)}
MOBILE_AREA = {"mb_conv_3x3": 9, "mb_conv_5x5": 25}
GRAPH_AREA = dict.fromkeys(
    (*(f"{k}_conv" for k in ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph")), "linear"), 1
)
KERNELS = AREA | DARTS_AREA | MACRO_AREA | SIZE_AREA | MOBILE_AREA | GRAPH_AREA
POOLS = ("avg_pool_3x3", "max_pool_3x3")
TINY = 1e-6


class Cell:
    """One cell: its parents by vertex, operations and widths."""

    def __init__(
        self, space: SearchSpace, adjacency: npt.NDArray[np.uint8], ops: list[int], widths: list[float]
    ) -> None:
        self.space = space
        self.output = len(ops) - 1
        self.operations = [OPERATIONS[op] for op in ops]
        self.widths = widths
        self.parents = [
            [u for u in range(v) for _ in range(int(adjacency[u, v]))] for v in range(len(ops))
        ]  # a parallel edge is a parent twice

    def area(self, v: int) -> int:
        return KERNELS.get(self.operations[v], 0)

    def of_kind(self, v: int, kind: str) -> bool:
        return {
            "pointwise": self.area(v) == 1,
            "spatial": self.area(v) > 1,
            "pool": self.operations[v] in POOLS,
            "conv": self.area(v) > 0,
        }[kind]

    def paths_back(self, v: int) -> Iterator[tuple[float, list[int]]]:
        """Ways of a walker who goes from a vertex to a random parent of it until there is none, with probabilities."""
        if v == 0 or not self.parents[v]:
            yield 1.0, [v]
            return
        for u in self.parents[v]:
            for probability, path in self.paths_back(u):
                yield probability / len(self.parents[v]), [*path, v]

    def columns(self) -> dict[str, float]:
        """Features of the cell by name."""
        found: dict[str, float] = {}
        vertices = range(self.output + 1)
        for kind in ("pointwise", "spatial", "pool"):
            widths = [self.widths[v] for v in vertices if self.of_kind(v, kind)]
            found[f"width[{kind}]"] = sum(widths)
            found[f"log_width[{kind}]"] = sum(math.log(w) for w in widths)
            found[f"square_width[{kind}]"] = sum(w * w for w in widths)
            found[f"max_width[{kind}]"] = max(widths, default=0.0)
        inner = range(1, self.output)
        found["read_width"] = sum(self.widths[v] for v in inner for u in self.parents[v] if u == 0)
        for kind in ("pointwise", "spatial", "pool", "conv"):
            counts = [
                (probability, sum(self.of_kind(v, kind) for v in path if v > 0))
                for probability, path in self.paths_back(self.output)
            ]
            mean = sum(p * c for p, c in counts)
            found[f"mean[{kind}]"] = mean
            found[f"spread[{kind}]"] = math.sqrt(sum(p * (c - mean) ** 2 for p, c in counts))
        for name in ("synflow", "double", "half"):
            found[f"log_gain[{name}]"] = math.log(self.gain(name, self.output) + TINY)
        for random, similar in ((0.3, 0.9), (0.0, 0.5)):
            signal = (1.0, random, similar)
            for k in range(3):
                (power, common, alike), log_variances = Moments(self, signal).at_output()
                found[f"log_power[{random},{k}]"] = math.log(max(power, TINY))
                found[f"similarity[{random},{k}]"] = min(max((alike - common) / max(power - common, TINY), -1), 2)
                found[f"common[{random},{k}]"] = common / max(power, TINY)
                found[f"log_variances[{random},{k}]"] = log_variances
                signal = (power / max(power, TINY), common / max(power, TINY), alike / max(power, TINY))
        return found

    def gain(self, name: str, v: int) -> float:
        """Sum over paths from the input to a vertex of the product of gains."""
        if v == 0:
            return 1.0
        own = 1.0
        if self.area(v):
            own = {"synflow": 4 * math.sqrt(self.area(v) * self.widths[v]), "double": 2.0, "half": 0.5}[name]
        return own * sum(self.gain(name, u) for u in self.parents[v])


class Moments:
    """Second moments at vertices: (one image, two random ones, two similar ones), pair by pair, by recursion."""

    def __init__(self, cell: Cell, signal: tuple[float, float, float]) -> None:
        self.cell = cell
        self.signal = signal
        if cell.space.projects_input:
            self.signal = self.rectified(signal)
        self.joint = cache(self._joint)

    @staticmethod
    def rectified(before: tuple[float, ...]) -> tuple[float, float, float]:
        """After batch norm, which leaves random images uncorrelated, and ReLU, by the arc-cosine kernel of degree 1."""
        power, common, similar = before
        c = min(max((similar - common) / max(power - common, TINY), 0.0), 1.0)
        angle = math.acos(c)
        kernel = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
        return 0.5, 1 / (2 * math.pi), kernel

    def summed(self, v: int) -> tuple[float, ...]:
        """Second moments of the sum of what a vertex reads."""
        parents = self.cell.parents[v]
        return tuple(sum(self.joint(max(a, b), min(a, b))[k] for a in parents for b in parents) for k in range(3))

    def _joint(self, v: int, w: int) -> tuple[float, float, float]:
        """Of the signals at two vertices, v ≥ w."""
        if v == w == 0:
            return self.signal
        if v == w:
            if self.cell.area(v):
                return self.rectified(self.summed(v))
            power, common, similar = self.summed(v)
            keep = 0.5 if self.cell.operations[v] in POOLS else 1.0
            return common + keep * (power - common), common, common + keep * (similar - common)
        if self.cell.area(v):
            both = math.sqrt(max(self.joint(v, v)[1] * self.joint(w, w)[1], 0.0))
            return both, both, both
        parts = [self.joint(max(u, w), min(u, w)) for u in self.cell.parents[v]]
        return sum(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)

    def at_output(self) -> tuple[tuple[float, ...], float]:
        """Moments of the cell's output, and the sum of the logarithms of the variances before batch norm."""
        cell = self.cell
        log_variances = 0.0
        for v in range(cell.output + 1):
            if cell.area(v):
                power, common, _ = self.summed(v)
                log_variances += math.log(max(power - common, TINY))
        if not cell.space.concatenates:
            return self.joint(cell.output, cell.output), log_variances
        reads = cell.parents[cell.output]
        beside = 0
        if cell.space.projects_input:
            beside, reads = reads.count(0), [u for u in reads if u != 0]
        joined = [sum(self.joint(u, u)[k] for u in reads) / max(len(reads), 1) for k in range(3)]
        return tuple(j + beside * s for j, s in zip(joined, self.joint(0, 0), strict=True)), log_variances


def slow(space: SearchSpace, rows: spaces.Genotypes) -> npt.NDArray[np.float64]:
    """What the encoder gives for rows as they stand, ``float64[n, d]``."""
    kinds = space.cells(rows)
    names = encoders.create("signal_propagation", space).feature_names
    found: list[dict[str, float]] = [{} for _ in rows]
    for kind, graphs in kinds.items():
        widths = space.vertex_widths(graphs)
        for i in range(len(rows)):
            size = int(graphs.num_nodes[i])
            cell = Cell(space, graphs.adjacency[i], graphs.ops[i, :size].tolist(), widths[i, :size].tolist())
            end = f"@{kind}" if len(kinds) > 1 else ""
            found[i] |= {f"{name}{end}": value for name, value in cell.columns().items()}
    assert all(set(one) == set(names) for one in found)
    return np.array([[one[name] for name in names] for one in found])


@pytest.mark.parametrize("name", spaces.names())
def test_against_one_vertex_after_the_other(name: str) -> None:
    space = spaces.get(name)
    rows = space.sample(25, 3)
    encoder = encoders.create("signal_propagation", space, canonical=False)
    np.testing.assert_allclose(encoder.transform(rows), slow(space, rows), rtol=2e-4, atol=2e-4)


def test_cells_without_a_way_through() -> None:
    space = spaces.get("nasbench201")
    rows = np.array([[0] * 6, [0, 0, 0, 3, 0, 0], [1] * 6, [3, 0, 0, 0, 0, 0]], dtype=np.int8)
    encoder = encoders.create("signal_propagation", space, canonical=False)
    np.testing.assert_allclose(encoder.transform(rows), slow(space, rows), rtol=2e-4, atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_vertices_does_not_matter(seed: int) -> None:
    """Isomorphic cells as they stand: the same but for rounding, and for channels where a split leaves some over."""
    space = spaces.get("nasbench101")
    assert isinstance(space, NASBench101)
    rng = np.random.default_rng(seed)
    rows = space.sample(8, seed)
    moved = []
    for row, matrix in zip(rows, space.adjacency(rows), strict=True):
        order = [0]
        while len(order) < 6:  # inner vertices in another order in which edges still go forwards
            ready = [v for v in range(1, 6) if v not in order and set(np.flatnonzero(matrix[:, v])) <= set(order)]
            order.append(int(rng.choice(ready)))
        order.append(6)
        moved.append(space.from_matrices(matrix[np.ix_(order, order)][None], row[None, 20 + np.array(order[1:6])])[0])
    encoder = encoders.create("signal_propagation", space, canonical=False)
    for name, one, other in zip(
        encoder.feature_names, encoder.transform(rows).T, encoder.transform(np.array(moved)).T, strict=True
    ):
        # Of 128 channels the first vertices take one more: 1/128 of the width of each of up to five vertices.
        by_width = "width" in name or "synflow" in name
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=0.15 if by_width else 1e-4, err_msg=name)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_rectified_moments_are_those_of_normal_variables(correlation: float) -> None:
    """E[relu(a) relu(b)] by integration over a; given a, b is normal and its rectified mean known."""

    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def rectified_mean(mean: float, deviation: float) -> float:
        if deviation == 0:
            return max(mean, 0.0)
        t = mean / deviation
        return mean * 0.5 * math.erfc(-t / math.sqrt(2)) + deviation * density(t)

    rest = math.sqrt(1 - correlation**2)
    expected = quad(lambda a: a * rectified_mean(correlation * a, rest) * density(a), 0, 12)[0]
    variance = np.array([2.0], dtype=np.float32)
    one, random, similar = signal_propagation._rectified(variance, np.float32(correlation) * variance)[:, 0]
    assert similar == pytest.approx(expected, abs=1e-5)
    assert one == pytest.approx(quad(lambda a: a * a * density(a), 0, 12)[0], abs=1e-6)
    assert random == pytest.approx(quad(lambda a: a * density(a), 0, 12)[0] ** 2, abs=1e-6)


def test_identities_keep_the_signal() -> None:
    """A skip connection alone changes nothing; convolutions with batch norm make two images less and less alike."""
    space = spaces.get("nasbench201")
    rows = np.array([[0, 0, 0, 1, 0, 0], [0, 0, 0, 3, 0, 0]], dtype=np.int8)
    encoder = encoders.create("signal_propagation", space)
    skip, convolution = (dict(zip(encoder.feature_names, r.tolist(), strict=True)) for r in encoder.transform(rows))
    for cell in range(3):
        assert skip[f"log_power[0.3,{cell}]"] == pytest.approx(0, abs=1e-6)
        assert skip[f"similarity[0.3,{cell}]"] == pytest.approx((0.9 - 0.3) / (1 - 0.3), abs=1e-5)
        assert skip[f"common[0.0,{cell}]"] == 0
        assert skip[f"log_variances[0.0,{cell}]"] == 0
    first, second, third = (convolution[f"similarity[0.0,{cell}]"] for cell in range(3))
    assert (skip["mean[conv]"], convolution["mean[conv]"], convolution["mean[spatial]"]) == (0, 1, 1)
    assert 0.5 > first > second > third > 0.0
