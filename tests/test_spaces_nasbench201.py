"""NAS-Bench-201: the published order, and every notion of equal networks against a slow second implementation."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from tauzero import spaces
from tauzero.spaces import InvalidGenotypeError

SPACE = spaces.get("nasbench201")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE, SKIP, CONV1, CONV3, POOL = range(5)

COUNTS = {
    "network": 5_425,
    "expression": 4_930,
    "skip_zero": 6_466,
    "skip": 12_751,
    "reachable": 9_445,
    "string": 15_625,
}

#: (finer, coarser): all pairs for which every class of the first lies in one class of the second.
REFINEMENTS = {
    *(("string", coarser) for coarser in COUNTS if coarser != "string"),
    ("reachable", "network"),
    ("reachable", "expression"),
    ("network", "expression"),
    ("skip", "expression"),
    ("skip_zero", "expression"),
}


def plain_useful_edges(row: list[int]) -> list[int]:
    """Edges on a path from node 0 to 3 that has no ``none``, by following every path there is."""
    useful = set()
    for path in ((3,), (0, 4), (1, 5), (0, 2, 5)):
        if all(row[e] != NONE for e in path):
            useful.update(path)
    return sorted(useful)


def plain_reads(row: list[int]) -> dict[int | str, Counter[int | str]]:
    """How often the output and each useful operation read the input and the other operations, skips contracted."""
    useful = plain_useful_edges(row)
    value: list[Counter[int | str]] = [Counter(["input"]), Counter(), Counter(), Counter()]
    reads: dict[int | str, Counter[int | str]] = {}
    for e in useful:  # edge numbers are in topological order
        u, v = EDGES[e]
        if row[e] == SKIP:
            value[v] += value[u]
        else:
            reads[e] = Counter(value[u])
            value[v][e] += 1
    return reads | {"output": value[3]}


def plain_graph(row: list[int]) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_node("input", label="input")
    reads = plain_reads(row)
    for reader in reads:
        graph.add_node(reader, label=reader if isinstance(reader, str) else row[reader])
    for reader, sources in reads.items():
        for source, times in sources.items():
            graph.add_edge(source, reader, times=times)
    return graph


def same_network(a: list[int], b: list[int]) -> bool:
    return nx.is_isomorphic(
        plain_graph(a),
        plain_graph(b),
        node_match=lambda x, y: x["label"] == y["label"],
        edge_match=lambda x, y: x["times"] == y["times"],
    )


def plain_expression(row: list[int]) -> tuple:
    """The output as a nested sum: sorted terms, each the input or an operation on a sum."""
    reads = plain_reads(row)

    def total(sources: Counter) -> tuple:
        terms = [
            ("x",) if source == "input" else (str(row[source]), total(reads[source])) for source in sources.elements()
        ]
        return tuple(sorted(terms))

    return total(reads["output"])


def plain_published(text: str, *, zeros: bool) -> str:
    """The procedure published as ``to_unique_str``, on the strings themselves."""
    value = ["0"]
    for node in text.split("+"):
        terms = []
        for item in node.strip("|").split("|"):
            operation, source = item.split("~")
            before = value[int(source)]
            if zeros and (operation == "none" or before == "#"):
                terms.append("#")
            elif operation == "skip_connect":
                terms.append(before)
            else:
                terms.append(f"({before})@{operation}")
        value.append("+".join(sorted(terms)))
    return value[-1]


def assert_same_partition(labels: np.ndarray, keys: list) -> None:
    numbers: dict = {}
    other = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    pairs = np.unique(np.stack([labels, other], axis=1), axis=0)
    assert len(pairs) == labels.max() + 1 == len(numbers)


# -- order and names --------------------------------------------------------------------------


def test_official_order(shared_data: Path) -> None:
    table = pd.read_parquet(shared_data / "nb201" / "nb201.parquet")
    assert SPACE.to_string(SPACE.enumerate()) == table["arch_str"].tolist()
    np.testing.assert_array_equal(SPACE.enumerate(), table[[f"op{k}" for k in range(6)]].to_numpy())


def test_official_order_without_data() -> None:
    """The ends of the shuffled order, and cell 6111, the table's best on CIFAR-10."""
    texts = SPACE.to_string(SPACE.enumerate())
    assert texts[0] == "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert texts[-1] == "|nor_conv_1x1~0|+|none~0|nor_conv_1x1~1|+|none~0|nor_conv_1x1~1|nor_conv_1x1~2|"
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    assert SPACE.index(SPACE.from_string([best])).tolist() == [6111]


def test_unknown_operation_in_a_string() -> None:
    with pytest.raises(InvalidGenotypeError, match=r"Unknown operation 'conv_7x7' in string 1\. Known: none, skip_"):
        SPACE.from_string(
            [SPACE.to_string(SPACE.enumerate()[:1])[0], "|conv_7x7~0|+|none~0|none~1|+|none~0|none~1|none~2|"]
        )
    with pytest.raises(InvalidGenotypeError, match="String 0 is not a NAS-Bench-201 architecture"):
        SPACE.from_string(["|none~0|+|none~0|none~0|+|none~0|none~1|none~2|"])  # the second node reads node 0 twice


