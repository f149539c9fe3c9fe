"""The contract of every registered encoder, and each encoder against a slow, obvious implementation."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import networkx as nx
import numpy as np
import pytest
from space_helpers import renumbered

from tauzero import encoders, spaces
from tauzero.encoders import Encoder
from tauzero.encoders import base as encoder_base
from tauzero.encoders import paths as paths_module
from tauzero.spaces import InvalidGenotypeError, SearchSpace, UnknownNameError

#: Parameters that make the tests quick: what is learned here, is learned from few cells.
PARAMETERS: dict[str, dict[str, Any]] = {
    "computation": {"landmarks": 16, "heads": 1, "sample": 200},
    "graph_autoencoder": {"dimension": 4, "epochs": 1, "sample": 64},
    "masked_pretraining": {"dimension": 4, "epochs": 1, "sample": 64},
}
DIMENSIONS = {
    "darts": {
        "adjacency": 675,
        "computation": 16,
        "descriptors": 10,
        "graph_autoencoder": 8,
        "graph_features": 390,
        "laplacian": 624,
        "masked_pretraining": 8,
        "onehot": 164,
        "paths": 11_204,
        "signal_propagation": 96,
        "union": 11_594,
    },
    "nasbench101": {
        "adjacency": 39,
        "computation": 16,
        "descriptors": 2,
        "graph_autoencoder": 4,
        "graph_features": 48,
        "laplacian": 134,
        "masked_pretraining": 4,
        "onehot": 36,
        "paths": 364,
        "signal_propagation": 48,
        "union": 412,
    },
    "nasbench101x": {
        "adjacency": 49,
        "computation": 16,
        "descriptors": 2,
        "graph_autoencoder": 4,
        "graph_features": 48,
        "laplacian": 136,
        "masked_pretraining": 4,
        "onehot": 46,
        "paths": 1_093,
        "signal_propagation": 48,
        "union": 1_141,
    },
    "nasbench201": {
        "adjacency": 56,
        "computation": 16,
        "descriptors": 2,
        "graph_autoencoder": 4,
        "graph_features": 90,
        "laplacian": 176,
        "masked_pretraining": 4,
        "onehot": 30,
        "paths": 85,
        "signal_propagation": 48,
        "union": 175,
    },
    "nasbench201x": {
        "adjacency": 110,
        "computation": 16,
        "descriptors": 2,
        "graph_autoencoder": 4,
        "graph_features": 90,
        "laplacian": 184,
        "masked_pretraining": 4,
        "onehot": 50,
        "paths": 341,
        "signal_propagation": 48,
        "union": 431,
    },
    "nasbench_graph": {
        "adjacency": 60,
        "computation": 16,
        "descriptors": 3,
        "graph_autoencoder": 4,
        "graph_features": 294,
        "laplacian": 372,
        "masked_pretraining": 4,
        "onehot": 45,
        "paths": 7_381,
        "signal_propagation": 48,
        "union": 7_675,
    },
    "nasbench_macro": {
        "adjacency": 81,
        "computation": 16,
        "descriptors": 5,
        "graph_autoencoder": 4,
        "graph_features": 90,
        "laplacian": 180,
        "masked_pretraining": 4,
        "onehot": 24,
        "paths": 87_381,
        "signal_propagation": 48,
        "union": 87_471,
    },
    "natsbench_size": {
        "adjacency": 69,
        "computation": 16,
        "descriptors": 8,
        "graph_autoencoder": 4,
        "graph_features": 238,
        "laplacian": 334,
        "masked_pretraining": 4,
        "onehot": 40,
        "paths": 37_449,
        "signal_propagation": 48,
        "union": 37_687,
    },
    "transnas_macro": {
        "adjacency": 56,
        "computation": 16,
        "descriptors": 9,
        "graph_autoencoder": 4,
        "graph_features": 90,
        "laplacian": 176,
        "masked_pretraining": 4,
        "onehot": 30,
        "paths": 5_461,
        "signal_propagation": 48,
        "union": 5_551,
    },
    "transnas_micro": {
        "adjacency": 49,
        "computation": 16,
        "descriptors": 2,
        "graph_autoencoder": 4,
        "graph_features": 48,
        "laplacian": 136,
        "masked_pretraining": 4,
        "onehot": 24,
        "paths": 40,
        "signal_propagation": 48,
        "union": 88,
    },
}

#: Different feature rows over all of NAS-Bench-201, which has 5,425 classes of equal networks. Paths do not see
#: what they share: some different networks have the same paths. Some have the same spectra, and some compute the same.
#: What a network costs follows from how many convolutions of either size it has: C(8, 2) ways.
DISTINCT = {
    "adjacency": 5_425,
    "computation": 4_844,
    "descriptors": 28,
    "graph_autoencoder": 5_425,
    "graph_features": 5_425,
    "laplacian": 5_376,
    "masked_pretraining": 5_425,
    "onehot": 5_425,
    "paths": 5_050,
    "signal_propagation": 4_946,
    "union": 5_425,
}

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = {
    "darts": spaces.get("darts").operations,
    "nasbench101": ("conv_3x3", "conv_1x1", "max_pool_3x3"),
    "nasbench101x": ("conv_3x3", "conv_1x1", "max_pool_3x3"),
    "nasbench201": (None, "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3"),
    "nasbench201x": (None, "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3"),
    "nasbench_graph": (
        *(f"{name}_conv" for name in ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph")),
        "linear",
        "skip_connect",
    ),
    "nasbench_macro": ("skip_connect", "mb_conv_3x3", "mb_conv_5x5"),
    "natsbench_size": tuple(f"block_c{channels}" for channels in range(8, 65, 8)),
    "transnas_macro": (None, "block", "block_wide", "block_down", "block_wide_down"),
    "transnas_micro": (None, "skip_connect", "conv_1x1", "conv_3x3"),
}
#: Vertices that the arrays of a cell have room for: the least length over no path.
VERTICES = {
    "darts": 16,
    "nasbench101": 7,
    "nasbench101x": 8,
    "nasbench201": 8,
    "nasbench201x": 12,
    "nasbench_graph": 6,
    "nasbench_macro": 10,
    "natsbench_size": 7,
    "transnas_macro": 8,
    "transnas_micro": 8,
}


@pytest.fixture(params=spaces.names())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.get(request.param)


#: Encoders that follow from the space; `proxy_scores` reads a table and is tested in a file of its own.
NAMES = [name for name in encoders.names() if name != "proxy_scores"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def make(name: str, space: SearchSpace | str, **params: Any) -> Encoder:
    return encoders.create(name, space, **(PARAMETERS.get(name, {}) | params))


@pytest.fixture
def encoder(name: str, space: SearchSpace) -> Encoder:
    return make(name, space)


def plain_graphs(space: SearchSpace, row: np.ndarray) -> dict[str, nx.DiGraph]:
    """Operations as vertices, straight from the genotype, by kind of cell as names of features end.

    What NAS-Bench-101 prunes is left out. The inputs of DARTS' cells are ``0:`` and ``1:``, as in names of features.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(["input", "output"], op="")
    names = OPERATIONS[space.name]
    if space.name == "darts":
        return {"@normal": plain_darts_cell(row[:16]), "@reduce": plain_darts_cell(row[16:])}
    if space.name == "nasbench_macro":
        # The identity is a convolution 1×1 where the image is halved.
        graph.add_nodes_from(
            (k, {"op": "conv_1x1" if op == 0 and k in (0, 2, 5) else names[op]}) for k, op in enumerate(row)
        )
        nx.add_path(graph, ["input", *range(8), "output"])
        return {"": graph}
    if space.name == "nasbench_graph":
        parents = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")[row[0]]
        for node, (parent, op) in enumerate(zip(parents, row[1:], strict=True), 1):
            graph.add_node(node, op=names[op])
            graph.add_edge("input" if parent == "0" else int(parent), node)
            if str(node) not in parents:
                graph.add_edge(node, "output")
        return {"": graph}
    if space.name in {"natsbench_size", "transnas_macro"}:
        used = [k for k in range(len(row)) if names[row[k]] is not None]
        graph.add_nodes_from((k, {"op": names[row[k]]}) for k in used)
        nx.add_path(graph, ["input", *used, "output"])
        return {"": graph}
    if space.name in {"nasbench201", "nasbench201x", "transnas_micro"}:
        ends = EDGES if len(row) == 6 else (*EDGES, (0, 4), (1, 4), (2, 4), (3, 4))
        used = [e for e in range(len(ends)) if names[row[e]] is not None]
        graph.add_nodes_from((e, {"op": names[row[e]]}) for e in used)
        graph.add_edges_from(("input", e) for e in used if ends[e][0] == 0)
        graph.add_edges_from((e, "output") for e in used if ends[e][1] == ends[-1][1])
        graph.add_edges_from((e, f) for e in used for f in used if ends[e][1] == ends[f][0])
        return {"": graph}
    last = VERTICES[space.name] - 1
    bits = last * (last + 1) // 2
    label = {0: "input", last: "output"} | {v: v for v in range(1, last)}
    graph.add_nodes_from((v, {"op": names[row[bits - 1 + v]]}) for v in range(1, last))
    edges = [(x, y) for y in range(1, last + 1) for x in range(y)]
    graph.add_edges_from((label[x], label[y]) for (x, y), on in zip(edges, row[:bits], strict=True) if on)
    useful = {v for path in nx.all_simple_paths(graph, "input", "output") for v in path}
    return {"": nx.DiGraph(graph.subgraph(useful))}


