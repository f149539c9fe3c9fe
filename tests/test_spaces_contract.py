"""The contract of every registered search space, and what it says to bad input."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from tauzero import spaces
from tauzero.spaces import InvalidGenotypeError, NotEnumerableError, SearchSpace, UnknownNameError

#: Every space holds some thousand architectures at least; this many draws are a light test of each.
DRAWS = 2_000
ENUMERABLE = [name for name in spaces.names() if spaces.get(name).enumerable]

BATCH_METHODS: dict[str, Callable[[SearchSpace, object], object]] = {
    "validate": lambda s, g: s.validate(g),
    "check_range": lambda s, g: s.check_range(g),
    "is_valid": lambda s, g: s.is_valid(g),
    "index": lambda s, g: s.index(g),
    "canonical": lambda s, g: s.canonical(g),
    "to_string": lambda s, g: s.to_string(g),
    "distinct": lambda s, g: s.distinct(g),
    "descriptors": lambda s, g: s.descriptors(g),
    "graphs": lambda s, g: s.graphs(g),
    "cells": lambda s, g: s.cells(g),
    "mutate": lambda s, g: s.mutate(g, 0),
    "crossover": lambda s, g: s.crossover(g, g, 0),
}


@pytest.fixture(params=spaces.names())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.get(request.param)


@pytest.fixture(params=ENUMERABLE)
def enumerable(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.get(request.param)


def methods_of(space: SearchSpace) -> dict[str, Callable[[SearchSpace, object], object]]:
    """The methods that take a batch; there is no index where there is no enumeration."""
    return {name: call for name, call in BATCH_METHODS.items() if space.enumerable or name != "index"}


EACH_METHOD = [(name, method) for name in spaces.names() for method in methods_of(spaces.get(name))]


def as_set(rows: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in rows}


# -- registry and identity --------------------------------------------------------------------


def test_names() -> None:
    known = ["darts", "nasbench101", "nasbench101x", "nasbench201", "nasbench201x", "nasbench_graph"]
    known += ["nasbench_macro", "natsbench_size", "transnas_macro", "transnas_micro"]
    assert spaces.names() == known


@pytest.mark.parametrize("name", ["nasbench200", "", None, 201, ["nasbench201"]])
def test_unknown_name(name: object) -> None:
    with pytest.raises(
        UnknownNameError, match=r"search space .*Known: 'darts', 'nasbench101', 'nasbench101x', 'nasbench201'"
    ):
        spaces.get(name)


def test_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'nasbench201'"):
        spaces.get("nasbnch201")


def test_one_instance_per_name(space: SearchSpace) -> None:
    assert spaces.get(space.name) is space
    assert spaces.get(space) is space
    assert pickle.loads(pickle.dumps(space)) is space
    assert copy.deepcopy(space) is space
    assert copy.copy(space) is space
    assert eval(repr(space), {"tauzero": __import__("tauzero")}) is space


def test_class_attributes(space: SearchSpace) -> None:
    assert space.length == len(space.cardinalities)
    assert max(space.cardinalities) <= 127
    assert set(space.graph_operations) < set(spaces.OPERATIONS)
    assert not {"none", *spaces.STRUCTURE} & set(space.graph_operations)
    assert isinstance(space.size, int)
    assert len(set(space.notions)) == len(space.notions) > 0


# -- enumeration ------------------------------------------------------------------------------


def test_enumerate(enumerable: SearchSpace) -> None:
    space = enumerable
    rows = space.enumerate()
    assert rows.shape == (space.size, space.length)
    assert rows.dtype == np.int8
    assert rows.flags.c_contiguous
    assert not rows.flags.writeable  # it is shared by everybody
    assert (rows.max(axis=0) == np.asarray(space.cardinalities) - 1).all()
    np.testing.assert_array_equal(space.index(rows), np.arange(space.size))
    assert space.is_valid(rows).all()


def test_index_of_a_permuted_batch(enumerable: SearchSpace) -> None:
    space = enumerable
    chosen = np.random.default_rng(0).integers(space.size, size=500)
    index = space.index(space.enumerate()[chosen])
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index, chosen)


def test_what_cannot_be_enumerated_says_so() -> None:
    space = spaces.get("darts")
    rows = space.sample(2, 0)
    for call in (space.enumerate, lambda: space.index(rows), space.classes, lambda: space.classes("string")):
        with pytest.raises(NotEnumerableError, match=r"darts has about 1.1e\+18\. Use `sample`"):
            call()


def test_strings_go_there_and_back(space: SearchSpace) -> None:
    rows = space.sample(300, 1)
    texts = space.to_string(rows)
    assert len(set(texts)) == len(as_set(rows))
    back = space.from_string(texts)
    assert back.dtype == np.int8
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, rows)
    np.testing.assert_array_equal(space.from_string([f"  {texts[0]}\n"]), rows[:1])


@pytest.mark.parametrize("text", ["", "|", "resnet50", "01:input", "nan"])
def test_strings_that_cannot_be_read_name_their_place(space: SearchSpace, text: str) -> None:
    good = space.to_string(space.sample(1, 0))[0]
    with pytest.raises(InvalidGenotypeError, match=r"String 1 .*Got"):
        space.from_string([good, text])


def test_one_string_is_no_list(space: SearchSpace) -> None:
    with pytest.raises(InvalidGenotypeError, match=r"must be a list of strings.*pass \["):
        space.from_string(space.to_string(space.sample(1, 0))[0])


# -- equal networks ---------------------------------------------------------------------------


def test_classes_are_numbered_from_zero(enumerable: SearchSpace) -> None:
    space = enumerable
    for notion in (None, *space.notions):
        labels = space.classes(notion)
        assert labels.shape == (space.size,)
        assert labels.dtype == np.int64
        assert not labels.flags.writeable  # it is shared by everybody
        assert (np.bincount(labels) > 0).all()
    np.testing.assert_array_equal(space.classes(), space.classes(space.notions[0]))


def test_canonical_is_a_member_of_its_class(space: SearchSpace) -> None:
    rows = space.sample(DRAWS, 2)
    for notion in (None, *space.notions):
        once = space.canonical(rows, notion)
        assert once.dtype == np.int8
        assert once.flags.c_contiguous
        np.testing.assert_array_equal(space.canonical(once, notion), once)
        space.validate(once)
        if space.enumerable:
            labels = space.classes(notion)
            np.testing.assert_array_equal(labels[space.index(once)], labels[space.index(rows)])


def test_canonical_is_constant_on_classes_and_only_there(enumerable: SearchSpace) -> None:
    space = enumerable
    rows = space.enumerate()[:: max(1, space.size // 20_000)]
    for notion in space.notions:
        labels = space.classes(notion)[space.index(rows)]
        representative = space.index(space.canonical(rows, notion))
        pairs = np.unique(np.stack([labels, representative], axis=1), axis=0)
        assert len(pairs) == len(np.unique(labels)) == len(np.unique(representative))


def test_distinct(space: SearchSpace) -> None:
    drawn = space.sample(300, 14)
    rows = np.concatenate([drawn, drawn[::-1]])
    different, inverse = space.distinct(rows)
    assert (different.dtype, inverse.dtype) == (np.int8, np.int64)
    assert different.flags.c_contiguous
    np.testing.assert_array_equal(different[inverse], space.canonical(rows))
    assert len(as_set(different)) == len(different) == len(as_set(space.canonical(drawn)))
    np.testing.assert_array_equal(np.unique(inverse), np.arange(len(different)))
    keys = space.index(different).tolist() if space.enumerable else different.tolist()
    assert keys == sorted(keys)


def test_unknown_notion(space: SearchSpace) -> None:
    calls = [lambda: space.canonical(space.sample(1, 0), "isomorphic")]
    if space.enumerable:
        calls.append(lambda: space.classes("isomorphic"))
    for call in calls:
        with pytest.raises(UnknownNameError, match=f"equivalence notion of {space.name} 'isomorphic'.*Known"):
            call()


# -- sampling ---------------------------------------------------------------------------------


def test_sample_repeats_with_its_seed(space: SearchSpace) -> None:
    first = space.sample(50, 7)
    assert first.shape == (50, space.length)
    assert first.dtype == np.int8
    np.testing.assert_array_equal(first, space.sample(50, np.int64(7)))
    np.testing.assert_array_equal(first, space.sample(50, np.random.SeedSequence(7)))
    np.testing.assert_array_equal(first, space.sample(50, np.random.default_rng(7)))
    assert (first != space.sample(50, 8)).any()
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(first, space.sample(50, generator))
    assert (first != space.sample(50, generator)).any()  # a generator goes on


def test_sample_does_not_touch_the_global_state(space: SearchSpace) -> None:
    np.random.seed(0)  # noqa: NPY002 - the global state is what must not be used
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    space.mutate(space.sample(50, 7), 8)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_sample_is_the_caller_s_own(enumerable: SearchSpace) -> None:
    space = enumerable
    before = space.enumerate()[:5].copy()
    rows = space.sample(space.size // 20, 0)
    rows[:] = 0
    np.testing.assert_array_equal(space.enumerate()[:5], before)


def test_unique_sample(space: SearchSpace) -> None:
    rows = space.sample(DRAWS, 3, unique=True)
    assert len(as_set(rows)) == DRAWS
    if space.enumerable:
        assert len(as_set(space.sample(DRAWS * 10, 3))) < DRAWS * 10  # with replacement there are repeats


def test_unique_sample_may_take_everything(enumerable: SearchSpace) -> None:
    space = enumerable
    index = space.index(space.sample(space.size, 3, unique=True))
    assert (index[:100] != np.arange(100)).any()
    np.testing.assert_array_equal(np.sort(index), np.arange(space.size))
    with pytest.raises(ValueError, match=f"{space.name} has {space.size}"):
        space.sample(space.size + 1, 3, unique=True)


@pytest.mark.parametrize("unique", [False, True])
def test_sample_is_uniform(enumerable: SearchSpace, unique: bool) -> None:
    """Twenty equal stretches of the enumeration, and an odd residue that no stretch could show."""
    space = enumerable
    draws = min(5_000, space.size // 2)
    index = space.index(space.sample(draws, 11, unique=unique))
    for observed, share in (
        (np.bincount(index * 20 // space.size, minlength=20), np.bincount(np.arange(space.size) * 20 // space.size)),
        (np.bincount(index % 7, minlength=7), np.bincount(np.arange(space.size) % 7)),
    ):
        expected = share / space.size * draws
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert statistic < chi2.ppf(0.999, len(expected) - 1)


# -- moves ------------------------------------------------------------------------------------


def test_mutate_changes_one_column_and_gives_a_neighbor(space: SearchSpace) -> None:
    parents = space.sample(200, 4)
    kept = parents.copy()
    children = space.mutate(parents, 5)
    np.testing.assert_array_equal(parents, kept)
    np.testing.assert_array_equal(children, space.mutate(parents, 5))
    assert children.dtype == np.int8
    np.testing.assert_array_equal((children != parents).sum(axis=1), 1)
    space.validate(children)
    for parent, child in zip(parents[:50], children[:50], strict=True):
        assert child.tobytes() in as_set(space.neighbors(parent))


def test_mutants_are_uniform_over_the_neighbors(space: SearchSpace) -> None:
    parent = space.sample(1, 6)
    neighbors = space.neighbors(parent)
    draws = 200 * len(neighbors)
    children = space.mutate(np.repeat(parent, draws, axis=0), 7)
    found, observed = np.unique(children, axis=0, return_counts=True)
    assert as_set(found) == as_set(neighbors)
    assert ((observed - 200) ** 2 / 200).sum() < chi2.ppf(0.999, len(neighbors) - 1)


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", spaces.names())
def test_neighbors_are_mutual(name: str, data: st.DataObject) -> None:
    space = spaces.get(name)
    seed = data.draw(st.integers(0, space.size - 1), label="index or seed")
    row = space.enumerate()[seed] if space.enumerable else space.sample(1, seed)[0]
    neighbors = space.neighbors(row)
    assert neighbors.dtype == np.int8
    assert len(as_set(neighbors)) == len(neighbors)
    np.testing.assert_array_equal((neighbors != row).sum(axis=1), 1)
    space.validate(neighbors)
    assume(len(neighbors))  # which rows have none is for the test of the space
    other = neighbors[data.draw(st.integers(0, len(neighbors) - 1), label="neighbor")]
    assert row.tobytes() in as_set(space.neighbors(other))
    np.testing.assert_array_equal(space.neighbors(row[None]), neighbors)


def test_neighbors_takes_one_row(space: SearchSpace) -> None:
    with pytest.raises(InvalidGenotypeError, match=r"takes one architecture. Got 2 rows"):
        space.neighbors(space.sample(2, 0))
    with pytest.raises(InvalidGenotypeError, match="must be a matrix"):
        space.neighbors(space.sample(1, 0)[0, 1:])


def test_crossover_takes_columns_from_either_parent(space: SearchSpace) -> None:
    first, second = space.sample(300, 8), space.sample(300, 9)
    children = space.crossover(first, second, 10)
    np.testing.assert_array_equal(children, space.crossover(first, second, 10))
    assert children.dtype == np.int8
    space.validate(children)
    from_first, from_second = children == first, children == second
    assert (from_first | from_second).all()
    assert (from_first & ~from_second).any(axis=1).mean() > 0.8
    assert (from_second & ~from_first).any(axis=1).mean() > 0.8
    np.testing.assert_array_equal(space.crossover(first, first, 0), first)
    with pytest.raises(InvalidGenotypeError, match=r"same number of rows\. Got 300 and 299"):
        space.crossover(first, second[1:], 0)


# -- graphs -----------------------------------------------------------------------------------


def test_graphs_are_what_they_promise(space: SearchSpace) -> None:
    rows = space.sample(DRAWS, 12)
    codes = {name: spaces.operation_code(name) for name in spaces.OPERATIONS}
    inner = [codes[name] for name in (*space.graph_operations, "none", *spaces.STRUCTURE[2:])]
    assert spaces.STRUCTURE[:2] == ("input", "output")
    cells = space.cells(rows)
    assert list(cells) == (["normal", "reduce"] if space.name == "darts" else ["cell"])
    for graphs in (space.graphs(rows), *cells.values()):
        n, v = len(rows), graphs.max_nodes
        assert len(graphs) == n
        assert graphs.adjacency.shape == (n, v, v)
        assert (graphs.adjacency.dtype, graphs.ops.dtype, graphs.num_nodes.dtype) == (np.uint8, np.int8, np.int8)
        assert not np.tril(graphs.adjacency).any()
        assert (graphs.ops[:, 0] == codes["input"]).all()
        assert (graphs.ops[np.arange(n), graphs.num_nodes - 1] == codes["output"]).all()
        between = (np.arange(v) > 0) & (np.arange(v) < graphs.num_nodes[:, None] - 1)
        assert np.isin(graphs.ops[between], inner).all()
        assert set(space.graph_operations) <= {spaces.OPERATIONS[code] for code in np.unique(graphs.ops)}
        assert (graphs.ops[~graphs.mask] == codes["none"]).all()
        without_edges = graphs.ops == codes["none"]
        assert not graphs.adjacency[without_edges].any()
        assert not graphs.adjacency.transpose(0, 2, 1)[without_edges].any()


def test_no_cell_has_longer_paths_than_promised(space: SearchSpace) -> None:
    rows = space.sample(DRAWS, 15)
    operations = [spaces.operation_code(name) for name in space.graph_operations]
    longest = 0
    for graphs in space.cells(rows).values():
        length = np.full(graphs.ops.shape, -100)
        length[:, 0] = 0
        for v in range(1, graphs.max_nodes):
            before = np.where(graphs.adjacency[:, :v, v] > 0, length[:, :v], -100).max(axis=1)
            length[:, v] = before + np.isin(graphs.ops[:, v], operations)
        longest = max(longest, int(length[np.arange(len(rows)), graphs.num_nodes - 1].max()))
    assert longest == space.max_path_length


def test_descriptors(space: SearchSpace) -> None:
    rows = space.sample(DRAWS, 16)
    values = space.descriptors(rows)
    assert values.shape == (DRAWS, len(space.descriptor_names))
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert len(set(space.descriptor_names)) == len(space.descriptor_names)
    np.testing.assert_array_equal(values, space.descriptors(space.canonical(rows)))
    np.testing.assert_array_equal(values[[3, 1, 1]], space.descriptors(rows[[3, 1, 1]]))


def test_graphs_can_be_selected(space: SearchSpace) -> None:
    rows = space.sample(20, 13)
    whole, part = space.graphs(rows), space.graphs(rows[[3, 1, 1]])
    for taken in (whole.take([3, 1, 1]), space.graphs(rows[:4]).take(np.array([3, 1, 1]))):
        np.testing.assert_array_equal(taken.adjacency, part.adjacency)
        np.testing.assert_array_equal(taken.ops, part.ops)
        np.testing.assert_array_equal(taken.num_nodes, part.num_nodes)
    assert len(whole.take(np.arange(20) < 5)) == 5


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "method"), EACH_METHOD)
def test_wrong_shapes(name: str, method: str) -> None:
    space = spaces.get(name)
    call, row = BATCH_METHODS[method], space.sample(1, 0)[0]
    with pytest.raises(InvalidGenotypeError, match=r"pass row\[None\]"):
        call(space, row)
    wide = rf"must be a matrix \[n, {space.length}\]"
    for wrong in (np.zeros((3, space.length + 1), np.int8), np.zeros((3, space.length - 1)), row[None, None], [], 3):
        with pytest.raises(InvalidGenotypeError, match=wide + ".*Got an array of shape"):
            call(space, wrong)
    with pytest.raises(InvalidGenotypeError, match=wide + ".*rectangular"):
        call(space, [[0, 1], [0]])


@pytest.mark.parametrize(("name", "method"), EACH_METHOD)
def test_wrong_values(name: str, method: str) -> None:
    space = spaces.get(name)
    call, rows = BATCH_METHODS[method], space.sample(4, 0)
    for dtype, value in ((float, 0.5), (float, np.nan), (float, np.inf), (str, "0"), (object, None), (complex, 0j)):
        wrong = rows.astype(dtype)
        wrong[2, 1] = value
        with pytest.raises(InvalidGenotypeError, match=r"must hold integers\. Got dtype"):
            call(space, wrong)
    for value in (-1, 100, 256, 2**40):  # 256 would become 0 in int8
        outside = rows.astype(np.int64)
        outside[2, space.length - 1] = value
        expected = (
            rf"Column {space.length - 1} .*takes values 0 to {space.cardinalities[-1] - 1}\. Got {value} in row 2\."
        )
        with pytest.raises(InvalidGenotypeError, match=expected):
            call(space, outside)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.float32, np.float64])
def test_validate_gives_contiguous_int8(space: SearchSpace, dtype: type) -> None:
    rows = space.sample(6, 0)
    for given_rows in (rows.astype(dtype), np.asfortranarray(rows.astype(dtype)), rows.astype(dtype).tolist()):
        checked = space.validate(given_rows)
        assert checked.dtype == np.int8
        assert checked.flags.c_contiguous
        np.testing.assert_array_equal(checked, rows)
    np.testing.assert_array_equal(space.validate(rows.astype(dtype)[::2]), rows[::2])


@pytest.mark.parametrize("seed", [None, -1, 1.5, True, "0", [1]])
def test_bad_seeds(space: SearchSpace, seed: object) -> None:
    rows = space.sample(2, 0)
    for call in (
        lambda: space.sample(2, seed),
        lambda: space.mutate(rows, seed),
        lambda: space.crossover(rows, rows, seed),
    ):
        with pytest.raises(ValueError, match="'seed' argument must be a non-negative integer"):
            call()


@pytest.mark.parametrize("n", [-1, 1.0, True, None, "3"])
def test_bad_counts(space: SearchSpace, n: object) -> None:
    with pytest.raises(ValueError, match="'n' argument must be a non-negative integer"):
        space.sample(n, 0)


def test_empty_batches(space: SearchSpace) -> None:
    empty = np.zeros((0, space.length), dtype=np.int8)
    for rows in (empty, empty.astype(float), space.sample(0, 0), space.sample(0, 0, unique=True)):
        for call in (
            space.validate,
            space.canonical,
            lambda r: space.mutate(r, 0),
            lambda r: space.crossover(r, r, 0),
            lambda r: space.from_string(space.to_string(r)),
        ):
            result = call(rows)
            assert result.shape == (0, space.length)
            assert result.dtype == np.int8
        if space.enumerable:
            assert space.index(rows).shape == (0,)
        assert space.distinct(rows)[0].shape == (0, space.length)
        assert space.distinct(rows)[1].shape == (0,)
        assert space.descriptors(rows).shape == (0, len(space.descriptor_names))
        assert space.is_valid(rows).shape == (0,)
        assert space.to_string(rows) == []
        graphs = space.graphs(rows)
        assert len(graphs) == 0
        assert graphs.adjacency.shape == (0, graphs.max_nodes, graphs.max_nodes)
        assert len(graphs.contract(3)) == 0
