"""NAS-Bench-Graph: the authors' 26,206 numbers, equal networks against graphs, notations; no image networks."""

from __future__ import annotations

import itertools
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from tauzero import networks, spaces
from tauzero.spaces import InvalidGenotypeError, NASBenchGraph, UnknownNameError
from tauzero.spaces.nasbench_graph import LINKS

SPACE = spaces.get("nasbench_graph")
assert isinstance(SPACE, NASBenchGraph)
SKIP = 8


def tree(parents: tuple[int, ...], ops: list[int]) -> nx.DiGraph:
    """Input, nodes and what they read; operations as labels."""
    graph = nx.DiGraph()
    graph.add_node(0, op=-1)
    for node, (parent, op) in enumerate(zip(parents, ops, strict=True), 1):
        graph.add_node(node, op=op)
        graph.add_edge(parent, node)
    return graph


def simplified(graph: nx.DiGraph) -> nx.DiGraph:
    """Without skip connections that something reads, that stand alone behind what they read, or that are a leaf of the
    input; one after the other, in any order."""
    graph = graph.copy()
    while True:
        for node in [v for v in graph if graph.nodes[v]["op"] == SKIP]:
            (parent,) = graph.predecessors(node)
            if graph.out_degree(node) or graph.out_degree(parent) == 1 or parent == 0:
                graph.add_edges_from((parent, child) for child in list(graph.successors(node)))
                graph.remove_node(node)
                break
        else:
            return graph


def written(graph: nx.DiGraph, node: int = 0) -> str:
    """The same text for the same tree, whatever the order of children."""
    children = sorted(written(graph, child) for child in graph.successors(node))
    return f"({graph.nodes[node]['op']}{''.join(children)})"


# -- the authors' networks --------------------------------------------------------------------


def test_numbers_are_the_keys_of_the_published_table(shared_data: Path) -> None:
    folder = shared_data / "other_spaces"
    keys = pd.read_parquet(folder / "nasbench_graph.parquet", columns=["hash"])["hash"].to_numpy()
    rows = SPACE.enumerate()
    np.testing.assert_array_equal(np.sort(keys), SPACE.hash(rows))
    few = pd.read_parquet(folder / "nasbench_graph_proteins.parquet", columns=["hash"])["hash"].to_numpy()
    assert len(few) == 2_021
    np.testing.assert_array_equal(SPACE.hash(SPACE.from_hash(few)), few)
    assert set(np.unique(SPACE.from_hash(few)[:, 1:])) == {1, 4, 5, 7, 8}  # gcn, sage, arma, fc, skip


def test_equal_rows_are_equal_trees() -> None:
    """Over all 59,040 rows: as many different simplified trees as networks, and each has one."""
    rng = np.random.default_rng(0)
    seen: dict[str, int] = {}
    for link, parents in enumerate(LINKS):
        for ops in itertools.product((0, 3, SKIP), repeat=4):
            if set(ops) == {SKIP}:
                continue
            text = written(simplified(tree(parents, list(ops))))
            index = int(SPACE.index([[link, *ops]])[0])
            assert seen.setdefault(text, index) == index
    assert len(set(seen.values())) == len(seen)
    for row in SPACE.sample(200, rng):
        representative = SPACE.canonical(row[None])[0].tolist()
        a, b = (simplified(tree(LINKS[r[0]], r[1:])) for r in (row.tolist(), representative))
        assert written(a) == written(b)


@pytest.mark.parametrize(
    ("row", "canonical"),
    [
        ([0, 3, 2, 1, 0], [0, 0, 1, 2, 3]),  # four nodes beside one another
        ([1, 5, 3, 0, 7], [1, 5, 0, 3, 7]),  # two of them
        ([3, 4, 2, 0, 1], [3, 2, 4, 1, 0]),  # two chains of two
        ([8, 1, 8, 2, 8], [8, 8, 8, 1, 2]),  # skips in a chain come first
        ([0, 8, 1, 1, 1], [5, 8, 1, 1, 1]),  # the input itself is not joined to the output: the others stay
        ([7, 1, 2, 8, 3], [7, 1, 2, 3, 8]),  # a skip beside another node joins what it reads to the output
        ([2, 1, 2, 8, 8], [2, 1, 2, 8, 8]),
    ],
)
def test_canonical_by_hand(row: list[int], canonical: list[int]) -> None:
    assert SPACE.canonical([row]).tolist() == [canonical]
    assert SPACE.hash([row]).tolist() == [int("".join(map(str, canonical)))]