def plain_darts_cell(columns: np.ndarray) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(["0:", "1:", "output"], op="")
    for node, (a, b, x, y) in enumerate(columns.reshape(4, 4).tolist()):
        for side, (source, op) in enumerate(((a, x), (b, y))):
            graph.add_node((node, side), op=OPERATIONS["darts"][op])
            read = [f"{source}:"] if source < 2 else [(source - 2, 0), (source - 2, 1)]
            graph.add_edges_from((u, (node, side)) for u in read)
            graph.add_edge((node, side), "output")
    return graph


def starts(graph: nx.DiGraph) -> dict[str, str]:
    """Where paths begin, and how the names of what begins there do."""
    return {"input": ""} if "input" in graph else {"0:": "0:", "1:": "1:"}


def plain_paths(graph: nx.DiGraph, start: str = "input") -> list[tuple[str, ...]]:
    """The operations along each path from an input to the output."""
    return [tuple(graph.nodes[v]["op"] for v in path[1:-1]) for path in nx.all_simple_paths(graph, start, "output")]


def relabelled(rows: np.ndarray, seed: int) -> np.ndarray:
    """NAS-Bench-101 cells with their inner vertices in another order in which edges still go forwards."""
    space = spaces.get("nasbench101")
    rng = np.random.default_rng(seed)
    changed = []
    for row, matrix in zip(rows, space.adjacency(rows), strict=True):
        order = [0]
        while len(order) < 6:
            ready = [v for v in range(1, 6) if v not in order and set(np.flatnonzero(matrix[:, v])) <= set(order)]
            order.append(int(rng.choice(ready)))
        moved = matrix[np.ix_([*order, 6], [*order, 6])]
        changed.append(space.from_matrices(moved[None], row[None, 20 + np.array(order[1:])])[0])
    return np.stack(changed)


