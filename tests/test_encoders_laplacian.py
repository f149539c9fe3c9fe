"""Laplacian features: against a second implementation, closed forms, and invariance to all that must not matter."""

from __future__ import annotations

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tauzero import encoders, spaces
from tauzero.encoders import Laplacian
from tauzero.encoders.laplacian import laplacian
from tauzero.spaces import CellGraphs, SearchSpace, operation_code


@pytest.fixture(params=spaces.names())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.get(request.param)


def plain_features(graph: CellGraphs, i: int, operations: tuple[str, ...], bands: int, q: float | None) -> list[float]:
    """Features of one cell: only the vertices with edges, matrix functions by a sum over eigenvectors."""
    v = graph.max_nodes
    edges = [(int(a), int(b)) for a, b in np.argwhere(graph.adjacency[i] > 0)]
    used = sorted({k for edge in edges for k in edge})
    weight = {e: float(graph.adjacency[i][e]) for e in edges}
    degree = {k: sum(w for e, w in weight.items() if k in e) for k in used}
    matrix = np.eye(len(used), dtype=complex)
    for (a, b), w in weight.items():
        turn = 1.0 if q is None else np.exp(2j * np.pi * q)
        matrix[used.index(a), used.index(b)] = -w * turn / np.sqrt(degree[a] * degree[b])
        matrix[used.index(b), used.index(a)] = -w * np.conj(turn) / np.sqrt(degree[a] * degree[b])
    values, vectors = np.linalg.eigh(matrix) if used else (np.zeros(0), np.zeros((0, 0)))
    centres = np.linspace(0.0, 2.0, bands)
    functions = []
    for centre in centres:
        hat = np.maximum(0.0, 1.0 - np.abs(values - centre) / (centres[1] - centres[0]))
        small = vectors @ np.diag(hat) @ vectors.conj().T
        whole = np.zeros((v, v), dtype=complex)
        whole[np.ix_(used, used)] = small
        functions.append(whole)
    members = [[k for k in range(v) if graph.ops[i, k] == operation_code(o)] for o in operations]
    found = [*sorted(np.abs(values).tolist(), reverse=True), *[0.0] * (v - len(used))]
    found += [sum(f[k, k].real for k in m) for f in functions for m in members]
    for end in (0, int(graph.num_nodes[i]) - 1):
        # f(L)_uv = Σ f(λ) φ(u) φ(v)*; features conjugate the end's entry
        entries = [sum(f[k, end] for k in m) for f in functions for m in members]
        found += [complex(e).real for e in entries]
        if q is not None:
            found += [complex(e).imag for e in entries]
    return found


def test_against_one_cell_at_a_time(space: SearchSpace) -> None:
    rows = space.sample(25, 1)
    encoder = encoders.create("laplacian", space, bands=4, potential=0.07, canonical=False)
    features = encoder.transform(rows)
    cells = space.cells(rows)
    for i in range(len(rows)):
        expected: list[float] = []
        for graphs in cells.values():
            for q in (None, 0.07):
                expected += plain_features(graphs, i, space.graph_operations, 4, q)
        np.testing.assert_allclose(features[i], expected, atol=2e-6)


def test_spectrum_is_networkx() -> None:
    graphs = spaces.get("nasbench101").graphs(spaces.get("nasbench101").sample(40, 2))
    for matrix, adjacency in zip(laplacian(graphs), graphs.adjacency, strict=True):
        graph = nx.from_numpy_array(adjacency + adjacency.T)
        graph.remove_nodes_from(list(nx.isolates(graph)))
        found = np.linalg.eigvalsh(matrix)
        np.testing.assert_allclose(found[found > -0.5], nx.normalized_laplacian_spectrum(graph), atol=1e-12)


def test_a_chain_in_closed_form() -> None:
    """The normalised Laplacian of a path of n vertices has eigenvalues 1 - cos(πk / (n - 1)), magnetic or not."""
    adjacency = np.zeros((1, 6, 6), dtype=np.uint8)
    adjacency[0, np.arange(3), np.arange(1, 4)] = 1
    ops = np.array([[operation_code(o) for o in ("input", "conv_1x1", "conv_3x3", "output", "none", "none")]])
    chain = CellGraphs(adjacency, ops.astype(np.int8), np.array([4], dtype=np.int8))
    expected = [-1, -1, *(1 - np.cos(np.pi * np.arange(4) / 3))]
    for potential in (None, 0.0, 0.05, 0.25):
        np.testing.assert_allclose(np.linalg.eigvalsh(laplacian(chain, potential))[0], expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), vertices=st.integers(2, 8), padding=st.integers(0, 3))
