"""Simulated flow and similarities to landmarks, against a recursion over one cell at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tauzero import encoders, spaces
from tauzero.encoders import Computation
from tauzero.encoders._pretraining_flow import _apply, _weights, flow_vectors, flow_width
from tauzero.spaces import OPERATIONS, CellGraphs, SearchSpace, operation_code


@pytest.fixture(params=spaces.names())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.get(request.param)


def plain_flow(graphs: CellGraphs, i: int, head: int, seed: int, backward: bool) -> npt.NDArray[np.float64]:
    """What arrives at the other end of one cell, by recursion over the vertices that feed one."""
    edges = graphs.adjacency[i].T if backward else graphs.adjacency[i]
    names = [OPERATIONS[code] for code in graphs.ops[i].tolist()]
    source, target = ("output", "input") if backward else ("input", "output")
    start = np.random.default_rng([seed, head, int(backward)]).normal(size=32)

    def state(v: int) -> npt.NDArray[np.float64]:
        if names[v] == "none":
            return np.zeros(32)
        if names[v] == source:
            return start
        arriving = np.zeros(32)
        for u in np.flatnonzero(edges[:, v]).tolist():
            arriving = arriving + float(edges[u, v]) * state(u)
        if names[v].startswith("conv"):
            return np.maximum(_weights(names[v], seed, head, backward).T @ arriving, 0.0)
        return _apply(names[v], arriving[None], seed, head, backward)[0]

    return state(names.index(target))


def test_flow_of_one_cell_at_a_time(space: SearchSpace) -> None:
    rows = space.sample(12, 0)
    for graphs in space.cells(rows).values():
        flow = flow_vectors(graphs, heads=2, seed=5)
        assert flow.shape == (12, flow_width(2))
        for i in range(len(rows)):
            parts = [plain_flow(graphs, i, head, 5, backward) for head in (0, 1) for backward in (False, True)]
            np.testing.assert_allclose(flow[i], np.concatenate(parts), rtol=1e-9, atol=1e-9)


def test_maps_of_operations() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 32))
    signal = x.reshape(3, 8, 4)
    for name in ("skip_connect", "sum"):
        np.testing.assert_array_equal(_apply(name, x, 0, 0, False), x)
    pooled = _apply("avg_pool_3x3", x, 0, 0, False).reshape(3, 8, 4)
    np.testing.assert_allclose(pooled[1, 7, 2], (signal[1, 6, 2] + signal[1, 7, 2] + signal[1, 0, 2]) / 3)
    pooled = _apply("max_pool_3x3", x, 0, 0, False).reshape(3, 8, 4)
    assert pooled[2, 4, 1] == signal[2, 3:6, 1].max()
    # A 1×1 convolution mixes the channels of a position, a 3×3 one reads the neighbours' too.
    for name, reach in (("conv_1x1", {0}), ("conv_3x3", {7, 0, 1}), ("dil_conv_3x3", {6, 0, 2})):
        matrix = _weights(name, 0, 0, False).reshape(8, 4, 8, 4)
        assert set(np.flatnonzero(matrix[:, 0, 0, 0]).tolist()) == reach
        assert np.array_equal(matrix[3, 1, 3, 2], matrix[5, 1, 5, 2])
    many = rng.normal(size=(20_000, 32))
    out = np.mean([(_apply("conv_3x3", many[:500], s, 0, False) ** 2).mean() for s in range(60)])
    assert out == pytest.approx(1.0, rel=0.1)  # He's scale keeps the second moment


def test_cells_without_a_path_have_no_flow() -> None:
    space = spaces.get("nasbench201")
    rows = space.sample(300, 1)
    flow = flow_vectors(space.graphs(rows), heads=1, seed=0)
    open_ = space.is_connected(rows)
    assert 0 < (~open_).sum() < len(rows)
    assert not flow[~open_].any()
    assert flow[open_].any(axis=1).mean() > 0.95  # a rectifier may shut off a whole narrow cell


def test_similarities_are_those_of_flow() -> None:
    space = spaces.get("nasbench101")
    rows = space.sample(40, 2)
    encoder = Computation(space, landmarks=8, heads=1, sample=300, canonical=False)
    landmarks, scale = encoder._landmarks
    flow = flow_vectors(space.graphs(rows), heads=1, seed=0)
    squashed = np.sign(flow) * np.log(1 + np.abs(flow))
    distance = np.sqrt(((squashed[:, None] - landmarks) ** 2).mean(axis=2))
    np.testing.assert_allclose(encoder.transform(rows), np.exp(-distance / scale), rtol=1e-5)


def test_landmarks_are_far_apart() -> None:
    """Gonzalez's choice: the least distance between the first k never grows with k, and beats a random choice."""
    space = spaces.get("nasbench101")
    encoder = Computation(space, landmarks=20, heads=1, sample=500)
    landmarks, _ = encoder._landmarks
    assert landmarks.shape == (20, flow_width(1))

    def least(x: npt.NDArray[np.float64]) -> float:
        gaps = np.sqrt(((x[:, None] - x) ** 2).mean(axis=2))
        return float(gaps[np.triu_indices(len(x), 1)].min())

    gaps = [least(landmarks[:k]) for k in range(2, 21)]
    assert (np.diff(gaps) <= 1e-12).all()
    others = encoder._flow(space.canonical(space.sample(20, 9)))
    assert gaps[-1] > 2 * least(others)


def test_a_landmark_is_one_to_itself_and_few_computations_give_few_landmarks() -> None:
    space = spaces.get("nasbench201")
    encoder = Computation(space, landmarks=64, sample=30, seed=3)
    rows = space.sample(30, 3, unique=True)
    features = encoder.transform(rows)
    assert encoder.dimension < 30
    np.testing.assert_array_equal(np.sort(features.max(axis=0)), np.ones(encoder.dimension))
    assert (features > 0).all()
    assert (features <= 1).all()


def test_without_the_canonical_form_vertex_order_does_not_matter() -> None:
    space = spaces.get("darts")
    rows = space.sample(50, 4)
    encoder = Computation(space, sample=100, landmarks=10, canonical=False)
    np.testing.assert_allclose(encoder.transform(rows), encoder.transform(space.canonical(rows)), rtol=1e-5)


def test_seed() -> None:
    one, same, other = (Computation("nasbench201", sample=100, landmarks=5, seed=seed) for seed in (0, 0, 1))
    rows = one.space.sample(20, 5)
    np.testing.assert_array_equal(one.transform(rows), same.transform(rows))
    assert np.abs(one.transform(rows) - other.transform(rows)).max() > 0.01


def test_every_operation_has_its_own_map() -> None:
    space = spaces.get("darts")
    x = np.abs(np.random.default_rng(6).normal(size=(1, 32)))
    out = [_apply(name, x, 0, 0, False)[0] for name in space.graph_operations]
    assert len(np.unique(np.round(out, 9), axis=0)) == len(out)
    assert {operation_code(name) for name in space.graph_operations}.isdisjoint({0})


@pytest.mark.parametrize("parameter", ["landmarks", "heads", "sample", "seed"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_bad_parameters(parameter: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of Computation must be an integer"):
        encoders.create("computation", "nasbench201", **{parameter: value})