# -- contract ---------------------------------------------------------------------------------


def test_names() -> None:
    assert sorted(DISTINCT) == NAMES
    for known in NAMES:
        assert make(known, "nasbench201").name == known


def test_what_transform_returns(encoder: Encoder, space: SearchSpace) -> None:
    features = encoder.transform(space.sample(50, 0))
    assert features.shape == (50, encoder.dimension)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert np.isfinite(features).all()
    assert encoder.dimension == len(encoder.feature_names) == DIMENSIONS[space.name][encoder.name]
    assert len(set(encoder.feature_names)) == encoder.dimension
    assert all(isinstance(column, str) for column in encoder.feature_names)


def test_empty_batch(encoder: Encoder, space: SearchSpace) -> None:
    features = encoder.transform(np.zeros((0, space.length), dtype=np.int8))
    assert features.shape == (0, encoder.dimension)
    assert features.dtype == np.float32


@pytest.mark.parametrize("canonical", [True, False])
def test_features_do_not_depend_on_the_batch(
    name: str, space: SearchSpace, canonical: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = space.sample(100, 1)
    whole = make(name, space, canonical=canonical).transform(rows)
    monkeypatch.setattr(encoder_base, "_CHUNK", 7)
    other = make(name, space, canonical=canonical)
    np.testing.assert_array_equal(other.transform(rows), whole)
    np.testing.assert_array_equal(other.transform(rows[::-1])[::-1], whole)
    np.testing.assert_array_equal(np.concatenate([other.transform(row[None]) for row in rows[:20]]), whole[:20])


def test_remembered_features_are_the_same(name: str) -> None:
    """More than an eighth of the space fills the memory; what it gives is the caller's own."""
    space = spaces.get("nasbench201")
    rows = space.enumerate()
    encoder, fresh = make(name, space), make(name, space)
    direct = np.concatenate([fresh.transform(part) for part in np.array_split(rows, 10)])
    assert fresh._cache is None
    whole = encoder.transform(rows)
    assert encoder._cache is not None
    np.testing.assert_array_equal(whole, direct)
    whole[:] = -7
    np.testing.assert_array_equal(encoder.transform(rows[:50]), direct[:50])


def test_a_space_too_large_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_base, "_CACHE_BYTES", 15_625 * 30 * 4 - 1)
    encoder = encoders.create("onehot", "nasbench201")
    encoder.transform(encoder.space.enumerate())
    assert encoder._cache is None


