"""Spaces with parameters: names, exact canonical forms without enumeration, counts, draws, networks."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from tauzero import networks, spaces
from tauzero.spaces import InvalidGenotypeError, NASBench101X, NASBench201X, NotEnumerableError, UnknownNameError
from tauzero.spaces._cell_counts import count_cells, draw_columns
from tauzero.spaces._edge_cell_canonical import make_templates, rewritten, without_spare_nodes

MANY = "none+skip_connect+conv_1x1+conv_3x3+max_pool_3x3+conv_5x5+sep_conv_3x3+sep_conv_5x5+dil_conv_3x3+dil_conv_5x5"
NAMES = (
    "nasbench201x",
    "nasbench201x(nodes=2)",
    "nasbench201x(nodes=4)",
    "nasbench201x(nodes=6)",
    "nasbench201x(operations=skip_connect+conv_3x3+conv_1x1)",
    "nasbench201x(operations=none+conv_3x3+avg_pool_3x3)",
    f"nasbench201x(nodes=3,operations={MANY})",
    "nasbench101x",
    "nasbench101x(vertices=2,edges=1)",
    "nasbench101x(vertices=7,edges=9)",
    "nasbench101x(vertices=9,edges=14,operations=conv_3x3+skip_connect)",
)
settings.register_profile("extended", max_examples=30, deadline=None, database=None, derandomize=True)


@pytest.fixture(params=NAMES)
def space(request: pytest.FixtureRequest) -> spaces.SearchSpace:
    return spaces.get(request.param)


def extended201(name: str = "nasbench201x", **params: object) -> NASBench201X:
    found = spaces.get(name, **params)
    assert isinstance(found, NASBench201X)
    return found


# -- names ------------------------------------------------------------------------------------


def test_one_instance_for_all_ways_to_name_it(space: spaces.SearchSpace) -> None:
    assert spaces.get(space.name) is space
    assert pickle.loads(pickle.dumps(space)) is space
    assert eval(repr(space), {"tauzero": __import__("tauzero")}) is space
    kind, params = space.name.partition("(")[::2]
    assert space.kind == kind
    assert kind in spaces.names()
    assert spaces.get(f" {kind} ( {params[:-1].replace(',', ' , ')} ) ".replace(" (", "(")) is space


def test_names_with_defaults_orders_and_synonyms() -> None:
    five = spaces.get("nasbench201x")
    assert spaces.get("nasbench201x(nodes=5)") is five
    assert spaces.get("nasbench201x()") is five
    assert spaces.get("nasbench201x", nodes=np.int64(5)) is five
    assert spaces.get("nasbench101x", vertices=8, edges=11) is spaces.get("nasbench101x")
    few = spaces.get("nasbench201x", operations=["nor_conv_3x3", "none", "skip_connect"])
    assert few.name == "nasbench201x(operations=none+skip_connect+conv_3x3)"
    assert few.operations == ("none", "skip_connect", "nor_conv_3x3")
    assert spaces.get("nasbench201x(operations=conv_3x3+skip_connect+none)") is few
    assert spaces.get("nasbench101x", operations="conv3x3-bn-relu").graph_operations == ("conv_3x3",)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("nasbench201x(nodes=1)", {}, "'nodes' parameter of nasbench201x must be an integer from 2 to 12. Got 1"),
        ("nasbench201x(nodes=x)", {}, "Got 'x'"),
        ("nasbench201x(nodes=5", {}, "search space"),
        ("nasbench201x(5)", {}, "Cannot read the parameters"),
        ("nasbench201x(nodes=5,nodes=6)", {}, "Cannot read the parameters"),
        ("nasbench201x(edges=5)", {}, "has no parameter 'edges'. It has nodes=5"),
        ("nasbench201(nodes=4)", {}, "has no parameter 'nodes'. It has none"),
        ("nasbench201x(nodes=5)", {"nodes": 5}, "given twice"),
        ("nasbench201x", {"nodes": True}, "Got True"),
        ("nasbench201x", {"nodes": 4.0}, "Got 4.0"),
        ("nasbench201x", {"operations": ["conv_9x9"]}, "operation of nasbench201x 'conv_9x9'"),
        ("nasbench201x", {"operations": ["conv_3x3", "nor_conv_3x3"]}, "each once"),
        ("nasbench201x", {"operations": []}, "each once"),
        ("nasbench201x", {"operations": "none"}, "one beside 'none'"),
        ("nasbench101x", {"edges": 29}, "from 1 to 28"),
        ("nasbench101x", {"vertices": 13}, "from 2 to 12"),
        ("nasbench101x", {"operations": ("none",)}, "operation of nasbench101x 'none'"),
        ("nasbench77x(nodes=3)", {}, "Unknown search space"),
    ],
)
def test_bad_parameters(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        spaces.get(name, **params)


def test_a_space_takes_no_parameters() -> None:
    with pytest.raises(ValueError, match="made already"):
        spaces.get(spaces.get("nasbench201x"), nodes=4)


# -- the contract, with other parameters ------------------------------------------------------


def test_round_trips_canonical_form_and_moves(space: spaces.SearchSpace) -> None:
    rows = space.sample(200, 0)
    space.validate(rows)
    np.testing.assert_array_equal(space.from_string(space.to_string(rows)), rows)
    for notion in space.notions:
        if space.enumerable or notion != "expression":
            once = space.canonical(rows, notion)
            space.validate(once)
            np.testing.assert_array_equal(space.canonical(once, notion), once)
    np.testing.assert_array_equal(space.descriptors(rows), space.descriptors(space.canonical(rows)))
    children = space.crossover(rows, rows[::-1], 1)
    space.validate(children)
    row = rows[0]
    around = space.neighbors(row)
    for other in around[:5]:
        assert row.tobytes() in {r.tobytes() for r in space.neighbors(other)}
    graphs = space.graphs(rows)
    assert not np.tril(graphs.adjacency).any()
    if space.enumerable:
        assert len(space.enumerate()) == space.size
    else:
        with pytest.raises(NotEnumerableError):
            space.enumerate()
        with pytest.raises(NotEnumerableError):
            space.index(rows)
        with pytest.raises(NotEnumerableError):
            space.classes()


def test_strings_of_another_size_or_operation_are_refused() -> None:
    good = spaces.get("nasbench201").to_string([[0, 1, 2, 3, 4, 0]])
    with pytest.raises(InvalidGenotypeError, match="String 0 is not an architecture of nasbench201x"):
        spaces.get("nasbench201x").from_string(good)
    with pytest.raises(InvalidGenotypeError, match="Unknown operation 'avg_pool_3x3'"):
        spaces.get("nasbench201x", nodes=4, operations=("none", "conv_3x3")).from_string(
            ["|none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|"]
        )
    with pytest.raises(UnknownNameError):
        spaces.get("nasbench201x").canonical(np.zeros((1, 10)), "skip_zero")


# -- NAS-Bench-201 --------------------------------------------------------------------------


def test_four_nodes_are_nasbench201() -> None:
    space, published = extended201(nodes=4), spaces.get("nasbench201")
    rows = space.enumerate()
    assert (space.size, space.enumerable) == (published.size, True)
    assert space.to_string(rows[:500]) == published.to_string(rows[:500])
    np.testing.assert_array_equal(space.descriptors(rows), published.descriptors(rows))
    np.testing.assert_array_equal(space.graphs(rows).adjacency, published.graphs(rows).adjacency)
    np.testing.assert_array_equal(space.graphs(rows).ops, published.graphs(rows).ops)
    np.testing.assert_array_equal(space.neighbors(rows[777]), published.neighbors(rows[777]))
    at = published.index(rows)
    for notion in ("network", "expression", "reachable", "string"):
        both = np.stack([space.classes(notion), published.classes(notion)[at]])
        assert len(np.unique(both, axis=1).T) == len(np.unique(both[0])) == len(np.unique(both[1]))
    options = {"channels": 4, "cells_per_stage": 2}
    for count in (networks.count_parameters, networks.count_flops):
        np.testing.assert_array_equal(count(space, rows, **options), count(published, rows, **options))


def test_canonical_rows_without_enumeration_are_exactly_the_classes() -> None:
    """The templates, which five nodes need, against the hashes of all cells of four nodes."""
    space = extended201(nodes=4)
    rows = space.enumerate()
    written = rewritten(space, space.prune(rows), make_templates(space))
    classes = space.classes()
    codes = space.index(written)
    np.testing.assert_array_equal(classes[codes], classes)  # the same network
    assert len(np.unique(codes)) == len(np.unique(classes)) == 5_425  # and one row for each


def test_canonical_rows_of_five_nodes_against_hashes() -> None:
    space = extended201()
    rows = space.sample(4_000, 0)
    rows[2_000:] = np.where(np.random.default_rng(1).random((2_000, 10)) < 0.5, rows[2_000:], rows[2_000:] % 2)
    once = space.canonical(rows)
    hashes = space._network(space.prune(rows))
    np.testing.assert_array_equal(space._network(space.prune(once)), hashes)
    assert len(np.unique(once, axis=0)) == len(np.unique(hashes))
    assert ((once != 0).sum(axis=1) <= (space.prune(rows) != 0).sum(axis=1)).all()


def operation_graph(space: NASBench201X, row: np.ndarray) -> nx.MultiDiGraph:
    """The second implementation: operations as vertices, skips followed by recursion, dead ones left out."""
    edges = list(zip(row.tolist(), space._edges, strict=True))

    def sources(node: int) -> list[object]:
        found: list[object] = ["input"] if node == 0 else []
        for e, (code, (u, v)) in enumerate(edges):
            if v == node and space.operations[code] == "skip_connect":
                found += sources(u)
            elif v == node and space.operations[code] != "none" and sources(u):
                found.append(e)
        return found

    graph = nx.MultiDiGraph()
    graph.add_node("input", op="input")
    graph.add_node("output", op="output")
    graph.add_edges_from((s, "output") for s in sources(space.num_nodes - 1))
    for e in range(len(edges) - 1, -1, -1):
        if e in graph:
            graph.add_edges_from((s, e) for s in sources(edges[e][1][0]))
    for e in set(graph) - {"input", "output"}:
        graph.nodes[e]["op"] = space.operations[edges[e][0]]
    graph.nodes["output"]["op"] = "output"
    return graph


def test_canonical_rows_against_networkx() -> None:
    space = extended201(operations=("none", "skip_connect", "conv_3x3"))
    rows = space.sample(70, 3)
    once = space.canonical(rows)
    graphs = [operation_graph(space, row) for row in rows]
    equal = 0
    for a, b in itertools.combinations(range(len(rows)), 2):
        same = nx.is_isomorphic(graphs[a], graphs[b], node_match=lambda p, q: p["op"] == q["op"])
        assert same == bool((once[a] == once[b]).all()), (rows[a].tolist(), rows[b].tolist())
        equal += same
    assert equal > 5
    for graph, row in zip(graphs, once, strict=True):
        assert nx.is_isomorphic(graph, operation_graph(space, row), node_match=lambda p, q: p["op"] == q["op"])


def topological_orders(matrix: np.ndarray) -> Iterator[list[int]]:
    inner = range(1, len(matrix) - 1)
    for order in itertools.permutations(inner):
        place = {v: k for k, v in enumerate(order)}
        if all(place[u] < place[v] for u in inner for v in inner if matrix[u, v]):
            yield [0, *order, len(matrix) - 1]


@settings(settings.get_profile("extended"))
@given(seed=st.integers(0, 10**6), nodes=st.sampled_from([4, 5, 6]))
def test_a_renumbered_cell_is_the_same_network(seed: int, nodes: int) -> None:
    space = extended201(nodes=nodes)
    rng = np.random.default_rng(seed)
    row = np.where(rng.random(space.length) < 0.4, 0, rng.integers(5, size=space.length)).astype(np.int8)
    u, v = np.array(space._edges).T
    matrix = np.zeros((nodes, nodes), dtype=np.int8)
    matrix[u, v] = row
    orders = list(topological_orders(matrix))
    order = orders[rng.integers(len(orders))]
    moved = matrix[np.ix_(order, order)][u, v]
    np.testing.assert_array_equal(space.canonical(row[None]), space.canonical(moved[None]))
    # Operations that carry nothing may be anything.
    dead = ~space.active_edges(row[None])[0]
    changed = row.copy()
    changed[np.flatnonzero(dead & (row != 0))] = 2
    np.testing.assert_array_equal(space.canonical(row[None]), space.canonical(changed[None]))


def test_cells_of_six_nodes_keep_their_network() -> None:
    six = extended201(nodes=6)
    rows = six.sample(300, 5)
    rows[np.random.default_rng(0).random(rows.shape) < 0.5] = 0
    once = six.canonical(rows)
    np.testing.assert_array_equal(six._network(six.prune(once)), six._network(six.prune(rows)))
    assert six.notions[0] == "cell"
    five = extended201()
    some = five.prune(five.sample(500, 6))
    # The weaker notion, where the exact one is known: never unites different networks.
    weak = without_spare_nodes(five, some)
    np.testing.assert_array_equal(five.canonical(weak), five.canonical(some))
    # A skip into a new node, and out of it, are contracted.
    chain = np.zeros((1, 15), dtype=np.int8)
    chain[0, [0, 2, 5, 9, 14]] = [1, 3, 1, 2, 1]
    short = np.zeros((1, 15), dtype=np.int8)
    short[0, [0, 11]] = [3, 2]
    np.testing.assert_array_equal(six.canonical(chain), six.canonical(short))


def test_published_cells_are_found_among_larger_ones() -> None:
    space, published = extended201(), spaces.get("nasbench201")
    rows = published.sample(200, 0)
    wide = np.zeros((200, 10), dtype=np.int8)
    place = {edge: k for k, edge in enumerate(space._edges)}
    for e, (u, v) in enumerate(published._edges):
        wide[:, place[u + (u > 1), 4 if v == 3 else v + (v > 1)]] = rows[:, e]  # node 2 is left empty
    assert space.is_published(wide).all()
    assert not space.is_published([[3] * 10]).any()
    assert space.is_published(space.sample(500, 1)).mean() < 0.5
    assert extended201(nodes=4).is_published(rows).all()


# -- NAS-Bench-101 --------------------------------------------------------------------------


def test_seven_vertices_and_nine_edges_are_nasbench101() -> None:
    space, published = spaces.get("nasbench101x(vertices=7,edges=9)"), spaces.get("nasbench101")
    rows = np.concatenate([published.sample(500, 0), space.sample(500, 1)])
    assert space.cardinalities == published.cardinalities
    np.testing.assert_array_equal(space.is_valid(rows), published.is_valid(rows))
    assert space.hash_strings(rows) == published.hash_strings(rows)
    every = np.random.default_rng(2).integers(2, size=(3_000, 26)).astype(np.int8)
    np.testing.assert_array_equal(space.is_valid(every), published.is_valid(every))
    cells = every[space.is_valid(every)]
    index, once = published.index(cells), space.canonical(cells)
    both = np.concatenate([index[:, None], once], axis=1)
    assert len(np.unique(both, axis=0)) == len(np.unique(index)) == len(np.unique(once, axis=0))
    np.testing.assert_array_equal(space.num_vertices(cells), published.num_vertices(cells))
    assert space.is_published(cells).all()
    for row in cells[:20]:
        assert {r.tobytes() for r in space.neighbors(row)} == {r.tobytes() for r in published.neighbors(row)}
    np.testing.assert_array_equal(
        networks.count_parameters(space, cells, channels=16), networks.count_parameters(published, cells, channels=16)
    )


@settings(settings.get_profile("extended"))
@given(seed=st.integers(0, 10**6))
def test_a_permuted_cell_has_the_same_canonical_form_and_hash(seed: int) -> None:
    space = spaces.get("nasbench101x")
    assert isinstance(space, NASBench101X)
    rng = np.random.default_rng(seed)
    row = space.sample(1, rng)
    matrix = space.adjacency(row)[0]
    orders = list(itertools.islice(topological_orders(matrix), 60))
    order = orders[rng.integers(len(orders))]
    moved = space.from_matrices(matrix[np.ix_(order, order)][None], row[:, 28:][:, np.array(order[1:-1]) - 1])
    np.testing.assert_array_equal(space.canonical(moved), space.canonical(row))
    assert space.hash_strings(moved) == space.hash_strings(row)
    np.testing.assert_array_equal(space.descriptors(moved), space.descriptors(row))


def test_counts_against_all_matrices() -> None:
    for vertices in (2, 3, 4, 5):
        found: dict[int, int] = {}
        y, x = np.tril_indices(vertices, -1)
        for bits in itertools.product((0, 1), repeat=len(y)):
            matrix = np.zeros((vertices, vertices), dtype=np.int64)
            matrix[x, y] = bits
            reach = np.linalg.matrix_power(np.eye(vertices, dtype=np.int64) + matrix, vertices) > 0
            if reach[0].all() and reach[:, -1].all():
                found[sum(bits)] = found.get(sum(bits), 0) + 1
        for edges in range(1, len(y) + 1):
            assert count_cells(vertices, edges) == sum(n for e, n in found.items() if e <= edges)


def test_draws_are_uniform_over_labelled_cells() -> None:
    draws = 20_000
    columns = draw_columns(5, 7, draws, np.random.default_rng(0))
    _, observed = np.unique(np.concatenate(columns, axis=1), axis=0, return_counts=True)
    expected = draws / count_cells(5, 7)
    assert len(observed) == count_cells(5, 7)
    assert ((observed - expected) ** 2 / expected).sum() < chi2.ppf(0.999, len(observed) - 1)
    space = spaces.get("nasbench101x(vertices=4,edges=4,operations=conv_1x1+conv_3x3)")
    rows = space.sample(20_000, 1)
    _, observed = np.unique(rows, axis=0, return_counts=True)
    assert len(observed) == space.size
    assert ((observed - 20_000 / space.size) ** 2 / (20_000 / space.size)).sum() < chi2.ppf(0.999, space.size - 1)


def test_unpublished_cells_of_nasbench101x() -> None:
    space = spaces.get("nasbench101x")
    rows = space.sample(300, 0)
    matrix = space.pruned_graphs(rows)
    small = (matrix.num_nodes <= 7) & (matrix.adjacency.sum(axis=(1, 2)) <= 9)
    np.testing.assert_array_equal(space.is_published(rows), small)
    assert 0 < small.sum() < 300
    wrong = np.zeros((1, 34), dtype=np.int8)
    wrong[0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 24, 25]] = 1  # all edges of five vertices, and two into the output
    with pytest.raises(InvalidGenotypeError, match="12 edges after pruning, 11 are allowed"):
        space.validate(wrong)


# -- networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if "vertices=2" not in n])
def test_counts_are_those_of_built_networks(name: str) -> None:
    space = spaces.get(name)
    rows = space.canonical(space.sample(3, 4))  # nothing dead, which would be counted and not computed
    options = {"channels": 8}
    options |= {"cells_per_stage": 1} if "201" in name else {"modules_per_stack": 1}
    parameters, flops = (count(space, rows, **options) for count in (networks.count_parameters, networks.count_flops))
    for row, expected, adds in zip(rows, parameters, flops, strict=True):
        network = networks.build(space, row, seed=0, **options).eval()
        assert sum(p.numel() for p in network.parameters()) == expected
        seen = [0]

        def count(module: torch.nn.Module, _: object, out: torch.Tensor, seen: list[int] = seen) -> None:
            bias = getattr(module, "bias", None) is not None and "201" in name
            seen[0] += out.numel() * (module.weight[0].numel() + bias)

        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(count)
        with torch.no_grad():
            assert network(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).shape == (1, 10)
        assert seen[0] == adds


def test_four_nodes_build_the_published_network() -> None:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for name, published, rows in (
        ("nasbench201x(nodes=4)", "nasbench201", spaces.get("nasbench201").sample(3, 0)),
        ("nasbench101x(vertices=7,edges=9)", "nasbench101", spaces.get("nasbench101").sample(3, 0)),
    ):
        for row in rows:
            one, two = (networks.build(n, row, seed=3, channels=8).eval() for n in (name, published))
            with torch.no_grad():
                torch.testing.assert_close(one(images), two(images))


def test_stacks_of_five_node_cells() -> None:
    space = spaces.get("nasbench201x")
    built = [
        networks.build(space, row, seed=k, channels=4, cells_per_stage=1) for k, row in enumerate(space.sample(4, 0))
    ]
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    (stack,) = networks.stack(space, built)
    with torch.no_grad():
        together = stack(images)
        for k, network in enumerate(built):
            torch.testing.assert_close(together[:, k], network(images), rtol=1e-4, atol=1e-5)


def test_options_that_vertices_cannot_share() -> None:
    with pytest.raises(ValueError, match="nasbench101x networks must be at least 5"):
        networks.count_parameters("nasbench101x", spaces.get("nasbench101x").sample(1, 0), channels=4)
    with pytest.raises(UnknownNameError, match="space with networks"):
        networks.family("nasbench77x(nodes=3)")
