"""Both spaces of TransNAS-Bench-101: members, equal networks and costs against slow second implementations."""

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

MICRO, MACRO = spaces.get("transnas_micro"), spaces.get("transnas_macro")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE, SKIP, CONV1, CONV3 = range(4)
CODES = [f"op{k}" for k in range(6)]


def read_table(shared_data: Path, name: str) -> pd.DataFrame:
    path = shared_data / "transnas101" / f"tnb101_{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return pd.read_parquet(path)


@pytest.fixture(scope="module")
def micro_table(shared_data: Path) -> pd.DataFrame:
    return read_table(shared_data, "micro")


@pytest.fixture(scope="module")
def macro_table(shared_data: Path) -> pd.DataFrame:
    return read_table(shared_data, "macro")


# -- cells ------------------------------------------------------------------------------------


def plain_reads(row: list[int]) -> dict[int | str, Counter[int | str]]:
    """How often the output and each useful operation read the input and the other operations.

    Skips are contracted, unless they start at the input, where they halve the image in half of the modules.
    """
    useful = {e for path in ((3,), (0, 4), (1, 5), (0, 2, 5)) if all(row[e] != NONE for e in path) for e in path}
    value: list[Counter[int | str]] = [Counter(["input"]), Counter(), Counter(), Counter()]
    reads: dict[int | str, Counter[int | str]] = {}
    for e in sorted(useful):  # edge numbers are in topological order
        u, v = EDGES[e]
        if row[e] == SKIP and u != 0:
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


def plain_expression(row: list[int]) -> tuple:
    """The output as a nested sum: sorted terms, each the input or an operation on a sum."""
    reads = plain_reads(row)

    def total(sources: Counter) -> tuple:
        terms = [
            ("x",) if source == "input" else (str(row[source]), total(reads[source])) for source in sources.elements()
        ]
        return tuple(sorted(terms))

    return total(reads["output"])


def assert_same_partition(labels: np.ndarray, keys: list) -> None:
    numbers: dict = {}
    other = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    pairs = np.unique(np.stack([labels, other], axis=1), axis=0)
    assert len(pairs) == len(np.unique(labels)) == len(numbers)


def test_micro_counts() -> None:
    assert {notion: len(np.unique(MICRO.classes(notion))) for notion in MICRO.notions} == {
        "network": 1_376,
        "expression": 1_229,
        "reachable": 2_128,
        "string": 4_096,
    }
    everything = MICRO.enumerate()
    assert everything.tolist() == sorted(everything.tolist())
    assert (~MICRO.is_connected(everything)).sum() == 169
    assert (~MICRO.has_dead_operations(everything)).sum() == 2_128
    np.testing.assert_array_equal(
        MICRO.prune(everything) != everything, ~MICRO.active_edges(everything) & (everything != NONE)
    )


def test_micro_expressions() -> None:
    assert_same_partition(MICRO.classes("expression"), [plain_expression(r) for r in MICRO.enumerate().tolist()])


def test_micro_networks_are_isomorphism_classes() -> None:
    """Equal networks have equal expressions, so an isomorphism test within these finds every class."""
    labels, groups = MICRO.classes("network"), MICRO.classes("expression")
    rows = np.flatnonzero(~MICRO.has_dead_operations(MICRO.enumerate()))
    found: dict[int, list[tuple[int, nx.DiGraph]]] = {}
    for i in rows.tolist():
        graph = plain_graph(MICRO.enumerate()[i].tolist())
        for label, known in found.setdefault(int(groups[i]), []):
            same = nx.is_isomorphic(
                graph,
                known,
                node_match=lambda x, y: x["label"] == y["label"],
                edge_match=lambda x, y: x["times"] == y["times"],
            )
            assert same == (label == labels[i])
        if all(label != labels[i] for label, _ in found[int(groups[i])]):
            found[int(groups[i])].append((int(labels[i]), graph))
    assert sum(len(classes) for classes in found.values()) == 1_376
    pruned = MICRO.index(MICRO.prune(MICRO.enumerate()))
    np.testing.assert_array_equal(labels, labels[pruned])


def test_skips_at_the_input_are_operations() -> None:
    """In a reduction cell, a skip that leaves the input is a convolution; one between nodes is the identity."""
    label = MICRO.classes()
    direct, through_second, through_first, both = MICRO.index(
        [[0, 0, 0, CONV3, 0, 0], [0, CONV3, 0, 0, 0, SKIP], [SKIP, 0, 0, 0, CONV3, 0], [CONV3, 0, SKIP, 0, 0, SKIP]]
    )
    assert label[direct] == label[through_second] == label[both]
    assert label[direct] != label[through_first]
    np.testing.assert_array_equal(MICRO.canonical(MICRO.enumerate()[[both]]), MICRO.enumerate()[[direct]])