def test_equal_networks_have_equal_features(name: str) -> None:
    space = spaces.get("nasbench201")
    features = make(name, space).transform(space.enumerate())
    labels = space.classes("network")
    _, first = np.unique(labels, return_index=True)
    np.testing.assert_array_equal(features, features[first[labels]])
    assert len(np.unique(np.round(features, 5), axis=0)) == DISTINCT[name]


def test_isomorphic_cells_have_equal_features(name: str) -> None:
    space = spaces.get("nasbench101")
    rows = space.sample(300, 2)
    moved = relabelled(rows, 3)
    assert (rows != moved).any(axis=1).sum() > 100
    encoder = make(name, space)
    np.testing.assert_array_equal(encoder.transform(moved), encoder.transform(rows))


def test_renumbered_cells_have_equal_features(name: str) -> None:
    space = spaces.get("darts")
    rows = space.sample(200, 2)
    moved = renumbered(rows, 3)
    assert (rows != moved).any(axis=1).mean() > 0.9
    encoder = make(name, space)
    np.testing.assert_array_equal(encoder.transform(moved), encoder.transform(rows))


@pytest.mark.parametrize("name", ["graph_features", "paths"])
def test_invariant_without_the_canonical_form(name: str) -> None:
    """Counts along paths do not depend on the vertex order by themselves."""
    space = spaces.get("nasbench101")
    rows = space.sample(100, 4)
    encoder = make(name, space, canonical=False)
    np.testing.assert_array_equal(encoder.transform(relabelled(rows, 5)), encoder.transform(rows))
    space = spaces.get("darts")
    rows = space.sample(100, 4)
    encoder = make(name, space, canonical=False)
    np.testing.assert_array_equal(encoder.transform(renumbered(rows, 5)), encoder.transform(rows))


@pytest.mark.parametrize("canonical", [True, False])
def test_bad_rows(name: str, space: SearchSpace, canonical: bool) -> None:
    encoder = make(name, space, canonical=canonical)
    rows = space.sample(3, 0)
    for wrong in (rows[0], rows[:, 1:], rows + 0.5, -1 - rows, rows + 50):
        with pytest.raises(InvalidGenotypeError, match=space.name):
            encoder.transform(wrong)
    if space.name == "nasbench101":
        with pytest.raises(InvalidGenotypeError, match="cannot be reached"):
            encoder.transform(np.zeros((1, 26), dtype=np.int8))


def test_parameters_make_an_equal_encoder(encoder: Encoder, space: SearchSpace) -> None:
    rows = space.sample(10, 0)
    for twin in (
        encoders.create(encoder.name, space, **encoder.get_params()),
        eval(repr(encoder), {"tauzero": __import__("tauzero.encoders")}),
    ):
        assert twin.get_params() == encoder.get_params()
        assert twin.space is encoder.space
        np.testing.assert_array_equal(twin.transform(rows), encoder.transform(rows))


def test_canonical_is_an_argument(name: str) -> None:
    """Without it, features are those of the row as it stands; a representative stands for itself."""
    space = spaces.get("nasbench201")
    rows = space.sample(200, 6)
    plain, canonical = make(name, space, canonical=False), make(name, space)
    # Equal networks compute the same and cost the same, in whichever way they are written.
    assert (plain.transform(rows) != canonical.transform(rows)).any() == (name not in {"computation", "descriptors"})
    np.testing.assert_array_equal(plain.transform(space.canonical(rows)), canonical.transform(rows))


@pytest.mark.parametrize("wrong", ["one_hot", "", None, ["onehot"]])
def test_unknown_name(wrong: object) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown encoder .*Known: 'adjacency', 'computation'"):
        encoders.create(wrong, "nasbench201")