# -- notions of equal networks ----------------------------------------------------------------


def test_counts() -> None:
    assert set(SPACE.notions) == set(COUNTS)
    assert {notion: len(np.unique(SPACE.classes(notion))) for notion in SPACE.notions} == COUNTS


@pytest.mark.parametrize("zeros", [False, True], ids=["skip", "skip_zero"])
def test_published_notions(zeros: bool) -> None:
    keys = [plain_published(text, zeros=zeros) for text in SPACE.to_string(SPACE.enumerate())]
    assert_same_partition(SPACE.classes("skip_zero" if zeros else "skip"), keys)


def test_expression_notion() -> None:
    assert_same_partition(SPACE.classes("expression"), [plain_expression(row) for row in SPACE.enumerate().tolist()])


def test_dead_operations() -> None:
    rows = SPACE.enumerate()
    useful = [plain_useful_edges(row) for row in rows.tolist()]
    expected = np.zeros(rows.shape, dtype=bool)
    for mask, edges in zip(expected, useful, strict=True):
        mask[edges] = True
    np.testing.assert_array_equal(SPACE.active_edges(rows), expected)
    np.testing.assert_array_equal(SPACE.prune(rows), np.where(expected, rows, NONE))
    np.testing.assert_array_equal(SPACE.has_dead_operations(rows), ((rows != NONE) & ~expected).any(axis=1))
    np.testing.assert_array_equal(SPACE.is_connected(rows), expected.any(axis=1))
    assert int((~SPACE.has_dead_operations(rows)).sum()) == 9_445
    assert int((~SPACE.is_connected(rows)).sum()) == 341
    assert_same_partition(SPACE.classes("reachable"), [row.tobytes() for row in SPACE.prune(rows)])


def test_network_notion_takes_only_isomorphic_cells_together() -> None:
    """A seeded sample of pairs inside one class, among them pairs that differ after pruning."""
    labels, rows = SPACE.classes("network"), SPACE.enumerate()
    rng = np.random.default_rng(0)
    order = rng.permutation(SPACE.size)
    order = order[np.argsort(labels[order], kind="stable")]
    pairs = np.stack([order[:-1], order[1:]], axis=1)[labels[order[:-1]] == labels[order[1:]]]
    pruned = SPACE.prune(rows)
    hard = pairs[(pruned[pairs[:, 0]] != pruned[pairs[:, 1]]).any(axis=1)]
    assert len(hard) > 1_000
    for a, b in np.concatenate([rng.choice(hard, 250, replace=False), rng.choice(pairs, 50, replace=False)]):
        assert same_network(rows[a].tolist(), rows[b].tolist()), (rows[a], rows[b])


def test_network_notion_keeps_other_cells_apart() -> None:
    """Classes that are hard to tell apart: the same expression, or the same operations and number of reads."""
    labels, rows = SPACE.classes("network"), SPACE.canonical(SPACE.enumerate())
    _, first = np.unique(labels, return_index=True)
    expression = SPACE.classes("expression")[first]
    signature = []
    for i in first:
        row = rows[i].tolist()
        reads = plain_reads(row)
        signature.append(
            (
                tuple(sorted(row[e] for e in reads if e != "output")),
                tuple(sorted(sum(c.values()) for c in reads.values())),
            )
        )
    rng = np.random.default_rng(1)
    for keys, least in ((expression.tolist(), 400), (signature, 1_000)):
        groups: dict = {}
        for i, key in zip(first, keys, strict=True):
            groups.setdefault(key, []).append(i)
        pairs = [pair for members in groups.values() for pair in itertools.combinations(members[:12], 2)]
        assert len(pairs) >= least
        for k in rng.choice(len(pairs), 250, replace=False):
            a, b = (rows[i].tolist() for i in pairs[k])
            assert not same_network(a, b), (a, b)