def test_micro_strings() -> None:
    assert MICRO.to_string([[3, 0, 2, 1, 3, 3]]) == ["64-41414-3_02_133"]
    np.testing.assert_array_equal(MICRO.from_string(MICRO.to_string(MICRO.enumerate())), MICRO.enumerate())
    for text in ("64-41414-4_00_000", "64-41414-0_00_00", "64-41413-0_00_000", "32-41414-0_00_000", "64-1234-basic"):
        with pytest.raises(InvalidGenotypeError, match=r"String 0 is not a TransNAS-Bench-101 cell\. Expected"):
            MICRO.from_string([text])


def plain_micro_costs(row: list[int]) -> tuple[int, int]:
    """Parameters and multiply-adds by walking through ``MacroNet`` and ``MicroCell`` cell by cell."""
    parameters = (27 * 32 + 2 * 32) + (9 * 32 * 64 + 2 * 64)
    multiply_adds = 27 * 32 * 128 * 128 + 9 * 32 * 64 * 64 * 64
    channels, side = 64, 64
    for code in "41414":
        for cell in range(2):
            stride = 2 if code == "4" and cell == 0 else 1
            c_in, c_out = channels, channels * stride
            side //= stride
            for e, (u, _) in enumerate(EDGES):
                reads, halves = (c_in, stride == 2) if u == 0 else (c_out, False)
                weights = {
                    NONE: 0,
                    SKIP: reads * c_out if halves else 0,
                    CONV1: reads * c_out,
                    CONV3: 9 * reads * c_out,
                }[row[e]]
                parameters += weights + (2 * c_out if weights else 0)
                multiply_adds += weights * side * side
            channels = c_out
    return parameters, multiply_adds


def test_micro_descriptors() -> None:
    rows = MICRO.sample(300, 0)
    expected = [plain_micro_costs(row) for row in MICRO.prune(rows).tolist()]
    np.testing.assert_allclose(MICRO.descriptors(rows), np.log(expected), rtol=1e-12)


def test_micro_costs_are_the_published_ones(micro_table: pd.DataFrame) -> None:
    """The table counts operations off every path as well, and the head of the task."""
    known = micro_table[micro_table["params_class_object"].notna()]
    rows = MICRO.validate(known[CODES].to_numpy())
    parameters, multiply_adds = np.array([plain_micro_costs(row) for row in rows.tolist()]).T
    head = (1024 // 2 + 1) * 100  # 512 channels, 100 classes
    assert np.abs(parameters + head - known["params_class_object"] * 1e6).max() < 2  # stored as float32
    ratio = known["flops_class_object"] * 1e6 / multiply_adds  # batch norm and ReLU count there
    assert 1.0 < ratio.min() < ratio.max() < 1.03
    used = ~MICRO.has_dead_operations(rows)
    assert used.sum() > 100
    published = known["params_class_object"].to_numpy()[used] * 1e6 - head
    np.testing.assert_allclose(MICRO.descriptors(rows[used])[:, 0], np.log(published), atol=1e-5)


def test_every_published_cell_can_be_read(micro_table: pd.DataFrame) -> None:
    index = MICRO.index(micro_table[CODES].to_numpy())
    np.testing.assert_array_equal(np.sort(index), np.arange(4_096))
    scenes = micro_table["val_accuracy_class_scene"].to_numpy()
    connected = MICRO.is_connected(micro_table[CODES].to_numpy())
    assert scenes[~connected].max() < scenes[connected].min() + 1  # those that ignore the image are at chance


# -- chains -----------------------------------------------------------------------------------


def plain_is_valid(row: tuple[int, ...]) -> bool:
    chain = "".join(map(str, row)).rstrip("0")
    doublings, strides = sum(chain.count(c) for c in "24"), sum(chain.count(c) for c in "34")
    return "0" not in chain and 4 <= len(chain) <= 6 and 1 <= doublings <= 3 and 1 <= strides <= 4


def test_macro_members() -> None:
    candidates = list(itertools.product(range(5), repeat=6))
    expected = [row for row in candidates if plain_is_valid(row)]
    assert [row for row, valid in zip(candidates, MACRO.is_valid(candidates), strict=True) if valid] == expected
    rows = MACRO.enumerate()
    assert sorted(map(tuple, rows.tolist())) == expected
    assert np.bincount(MACRO.num_modules(rows)).tolist() == [0, 0, 0, 0, 210, 750, 2_296]
    assert rows.tolist() == sorted(rows.tolist(), key=lambda row: (6 - row.count(0), row))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1, 2, 0, 3, 1, 1], "padding .0. stands before a module"),
        ([2, 3, 1, 0, 0, 0], "it has 3 modules, 4 to 6 are allowed"),
        ([1, 3, 1, 3, 0, 0], "it has 0 modules that double the channels, 1 to 3 are allowed"),
        ([2, 2, 4, 4, 1, 1], "it has 4 modules that double the channels"),
        ([2, 1, 1, 1, 0, 0], "it has 0 modules that halve the image, 1 to 4 are allowed"),
        ([4, 3, 3, 3, 3, 1], "it has 5 modules that halve the image"),
    ],
)
def test_macro_says_why_not(row: list[int], reason: str) -> None:
    for call in (MACRO.validate, MACRO.index, MACRO.to_string, MACRO.graphs, MACRO.descriptors, MACRO.num_modules):
        with pytest.raises(InvalidGenotypeError, match=f"Row 0 is not a member of transnas_macro: {reason}"):
            call([row])