def test_unknown_space_and_parameter(name: str) -> None:
    with pytest.raises(UnknownNameError, match="search space 'nasbench999'"):
        encoders.create(name, "nasbench999")
    with pytest.raises(ValueError, match=rf"Wrong parameters for the encoder '{name}'.*depth"):
        encoders.create(name, "nasbench201", depth=3)


# -- onehot and adjacency ---------------------------------------------------------------------


def test_onehot_entry_by_entry(space: SearchSpace) -> None:
    rows = space.sample(50, 7)
    encoder = encoders.create("onehot", space, canonical=False)
    features = encoder.transform(rows)
    expected = np.zeros_like(features)
    for k, column in enumerate(encoder.feature_names):
        position, value = (int(part) for part in column[1:].split("="))
        expected[:, k] = rows[:, position] == value
    np.testing.assert_array_equal(features, expected)


def test_adjacency_entry_by_entry(space: SearchSpace) -> None:
    rows = space.sample(50, 8)
    encoder = encoders.create("adjacency", space, canonical=False)
    features, graphs = encoder.transform(rows), space.graphs(rows)
    edges = 0
    for k, column in enumerate(encoder.feature_names):
        if "->" in column:
            u, v = (int(part) for part in column.split("->"))
            np.testing.assert_array_equal(features[:, k], graphs.adjacency[:, u, v])
            edges += 1
        else:
            vertex, operation = column[1:].split("=")
            code = spaces.operation_code(operation)
            np.testing.assert_array_equal(features[:, k], graphs.ops[:, int(vertex)] == code)
    assert edges == graphs.max_nodes * (graphs.max_nodes - 1) // 2
    np.testing.assert_array_equal(features[:, :edges].sum(axis=1), graphs.adjacency.sum(axis=(1, 2)))


# -- paths ------------------------------------------------------------------------------------


def sequence(column: str) -> tuple[str, ...]:
    return () if column == "()" else tuple(column.split(">"))


def column_of(start: str, path: tuple[str, ...], kind: str) -> str:
    return f"{start}{'>'.join(path) or '()'}{kind}"


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("contract_skips", [False, True])
@pytest.mark.parametrize("canonical", [False, True])
def test_paths(space: SearchSpace, counts: bool, contract_skips: bool, canonical: bool) -> None:
    """Against every path found by networkx in a graph built straight from the genotype."""
    rows = space.sample(150, 9)
    encoder = encoders.create("paths", space, counts=counts, contract_skips=contract_skips, canonical=canonical)
    features = encoder.transform(rows)
    place = {column: k for k, column in enumerate(encoder.feature_names)}
    largest = 0
    for row, values in zip(space.canonical(rows) if canonical else rows, features, strict=True):
        expected = np.zeros(len(place))
        for kind, graph in plain_graphs(space, row).items():
            for start, prefix in starts(graph).items():
                found = Counter(
                    tuple(o for o in path if not (contract_skips and o == "skip_connect"))
                    for path in plain_paths(graph, start)
                )
                for path, times in found.items():
                    expected[place[column_of(prefix, path, kind)]] = times if counts else 1
                largest = max(largest, *found.values(), 0)
        np.testing.assert_array_equal(values, expected)
    chains = {"nasbench_macro", "natsbench_size", "transnas_macro"}
    assert (largest > 1) == (space.name not in chains)  # a chain has one path


@pytest.mark.parametrize("max_length", [0, 1, 2, np.int64(2), 5, 100])
def test_truncated_paths_are_the_first_columns(space: SearchSpace, max_length: int) -> None:
    rows = space.sample(100, 10)
    whole = encoders.create("paths", space, counts=True)
    short = encoders.create("paths", space, counts=True, max_length=max_length)
    k, groups = len(space.graph_operations), 4 if space.name == "darts" else 1
    assert short.dimension == groups * sum(k**length for length in range(min(max_length, space.max_path_length) + 1))
    assert short.feature_names == whole.feature_names[: short.dimension]
    np.testing.assert_array_equal(short.transform(rows), whole.transform(rows)[:, : short.dimension])