# Rows: operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.
SHARED = [CONV3, NONE, SKIP, NONE, CONV1, CONV1]  # c3 = conv3(x); conv1(c3) + conv1'(c3)
SEPARATE = [CONV3, CONV3, NONE, NONE, CONV1, CONV1]  # conv1(conv3(x)) + conv1'(conv3'(x))


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        pytest.param(SHARED, SEPARATE, {"expression"}, id="one shared convolution is not two separate ones"),
        pytest.param(
            [CONV3, NONE, NONE, NONE, NONE, NONE],
            [NONE, CONV1, NONE, NONE, NONE, NONE],
            {"network", "expression", "reachable"},
            id="both disconnected",
        ),
        pytest.param(
            [CONV3, NONE, NONE, NONE, SKIP, NONE],
            [NONE, CONV3, NONE, NONE, NONE, SKIP],
            {"network", "expression"},
            id="the same operation by either node",
        ),
        pytest.param(
            [CONV3, NONE, SKIP, NONE, NONE, POOL],
            [CONV3, POOL, NONE, NONE, POOL, NONE],
            {"network", "expression"},
            id="a skip between two operations, a dead operation",
        ),
        pytest.param(
            [SKIP, SKIP, NONE, SKIP, SKIP, SKIP],
            [SKIP, NONE, SKIP, SKIP, SKIP, SKIP],
            {"network", "expression"},
            id="three times the input, two ways",
        ),
        pytest.param(
            [SKIP, SKIP, SKIP, NONE, NONE, CONV3],
            [SKIP, SKIP, NONE, NONE, NONE, CONV3],
            set(),
            id="a convolution reads the input twice or once",
        ),
        pytest.param(
            [NONE, NONE, NONE, CONV3, NONE, NONE],
            [NONE, NONE, NONE, CONV1, NONE, NONE],
            set(),
            id="other operations",
        ),
    ],
)
def test_examples(a: list[int], b: list[int], equal: set[str]) -> None:
    i, j = SPACE.index([a, b])
    notions = ("network", "expression", "reachable")  # the published ones have their own test, over all cells
    assert {notion for notion in notions if SPACE.classes(notion)[i] == SPACE.classes(notion)[j]} == equal
    assert same_network(a, b) == ("network" in equal)
    assert (plain_expression(a) == plain_expression(b)) == ("expression" in equal)


def test_refinements() -> None:
    """`skip` does not refine `skip_zero`, nor `network` either of them: joined strings are no nested sums."""
    found = set()
    for finer, coarser in itertools.permutations(SPACE.notions, 2):
        a, b = SPACE.classes(finer), SPACE.classes(coarser)
        if len(np.unique(a * SPACE.size + b)) == a.max() + 1:
            found.add((finer, coarser))
    assert found == REFINEMENTS


def test_equal_networks_have_equal_parameters(shared_data: Path) -> None:
    """Pruned cells of one class hold the same convolutions; by the coarser `expression` they need not."""
    table = pd.read_parquet(shared_data / "nb201" / "nb201.parquet")
    column = next(name for name in table.columns if name.startswith("params_m"))
    parameters = table[column].to_numpy()[SPACE.index(SPACE.prune(SPACE.enumerate()))]
    spread = {
        notion: (pd.Series(parameters).groupby(SPACE.classes(notion)).agg(np.ptp) > 1e-6).sum()
        for notion in ("network", "expression")
    }
    assert spread["network"] == 0
    assert spread["expression"] > 0


@pytest.mark.parametrize("notion", ["network", "expression", "reachable"])
def test_representatives_carry_nothing_dead(notion: str) -> None:
    rows = SPACE.enumerate()
    representative = SPACE.canonical(rows, notion)
    assert not SPACE.has_dead_operations(representative).any()
    assert ((representative != NONE).sum(axis=1) <= (SPACE.prune(rows) != NONE).sum(axis=1)).all()


# -- graphs -----------------------------------------------------------------------------------


def test_graph_of_an_example() -> None:
    graphs = SPACE.graphs([[CONV3, NONE, SKIP, POOL, NONE, CONV1]])
    names = [spaces.OPERATIONS[code] for code in graphs.ops[0]]
    assert names == ["input", "conv_3x3", "none", "skip_connect", "avg_pool_3x3", "none", "conv_1x1", "output"]
    edges = {tuple(edge) for edge in np.argwhere(graphs.adjacency[0]).tolist()}
    assert edges == {(0, 1), (0, 4), (1, 3), (3, 6), (4, 7), (6, 7)}


def test_contracted_graphs() -> None:
    """Skips out of the graph leave what reads what, parallel reads counted."""
    rows = SPACE.prune(SPACE.sample(300, 2))
    graphs = SPACE.graphs(rows).contract(spaces.operation_code("skip_connect"))
    assert graphs.adjacency.max() > 1
    for matrix, row in zip(graphs.adjacency, rows.tolist(), strict=True):
        expected = np.zeros((8, 8), dtype=int)
        place = {"input": 0, "output": 7, **{e: e + 1 for e in range(6)}}
        for reader, sources in plain_reads(row).items():
            for source, times in sources.items():
                expected[place[source], place[reader]] = times
        np.testing.assert_array_equal(matrix, expected)


def test_descriptors_are_the_costs_of_the_pruned_network() -> None:
    """Against the counts that the networks are tested with; these include the classifier and its bias."""
    networks = pytest.importorskip("tauzero.networks")
    rows = SPACE.enumerate()
    values = np.exp(SPACE.descriptors(rows))
    pruned = SPACE.prune(rows)
    parameters = networks.count_parameters(SPACE, pruned, dataset="cifar10") - 65 * 10
    multiply_adds = networks.count_flops(SPACE, pruned, dataset="cifar10") - 65 * 10
    np.testing.assert_allclose(values, np.stack([parameters, multiply_adds], axis=1), rtol=1e-12)
    assert SPACE.descriptor_names == ("log_parameters", "log_multiply_adds")