def test_order_of_vertices_does_not_matter(seed: int, vertices: int, padding: int) -> None:
    """Inner vertices permuted, edges along: the features stay, whatever eigenvalues are repeated; so with padding."""
    space = spaces.get("nasbench201")
    rng = np.random.default_rng(seed)
    encoder = Laplacian(space)
    dense = np.triu(rng.integers(0, 2, size=(vertices, vertices)), 1).astype(np.uint8)
    codes = np.array([operation_code(o) for o in space.graph_operations])
    ops = np.concatenate([[1], rng.choice(codes, size=vertices - 2), [2]]).astype(np.int8)
    order = np.concatenate([[0], 1 + rng.permutation(vertices - 2), [vertices - 1]])
    pad = (0, padding)
    count = np.array([vertices], dtype=np.int8)
    one = CellGraphs(dense[None], ops[None], count)
    moved = np.pad(dense[np.ix_(order, order)], [pad, pad])
    other = CellGraphs(moved[None], np.pad(ops[order], pad)[None], count)
    for potential in (None, 0.05):
        a = encoder._features(one, laplacian(one, potential))[0]
        b = encoder._features(other, laplacian(other, potential))[0]
        np.testing.assert_allclose(a[:vertices], b[:vertices], atol=1e-9)
        np.testing.assert_allclose(b[vertices : vertices + padding], 0.0, atol=1e-9)
        np.testing.assert_allclose(a[vertices:], b[vertices + padding :], atol=1e-9)


def test_signs_and_phases_of_eigenvectors_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    space = spaces.get("nasbench101")
    rows = space.sample(50, 3)
    expected = Laplacian(space).transform(rows)
    real_eigh, rng = np.linalg.eigh, np.random.default_rng(4)

    def turned(matrices: npt.NDArray[np.complex128]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.complex128]]:
        values, vectors = real_eigh(matrices)
        phase = rng.choice([-1.0, 1.0], size=(len(values), 1, values.shape[1]))
        if np.iscomplexobj(vectors):
            phase = np.exp(2j * np.pi * rng.random(phase.shape))
        return values, vectors * phase

    monkeypatch.setattr(np.linalg, "eigh", turned)
    np.testing.assert_allclose(Laplacian(space).transform(rows), expected, atol=1e-6)


def test_only_the_magnetic_one_tells_directions() -> None:
    """A cell and its mirror image: the same undirected graph with input and output exchanged."""
    space = spaces.get("nasbench201")
    codes = [operation_code(o) for o in ("input", "conv_1x1", "conv_3x3", "conv_3x3", "output")]
    forward = np.zeros((5, 5), dtype=np.uint8)
    for edge in ((0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 3)):
        forward[edge] = 1
    # The same edges, some of them turned round, in an order of vertices that is topological again.
    turned = forward.copy()
    turned[0, 3], turned[3, 4], turned[1, 3] = 0, 0, 0
    turned[0, 3] = turned[3, 4] = 1
    turned[3, 1] = 1
    pair = CellGraphs(
        np.stack([forward, turned]), np.array([codes, codes], dtype=np.int8), np.array([5, 5], dtype=np.int8)
    )
    encoder = Laplacian(space)
    one, other = encoder._features(pair, laplacian(pair))
    np.testing.assert_allclose(one, other, atol=1e-9)
    one, other = encoder._features(pair, laplacian(pair, 0.05))
    assert np.abs(one - other).max() > 0.01


def test_bands_add_up() -> None:
    """Hat functions sum to one, so energies of an operation sum to the number of its vertices that have edges."""
    space = spaces.get("nasbench201")
    rows = space.sample(200, 5)
    for bands in (2, 5, 9):
        encoder = encoders.create("laplacian", space, bands=bands)
        values = dict(zip(encoder.feature_names, encoder.transform(rows).T, strict=True))
        counts = dict(
            zip(
                encoders.create("graph_features", space).feature_names,
                encoders.create("graph_features", space).transform(rows).T,
                strict=True,
            )
        )
        for which in ("sym", "mag"):
            for operation in space.graph_operations:
                total = sum(values[f"{which}:energy{b}[{operation}]"] for b in range(bands))
                assert (total <= counts[f"count[{operation}]"] + 1e-5).all()
                connected = space.is_connected(rows)
                np.testing.assert_allclose(total[connected].round(), total[connected], atol=1e-5)
                assert total.max() > 1


def test_isomorphic_cells_and_several_kinds_of_cells() -> None:
    darts = Laplacian("darts")
    assert len(darts.feature_names) == len(set(darts.feature_names)) == darts.dimension
    assert {name.rpartition("@")[2] for name in darts.feature_names} == {"normal", "reduce"}
    space = spaces.get("darts")
    rows = space.sample(30, 6)
    plain = encoders.create("laplacian", space, canonical=False)
    np.testing.assert_allclose(plain.transform(rows), plain.transform(space.canonical(rows)), atol=1e-5)


def test_families_are_all_columns_once() -> None:
    encoder = Laplacian("nasbench201")
    np.testing.assert_array_equal(np.sort(np.concatenate(encoder.families)), np.arange(encoder.dimension))


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("bands", 1, "'bands' parameter of Laplacian must be an integer of at least 2. Got 1"),
        ("bands", 2.5, "'bands'"),
        ("potential", 0.3, "'potential' parameter of Laplacian must be a number from 0.0 to 0.25. Got 0.3"),
        ("potential", None, "'potential'"),
        ("potential", float("nan"), "'potential'"),
    ],
)
def test_bad_parameters(parameter: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoders.create("laplacian", "nasbench201", **{parameter: value})
