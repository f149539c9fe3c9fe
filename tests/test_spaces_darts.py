"""DARTS: networks that are equal, every notation that is read, costs, and the cells of NAS-Bench-301."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from space_helpers import renumbered

from tauzero import spaces
from tauzero.spaces import InvalidGenotypeError

SPACE = spaces.get("darts")
PREFIX = "NetworkSelectorDatasetInfo:darts:"

#: The cells that DARTS (second order) found, as published in its ``genotypes.py``.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)


@pytest.fixture(scope="module")
def table(shared_data: Path) -> pd.DataFrame:
    path = shared_data / "other_spaces" / "nasbench301_naslib.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return pd.read_parquet(path, columns=["normal", "reduce", "params", "flops"])


@pytest.fixture(scope="module")
def published(table: pd.DataFrame) -> spaces.Genotypes:
    return SPACE.from_naslib(*([json.loads(text) for text in table[cell]] for cell in ("normal", "reduce")))


def plain_graph(columns: list[int]) -> nx.DiGraph:
    """One cell with an operation on each edge; parallel edges cannot be, the inputs of a node differ."""
    graph = nx.DiGraph()
    graph.add_nodes_from((k, {"what": f"input {k}"}) for k in (0, 1))
    for node in range(4):
        a, b, x, y = columns[4 * node : 4 * node + 4]
        graph.add_node(2 + node, what="sum")
        graph.add_edge(a, 2 + node, op=x)
        graph.add_edge(b, 2 + node, op=y)
    return graph


def same_network(first: np.ndarray, second: np.ndarray) -> bool:
    return all(
        nx.is_isomorphic(
            plain_graph(first[cell].tolist()),
            plain_graph(second[cell].tolist()),
            node_match=lambda u, v: u["what"] == v["what"],
            edge_match=lambda u, v: u["op"] == v["op"],
        )
        for cell in (slice(0, 16), slice(16, 32))
    )


# -- members ----------------------------------------------------------------------------------


def test_size() -> None:
    assert SPACE.size == (1 * 3 * 6 * 10 * 7**8) ** 2 == 1_076_746_950_455_072_400
    assert not SPACE.enumerable


def test_both_inputs_of_a_node_must_differ() -> None:
    row = SPACE.sample(1, 0)
    row[0, 16 + 8 : 16 + 10] = 2
    assert SPACE.is_valid(row).tolist() == [False]
    for call in (SPACE.validate, SPACE.to_string, SPACE.graphs, SPACE.canonical, SPACE.costs, SPACE.descriptors):
        with pytest.raises(InvalidGenotypeError, match="node 4 of the reduce cell reads input 2 twice"):
            call(row)


def test_samples_are_uniform() -> None:
    rows = SPACE.sample(20_000, 3).reshape(-1, 2, 4, 4)
    assert (rows[..., 0] < rows[..., 1]).all()
    for cell, node in itertools.product(range(2), range(4)):
        a, b, x, y = rows[:, cell, node].T.astype(int)
        pairs = np.unique(10 * a + b, return_counts=True)[1]
        operations = np.bincount(7 * x + y, minlength=49)
        for observed, number in ((pairs, (1, 3, 6, 10)[node]), (operations, 49)):
            assert len(observed) == number
            expected = len(rows) / number
            assert ((observed - expected) ** 2 / expected).sum() <= chi2.ppf(0.9999, max(number - 1, 1))


def test_neighbors_change_the_network() -> None:
    """96 changes of an operation, 24 of an input, less those that a renumbering undoes."""
    assert len(SPACE.neighbors(SPACE.sample(1, 0))) == 120
    twins = SPACE.from_string([DARTS_V2])  # the last two nodes of the normal cell could change places
    twins[0, :16] = [0, 1, 0, 0, 0, 1, 3, 3, 0, 1, 3, 3, 0, 2, 5, 5]
    changed = twins.copy()
    changed[0, 13] = 3  # node 5 reads node 3 instead of 2: another network, the two differ in their operations
    changed_back = twins.copy()
    changed_back[0, 2:4] = 3
    undone = changed_back.copy()
    undone[0, 13] = 3  # here nodes 2 and 3 are twins
    assert not same_network(twins[0], changed[0])
    assert same_network(changed_back[0], undone[0])
    assert (SPACE.neighbors(twins) == changed).all(axis=1).any()
    assert not (SPACE.neighbors(changed_back) == undone).all(axis=1).any()


# -- equal networks ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(seed=st.integers(0, 2**32), order=st.integers(0, 2**32))
def test_canonical_is_the_same_for_renumbered_cells(seed: int, order: int) -> None:
    rows = SPACE.sample(20, seed)
    moved = renumbered(rows, order)
    kept = moved.copy()
    np.testing.assert_array_equal(SPACE.canonical(moved), SPACE.canonical(rows))
    np.testing.assert_array_equal(SPACE.descriptors(moved), SPACE.descriptors(rows))
    np.testing.assert_array_equal(moved, kept)
    once = SPACE.canonical(rows)
    np.testing.assert_array_equal(SPACE.canonical(once), once)
    assert all(same_network(a, b) for a, b in zip(rows, once, strict=True))


def test_canonical_tells_different_networks_apart() -> None:
    """Cells of two operations, among which many are equal, pair by pair with an isomorphism test."""
    rows = SPACE.sample(150, 5)
    rows.reshape(-1, 4, 4)[..., 2:] %= 2
    rows[:, 16:] = rows[0, 16:]
    rows[:, 2:4] = rows[:, 6:8] = 0
    canonical = SPACE.canonical(rows)
    equal = 0
    for a, b in itertools.combinations(range(len(rows)), 2):
        same = same_network(rows[a], rows[b])
        assert same == bool((canonical[a] == canonical[b]).all())
        equal += same and bool((rows[a] != rows[b]).any())
    assert equal > 0


def test_canonical_is_the_least_of_all_orders() -> None:
    """By wiring first, then by operations, over all orders of the nodes in which each reads earlier ones."""
    for row in SPACE.sample(100, 6):
        cell = row[:16].reshape(4, 4).tolist()
        found = []
        for order in itertools.permutations(range(4)):
            place = {0: 0, 1: 1} | {2 + node: 2 + k for k, node in enumerate(order)}
            lines = [sorted([(place[a], x), (place[b], y)]) for a, b, x, y in (cell[node] for node in order)]
            if all(source < 2 + k for k, line in enumerate(lines) for source, _ in line):
                flat = [pair for line in lines for pair in line]
                found.append(([source for source, _ in flat], [op for _, op in flat]))
        best = min(found)
        assert SPACE.canonical(row[None])[0, :16].reshape(4, 4)[:, :2].reshape(-1).tolist() == best[0]
        assert SPACE.canonical(row[None])[0, :16].reshape(4, 4)[:, 2:].reshape(-1).tolist() == best[1]


def test_string_notion_sorts_inputs_only() -> None:
    row = SPACE.sample(1, 7)
    swapped = row.reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(1, 32)
    np.testing.assert_array_equal(SPACE.canonical(swapped, "string"), row)
    np.testing.assert_array_equal(SPACE.canonical(SPACE.canonical(row, "string")), SPACE.canonical(row))


# -- notations --------------------------------------------------------------------------------


def test_published_genotype() -> None:
    row = SPACE.from_string([DARTS_V2])
    assert row[0, :8].tolist() == [0, 1, 3, 3, 0, 1, 3, 3]
    assert row[0, 16:24].tolist() == [0, 1, 0, 0, 2, 1, 2, 0]
    assert SPACE.to_string(row) == [DARTS_V2]
    ranges = DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)")  # as printed by the search
    tuples = DARTS_V2.replace("[", "(").replace("]", ")")
    np.testing.assert_array_equal(
        SPACE.from_string([ranges, tuples, DARTS_V2.replace(", reduce_concat=[2, 3, 4, 5]", "")]), row[[0, 0, 0]]
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("('sep_conv_3x3', 0), ", "", "The normal cell must have 8 pairs of input and operation. Got 6"),
        ("sep_conv_3x3", "none", "Unknown operation 'none' in the normal cell. Known: max_pool_3x3"),
        ("('skip_connect', 2), ('max_pool_3x3', 1)]", "('skip_connect', 5), ('max_pool_3x3', 1)]", "Node 5 .* 0 to 4"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "reads inputs 0 to 4. Got True"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "node 5 of the normal cell reads input 0 twice"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=[3, 4, 5]", "normal_concat must name nodes 2 to 5"),
        ("Genotype(", "print(", "is not a DARTS genotype"),
        ("reduce=", "other=", "is not a DARTS genotype"),
        ("'max_pool_3x3'", "open('x')", "is not a DARTS genotype"),
        (")", "", "is not a DARTS genotype"),
        ("normal=", "normal=3, x=", "is not a DARTS genotype"),
        ("reduce_concat", "**", "is not a DARTS genotype"),
    ],
)
def test_bad_strings(old: str, new: str, reason: str) -> None:
    with pytest.raises(InvalidGenotypeError, match=rf"String 1 .*{reason}"):
        SPACE.from_string([DARTS_V2, DARTS_V2.replace(old, new)])


def test_strings_are_not_evaluated(tmp_path: Path) -> None:
    target = tmp_path / "written"
    attack = f"Genotype(normal=__import__('pathlib').Path({str(target)!r}).touch(), reduce=[])"
    for text in (attack, attack.replace("Genotype(normal=", "").replace(", reduce=[])", ""), "(" * 5_000 + ")" * 5_000):
        with pytest.raises(InvalidGenotypeError, match="String 0 is not a DARTS genotype"):
            SPACE.from_string([text])
    assert not target.exists()


def test_configurations_go_there_and_back() -> None:
    rows = SPACE.sample(200, 8)
    configurations = SPACE.to_configspace(rows)
    assert all(len(c) == 16 + 6 for c in configurations)
    np.testing.assert_array_equal(SPACE.from_configspace(configurations), rows)
    assert SPACE.from_configspace([]).shape == (0, 32)
    assert configurations[0] == SPACE.to_configspace(rows.reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(-1, 32))[0]


def test_edges_are_numbered_by_target_node() -> None:
    found = SPACE.to_configspace(SPACE.from_string([DARTS_V2]))[0]
    normal = {key.removeprefix(PREFIX): value for key, value in found.items() if "normal" in key}
    assert normal == {
        "edge_normal_0": "sep_conv_3x3",
        "edge_normal_1": "sep_conv_3x3",
        "edge_normal_2": "sep_conv_3x3",
        "edge_normal_3": "sep_conv_3x3",
        "edge_normal_5": "skip_connect",
        "edge_normal_6": "sep_conv_3x3",
        "edge_normal_9": "skip_connect",
        "edge_normal_11": "dil_conv_3x3",
        "inputs_node_normal_3": "0_1",
        "inputs_node_normal_4": "0_1",
        "inputs_node_normal_5": "0_2",
    }


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("edge_normal_0", None, "key 'NetworkSelectorDatasetInfo:darts:edge_normal_0' is missing"),
        ("inputs_node_reduce_4", None, "inputs_node_reduce_4' is missing"),
        ("edge_normal_1", "conv_9x9", "Unknown operation 'conv_9x9' in the normal cell"),
        ("inputs_node_normal_4", "0", "The normal cell must have 8 pairs"),
        ("inputs_node_normal_4", "a_b", "is not one of NAS-Bench-301"),
        ("inputs_node_normal_3", "0_0", "node 3 of the normal cell reads input 0 twice"),
    ],
)
def test_bad_configurations(key: str, value: str | None, reason: str) -> None:
    good = SPACE.to_configspace(SPACE.from_string([DARTS_V2]))[0]
    bad = good | {PREFIX + key: value}
    bad[PREFIX + "edge_normal_2"] = "skip_connect"
    if value is None:
        del bad[PREFIX + key]
    if value == "0_0":
        bad[PREFIX + "edge_normal_3"] = "skip_connect"
    with pytest.raises(InvalidGenotypeError, match=f"Configuration 1 .*{reason}"):
        SPACE.from_configspace([good, bad])


def test_naslib_form() -> None:
    pairs = [[0, 3], [1, 3], [0, 3], [1, 3], [1, 3], [0, 2], [0, 2], [2, 5]]
    row = SPACE.from_naslib([pairs], [pairs])
    np.testing.assert_array_equal(row[:, :16], SPACE.from_string([DARTS_V2])[:, :16])
    for wrong, reason in (
        (pairs[:7], "8 pairs"),
        ([*pairs[:7], [5, 0]], "Node 5 of the normal cell reads inputs 0 to 4. Got 5"),
        ([*pairs[:7], [1, 7]], "Unknown operation 7"),
        ([*pairs[:7], [1, 2, 3]], "is not in NASLib's form"),
        ([*pairs[:7], 1], "is not in NASLib's form"),
        ([*pairs[:7], [0, 1]], "node 5 of the normal cell reads input 0 twice"),
    ):
        with pytest.raises(InvalidGenotypeError, match=f"Architecture 1 .*{reason}"):
            SPACE.from_naslib([pairs, wrong], [pairs, pairs])


# -- graphs -----------------------------------------------------------------------------------


def test_cells_are_wired_as_the_genotype_says() -> None:
    """Without sums, each operation reads the cell input or the operations of the node that the genotype names."""
    rows = SPACE.sample(50, 9)
    for k, graphs in enumerate(SPACE.cells(rows).values()):
        for row, adjacency, ops in zip(rows, graphs.adjacency, graphs.ops, strict=True):
            names = [spaces.OPERATIONS[code] for code in ops]
            assert names[:3] == ["input", "cell_input_0", "cell_input_1"]
            assert names[15] == "output"
            for node, (a, b, x, y) in enumerate(row[16 * k : 16 * k + 16].reshape(4, 4).tolist()):
                total = 5 + 3 * node
                assert names[total - 2 : total + 1] == [SPACE.operations[x], SPACE.operations[y], "sum"]
                assert np.flatnonzero(adjacency[:, total]).tolist() == [total - 2, total - 1]
                for own, source in ((total - 2, a), (total - 1, b)):
                    assert np.flatnonzero(adjacency[:, own]).tolist() == [1 + source if source < 2 else 3 * source - 1]
            assert np.flatnonzero(adjacency[:, 15]).tolist() == [5, 8, 11, 14]
            assert adjacency.sum() == 2 + 8 + 8 + 4


def test_one_graph_of_both_cells() -> None:
    rows = SPACE.sample(20, 10)
    whole, (normal, reduce) = SPACE.graphs(rows), SPACE.cells(rows).values()
    assert whole.max_nodes == 31
    np.testing.assert_array_equal(whole.adjacency[:, :16, :16], normal.adjacency)
    np.testing.assert_array_equal(whole.adjacency[:, 15:, 15:], reduce.adjacency)
    assert whole.adjacency.sum() == normal.adjacency.sum() + reduce.adjacency.sum()
    np.testing.assert_array_equal(whole.ops[:, :15], normal.ops[:, :15])
    np.testing.assert_array_equal(whole.ops[:, 16:], reduce.ops[:, 1:])
    assert (whole.ops[:, 15] == spaces.operation_code("sum")).all()


# -- costs ------------------------------------------------------------------------------------


def test_descriptors_of_the_published_genotype() -> None:
    row = SPACE.from_string([DARTS_V2])
    values = dict(zip(SPACE.descriptor_names, SPACE.descriptors(row)[0].tolist(), strict=True))
    counts = {name: int(value) for name, value in values.items() if not name.startswith("log_")}
    assert counts == {
        "normal_skips": 2,
        "normal_poolings": 0,
        "normal_convolutions": 6,
        "normal_depth": 2,
        "reduce_skips": 3,
        "reduce_poolings": 5,
        "reduce_convolutions": 0,
        "reduce_depth": 2,
    }
    parameters, multiply_adds = (int(cost[0]) for cost in SPACE.costs(row))
    assert values["log_parameters"] == pytest.approx(np.log(parameters))
    assert values["log_multiply_adds"] == pytest.approx(np.log(multiply_adds))


def test_cost_of_an_operation() -> None:
    """What one changed operation costs, counted by hand over the six normal or two reduction layers."""
    row = SPACE.from_string([DARTS_V2])
    row[0, 16:] = [0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]
    for column, code, layers, by_hand in (
        (15, 6, (32, 32, 64, 64, 128, 128), lambda c: 25 * c + c * c + 2 * c),
        (15, 3, (32, 32, 64, 64, 128, 128), lambda c: 2 * (9 * c + c * c + 2 * c)),
        (31, 4, (64, 128), lambda c: 2 * (25 * c + c * c + 2 * c)),
        (30, 2, (64, 128), lambda c: c * c + 2 * c),  # halves the image
        (31, 2, (64, 128), lambda _: 0),  # reads an inner node: the identity
    ):
        changed, without = row.copy(), row.copy()
        without[0, column], changed[0, column] = 0, code
        (with_it, _), (base, _) = SPACE.costs(changed), SPACE.costs(without)
        assert int(with_it[0] - base[0]) == sum(map(by_hand, layers))


# -- the published cells ----------------------------------------------------------------------


def test_every_published_cell_can_be_read(table: pd.DataFrame, published: spaces.Genotypes) -> None:
    assert len(published) == len(table) == 12_439
    assert SPACE.is_valid(published).all()
    assert len(SPACE.distinct(published)[0]) == 12_439  # no two of them are the same network
    text = SPACE.to_string(published[:500])
    np.testing.assert_array_equal(SPACE.from_string(text), published[:500])


def test_parameters_are_the_published_ones(table: pd.DataFrame, published: spaces.Genotypes) -> None:
    """NASLib counts without the batch norms of operations (its ones are not affine): the rest agrees exactly."""
    counted = table["params"].notna().to_numpy()
    assert counted.sum() == 1_218
    cells = published[counted].reshape(-1, 2, 4, 4)
    norms = np.array([0, 0, 0, 4, 4, 2, 2])[cells[..., 2:]].sum(axis=(2, 3))
    reducing = ((cells[:, 1, :, 2:] == 2) & (cells[:, 1, :, :2] < 2)).sum(axis=(1, 2))
    affine = norms[:, 0] * 2 * (32 + 64 + 128) + (norms[:, 1] + 2 * reducing) * (64 + 128)
    parameters, multiply_adds = SPACE.costs(published[counted])
    assert np.abs(parameters - affine - table["params"][counted] * 1e6).max() < 1  # stored as float32
    # NASLib's FLOPs also count batch norm, ReLU and pooling.
    ratio = table["flops"][counted] * 1e6 / multiply_adds
    assert 1.0 < ratio.min() < ratio.max() < 1.12


def test_a_published_log_can_be_read(shared_data: Path) -> None:
    path = shared_data / "originals" / "nasbench301" / "results_0.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    configuration = json.loads(path.read_text())["optimized_hyperparamater_config"]
    row = SPACE.from_configspace([configuration])
    assert row[0, :4].tolist() == [0, 1, 2, 3]
    back = SPACE.to_configspace(row)[0]
    assert {key: configuration[key] for key in back} == back
    assert set(back) == {key for key in configuration if key.startswith((f"{PREFIX}edge_", f"{PREFIX}inputs_"))}