def test_the_one_invalid_architecture() -> None:
    rows = [[link, SKIP, SKIP, SKIP, SKIP] for link in range(9)]
    assert not SPACE.is_valid(rows).any()
    with pytest.raises(InvalidGenotypeError, match="all four operations are skip connections"):
        SPACE.index(rows)
    with pytest.raises(InvalidGenotypeError, match="all four operations"):
        SPACE.from_hash([88_888])


# -- notations --------------------------------------------------------------------------------


def test_strings() -> None:
    row = [[6, 1, 3, 2, 7]]
    assert SPACE.to_string(row) == ["Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])"]
    # What the package's `regularize` makes of the README's example. (The README itself joins fc to cheb.)
    given = ["Arch([0, 1, 2, 1], ['gcn', 'gin', 'fc', 'cheb'])", "Arch([0, 1, 1, 2], ['gcn', 'gin', 'cheb', 'fc'])"]
    same = SPACE.canonical(SPACE.from_string(given))
    assert (same[0] == same[1]).all()
    assert SPACE.from_string(["61327", " 01111", "1111"]).tolist() == [[6, 1, 3, 2, 7], *[[0, 1, 1, 1, 1]] * 2]


def test_every_list_of_earlier_nodes_is_read() -> None:
    ops = ["gat", "gcn", "skip", "cheb"]
    for parents in itertools.product(range(1), range(2), range(3), range(4)):
        row = SPACE.from_string([f"Arch({list(parents)}, {ops})"])
        codes = [SPACE.operations.index(op) for op in ops]
        assert written(tree(LINKS[row[0, 0]], row[0, 1:].tolist())) == written(tree(parents, codes))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Arch([0, 1, 2, 4], ['gcn', 'gin', 'fc', 'cheb'])", "node 4 reads 0 to 3, not 4"),
        ("Arch([0, True, 2, 1], ['gcn', 'gin', 'fc', 'cheb'])", "not True"),
        ("Arch([0, 1, 2, 1], ['gcn', 'gin', 'fc', 'mlp'])", "unknown operation 'mlp'"),
        ("Arch([0, 1, 2], ['gcn', 'gin', 'fc'])", "not two lists of four"),
        ("Arch([0, 1, 2, 1])", "no Arch"),
        ("open('x')", "no Arch"),
        ("Arch([0, 1, 2, 1], [print(), 'gin', 'fc', 'cheb'])", "malformed"),
        ("12345678", "Expected up to five digits"),
        ("90000", "Expected up to five digits"),
        ("9" * 5_000, "Expected up to five digits"),
        ("88888", "all four operations"),
    ],
)
def test_strings_that_cannot_be_read(text: str, reason: str) -> None:
    with pytest.raises(InvalidGenotypeError, match=f"String 0 is no network of NAS-Bench-Graph.*{reason}"):
        SPACE.from_string([text])


@pytest.mark.parametrize("numbers", [[-1], [100_000], [0.5], [[1]], ["1"]])
def test_numbers_that_are_none(numbers: list[object]) -> None:
    with pytest.raises(InvalidGenotypeError, match=r"numbers|Number 0 is none of nasbench_graph"):
        SPACE.from_hash(np.array(numbers))


# -- graphs and networks ----------------------------------------------------------------------


def test_the_output_reads_what_nothing_else_reads() -> None:
    graphs = SPACE.graphs([[6, 1, 3, 2, 7]])
    assert np.argwhere(graphs.adjacency[0]).tolist() == [[0, 1], [1, 2], [1, 3], [2, 4], [3, 5], [4, 5]]
    names = [spaces.OPERATIONS[code] for code in graphs.ops[0]]
    assert names == ["input", "gcn_conv", "cheb_conv", "gin_conv", "linear", "output"]
    described = dict(zip(SPACE.descriptor_names, SPACE.descriptors([[6, 1, 3, 2, 7]])[0].tolist(), strict=True))
    assert described == {"outputs": 2, "depth": 3, "skips": 0}


def test_there_are_no_image_networks_and_the_error_says_why() -> None:
    for call in (lambda: networks.build(SPACE, [0, 1, 1, 1, 1]), lambda: networks.family("nasbench_graph")):
        with pytest.raises(UnknownNameError, match=r"'nasbench_graph' has no networks: they are graph neural networks"):
            call()
    assert "nasbench_graph" not in networks.names()