def test_path_names() -> None:
    names = encoders.create("paths", "nasbench101", max_length=2).feature_names
    assert names[:5] == ["()", "conv_3x3", "conv_1x1", "max_pool_3x3", "conv_3x3>conv_3x3"]
    lengths = [len(sequence(column)) for column in names]
    assert lengths == sorted(lengths)
    names = encoders.create("paths", "darts", max_length=1).feature_names
    assert names[:5] == ["0:()@normal", "1:()@normal", "0:()@reduce", "1:()@reduce", "0:max_pool_3x3@normal"]


def test_paths_do_not_depend_on_how_many_rows_are_counted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for space in (spaces.get("darts"), spaces.get("nasbench101")):
        rows = space.sample(20, 15)
        encoder = encoders.create("paths", space, counts=True)
        whole = encoder.transform(rows)
        monkeypatch.setattr(paths_module, "_COUNTS", 20_000)
        np.testing.assert_array_equal(encoder.transform(rows), whole)
        monkeypatch.undo()


def test_how_many_networks_paths_tell_apart() -> None:
    space = spaces.get("nasbench201")
    found = {
        (counts, contract): len(
            np.unique(
                encoders.create("paths", space, counts=counts, contract_skips=contract).transform(space.enumerate()),
                axis=0,
            )
        )
        for counts, contract in itertools.product((False, True), repeat=2)
    }
    assert found == {(False, False): 5_050, (True, False): 5_279, (False, True): 3_100, (True, True): 4_120}


@pytest.mark.parametrize("max_length", [-1, 1.5, True, "2", np.nan])
def test_bad_max_length(max_length: object) -> None:
    with pytest.raises(ValueError, match=r"'max_length' parameter of Paths must be None or an integer of at least 0"):
        encoders.create("paths", "nasbench201", max_length=max_length)


# -- graph features ---------------------------------------------------------------------------


def plain_features(space: SearchSpace, row: np.ndarray) -> dict[str, float]:
    """Each feature by its definition, by enumerating vertices, edges and paths."""
    found: dict[str, float] = {}
    for kind, graph in plain_graphs(space, row).items():
        found |= {f"{name}{kind}": value for name, value in plain_cell_features(space, graph).items()}
    return found


def plain_cell_features(space: SearchSpace, graph: nx.DiGraph) -> dict[str, float]:
    op = nx.get_node_attributes(graph, "op")
    paths = [path for start in starts(graph) for path in plain_paths(graph, start)]
    none = VERTICES[space.name]  # the least over no path: the number of vertices
    names = space.graph_operations
    found: dict[str, float] = {}
    for o in names:
        found[f"count[{o}]"] = sum(value == o for value in op.values())
        for start, prefix in starts(graph).items():
            found[f"from_input[{prefix}{o}]"] = sum(op[v] == o for v in graph.successors(start))
        found[f"to_output[{o}]"] = sum(op[v] == o for v in graph.predecessors("output"))
    for size in range(1, len(names) + 1) if len(names) <= 5 else (1, 2, len(names)):
        for subset in itertools.combinations(names, size):
            label = "+".join(subset)
            within = [len(path) for path in paths if set(path) <= set(subset)]
            found[f"min_path[{label}]"] = min(within, default=none)
            found[f"max_path[{label}]"] = max(within, default=-1)
            if size < len(names):
                members = [sum(o in subset for o in path) for path in paths]
                found[f"least_on_path[{label}]"] = min(members, default=none)
                found[f"most_on_path[{label}]"] = max(members, default=-1)
    for a, b in itertools.product(names, repeat=2):
        found[f"edges[{a}>{b}]"] = sum((op[u], op[v]) == (a, b) for u, v in graph.edges)
    found["vertices"] = sum(value != "" for value in op.values())
    found["edges"] = graph.number_of_edges()
    found["paths"] = len(paths)
    found["direct"] = graph.has_edge("input", "output")
    return found


def test_graph_features(space: SearchSpace) -> None:
    rows = space.sample(200, 11)
    if space.name == "nasbench101":
        rows = np.concatenate([space.enumerate()[:20], rows])  # cells of few vertices
    elif space.name in {"nasbench201", "transnas_micro"}:
        assert not space.is_connected(rows).all()  # cells without any path
    encoder = encoders.create("graph_features", space, canonical=False)
    for row, values in zip(rows, encoder.transform(rows), strict=True):
        expected = plain_features(space, row)
        assert set(expected) == set(encoder.feature_names)
        assert dict(zip(encoder.feature_names, values.tolist(), strict=True)) == expected