def test_macro_strings() -> None:
    assert MACRO.to_string([[1, 2, 3, 4, 0, 0], [1, 1, 1, 4, 1, 3]]) == ["64-1234-basic", "64-111413-basic"]
    np.testing.assert_array_equal(MACRO.from_string(MACRO.to_string(MACRO.enumerate())), MACRO.enumerate())
    for text in ("64-123-basic", "64-1234123-basic", "64-1205-basic", "64-1234", "64-41414-3_02_133"):
        with pytest.raises(InvalidGenotypeError, match=r"String 0 is not a TransNAS-Bench-101 chain\. Expected"):
            MACRO.from_string([text])
    with pytest.raises(
        InvalidGenotypeError, match="String 1 is not a member of transnas_macro: it has 0 modules that d"
    ):
        MACRO.from_string(["64-1234-basic", "64-1113-basic"])


def test_neighbours_may_be_longer_or_shorter() -> None:
    lengths = MACRO.num_modules(MACRO.neighbors([1, 2, 3, 1, 1, 0]))
    assert set(lengths.tolist()) == {4, 5, 6}
    assert (lengths == 6).sum() == 4  # any code may follow
    assert (lengths == 4).sum() == 1
    for row in MACRO.enumerate():
        assert len(MACRO.neighbors(row))


def test_macro_graphs() -> None:
    graphs = MACRO.graphs([[1, 2, 3, 4, 0, 0], [4, 3, 2, 1, 1, 1]])
    names = [[spaces.OPERATIONS[code] for code in ops] for ops in graphs.ops]
    assert names[0] == ["input", "block", "block_wide", "block_down", "block_wide_down", "output", "none", "none"]
    assert names[1] == ["input", "block_wide_down", "block_down", "block_wide", "block", "block", "block", "output"]
    assert graphs.num_nodes.tolist() == [6, 8]
    assert [list(zip(*np.nonzero(a), strict=True)) for a in graphs.adjacency] == [
        [(k, k + 1) for k in range(5)],
        [(k, k + 1) for k in range(7)],
    ]


def plain_macro_costs(row: list[int]) -> tuple[int, int, int, int]:
    """Parameters, multiply-adds, channels and side by walking through ``MacroNet`` and ``ResNetBasicblock``."""
    parameters = (27 * 32 + 2 * 32) + (9 * 32 * 64 + 2 * 64)
    multiply_adds = 27 * 32 * 128 * 128 + 9 * 32 * 64 * 64 * 64
    channels, side = 64, 64
    for code in filter(None, row):
        for block in range(2):
            planes = channels * (2 if block == 0 and code in {2, 4} else 1)
            stride = 2 if block == 0 and code in {3, 4} else 1
            side //= stride
            convolutions = [9 * channels * planes, 9 * planes * planes]
            if stride == 2 or planes != channels:
                convolutions.append(channels * planes)
            parameters += sum(convolutions) + 2 * planes * len(convolutions)
            multiply_adds += sum(convolutions) * side * side
            channels = planes
    return parameters, multiply_adds, channels, side


def test_macro_descriptors() -> None:
    rows = MACRO.enumerate()
    values = pd.DataFrame(MACRO.descriptors(rows), columns=MACRO.descriptor_names)
    parameters, multiply_adds, channels, side = np.array([plain_macro_costs(row) for row in rows.tolist()]).T
    np.testing.assert_allclose(values["log_parameters"], np.log(parameters), rtol=1e-12)
    np.testing.assert_allclose(values["log_multiply_adds"], np.log(multiply_adds), rtol=1e-12)
    np.testing.assert_array_equal(values["width"], channels)
    np.testing.assert_array_equal(values["resolution"], side)
    row = MACRO.descriptors([[1, 3, 4, 2, 1, 0]])[0, :7].tolist()
    assert row == [5, 2, 2, 3, 2, 256, 16]


def test_macro_costs_are_the_published_ones(macro_table: pd.DataFrame) -> None:
    known = macro_table[macro_table["params_class_object"].notna()]
    values = pd.DataFrame(MACRO.descriptors(known[CODES].to_numpy()), columns=MACRO.descriptor_names)
    head = (values["width"].to_numpy() + 1) * 100
    parameters = np.exp(values["log_parameters"].to_numpy()) + head
    assert np.abs(parameters - known["params_class_object"] * 1e6).max() < 3  # stored as float32
    ratio = known["flops_class_object"] * 1e6 / np.exp(values["log_multiply_adds"].to_numpy())
    assert 1.0 < ratio.min() < ratio.max() < 1.02  # batch norm and ReLU count there


def test_every_published_chain_can_be_read(macro_table: pd.DataFrame) -> None:
    index = MACRO.index(macro_table[CODES].to_numpy())
    np.testing.assert_array_equal(np.sort(index), np.arange(3_256))