def test_graph_features_of_an_example() -> None:
    """Input → conv 3×3 → conv 1×1 → output, and input → max-pool → conv 1×1."""
    row = spaces.get("nasbench101").from_string(
        ["0110000010000100000100000:input,conv3x3-bn-relu,maxpool3x3,conv1x1-bn-relu,output"]
    )
    encoder = encoders.create("graph_features", "nasbench101")
    values = dict(zip(encoder.feature_names, encoder.transform(row)[0].tolist(), strict=True))
    assert values["count[conv_1x1]"] == values["to_output[conv_1x1]"] == 1
    assert values["from_input[conv_1x1]"] == values["direct"] == 0
    assert (values["vertices"], values["edges"], values["paths"]) == (3, 5, 2)
    assert (values["min_path[conv_3x3+conv_1x1]"], values["max_path[conv_3x3+conv_1x1]"]) == (2, 2)
    assert (values["min_path[conv_3x3]"], values["max_path[conv_3x3]"]) == (7, -1)
    assert (values["least_on_path[max_pool_3x3]"], values["most_on_path[max_pool_3x3]"]) == (0, 1)
    assert values["edges[max_pool_3x3>conv_1x1]"] == 1


# -- union ------------------------------------------------------------------------------------


def test_union_is_its_parts_side_by_side(space: SearchSpace) -> None:
    rows = space.sample(60, 12)
    first, second = encoders.create("paths", space, max_length=1), encoders.create("onehot", space)
    both, turned = encoders.union(first, second), encoders.union(second, first)
    assert both.feature_names == [f"paths:{c}" for c in first.feature_names] + [
        f"onehot:{c}" for c in second.feature_names
    ]
    expected = np.concatenate([first.transform(rows), second.transform(rows)], axis=1)
    np.testing.assert_array_equal(both.transform(rows), expected)
    np.testing.assert_array_equal(np.roll(turned.transform(rows), first.dimension, axis=1), expected)
    named = encoders.create("union", space, encoders=[("paths", {"max_length": 1}), "onehot"])
    np.testing.assert_array_equal(named.transform(rows), expected)
    assert named.get_params() == both.get_params()


def test_union_of_canonical_and_plain_parts() -> None:
    space = spaces.get("nasbench201")
    rows = space.sample(3_000, 13)
    canonical, plain = encoders.create("paths", space), encoders.create("onehot", space, canonical=False)
    expected = np.concatenate([canonical.transform(rows), plain.transform(rows)], axis=1)
    np.testing.assert_array_equal(encoders.union(canonical, plain).transform(rows), expected)
    turned = encoders.union(plain, canonical).transform(rows)
    np.testing.assert_array_equal(np.roll(turned, canonical.dimension, axis=1), expected)


def test_union_inside_a_union() -> None:
    space = spaces.get("nasbench201")
    inner = encoders.union(encoders.create("onehot", space), encoders.create("adjacency", space))
    outer = encoders.union(inner, encoders.create("graph_features", space))
    assert outer.dimension == 30 + 56 + 90
    assert outer.feature_names[0] == "union:onehot:g0=0"
    rows = space.sample(20, 14)
    np.testing.assert_array_equal(outer.transform(rows)[:, :86], inner.transform(rows))
    twin = encoders.create("union", space, **outer.get_params())
    np.testing.assert_array_equal(twin.transform(rows), outer.transform(rows))


def test_bad_unions() -> None:
    with pytest.raises(ValueError, match="An encoder of nasbench101 was expected"):
        encoders.union(encoders.create("onehot", "nasbench101"), encoders.create("onehot", "nasbench201"))
    with pytest.raises(ValueError, match="needs at least one encoder"):
        encoders.union()
    with pytest.raises(ValueError, match="must name at least one encoder"):
        encoders.create("union", "nasbench201", encoders=[])
    with pytest.raises(UnknownNameError, match=r"Unknown encoder 'path'.*Did you mean 'paths'"):
        encoders.create("union", "nasbench201", encoders=["path"])
    with pytest.raises(ValueError, match="Wrong parameters for the encoder 'onehot'"):
        encoders.create("union", "nasbench201", encoders=[("onehot", {"counts": True})])
    for wrong in (3, [3], None):
        with pytest.raises(ValueError, match="Wrong parameters for the encoder 'union'"):
            encoders.create("union", "nasbench201", encoders=wrong)
