"""NAS-Bench-101: enumeration, pruning and module hash against plain implementations and the published table."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tauzero import spaces
from tauzero.benchmarks._nasbench101_parquet import genotypes_of_codes
from tauzero.spaces import InvalidGenotypeError, NASBench101, UnknownNameError

SPACE = spaces.get("nasbench101")
assert isinstance(SPACE, NASBench101)
CONV3, CONV1, POOL = range(3)

#: The example of the README of google-research/nasbench, and the hash of its record.
INCEPTION = np.array(
    [
        [0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)
INCEPTION_OPERATIONS = [CONV1, CONV3, CONV3, CONV3, POOL]
INCEPTION_HASH = "28cfc7874f6d200472e1a9dcd8650aa0"
DIRECT_HASH = "043721b9c7fe8c5fad811d47d83132ec"


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def plain_hash(matrix: np.ndarray, labels: list[int]) -> str:
    """The published module hash, one vertex after the other."""
    size = range(len(matrix))
    state = [md5(str((int(matrix[v].sum()), int(matrix[:, v].sum()), int(labels[v])))) for v in size]
    for _ in size:
        state = [
            md5(
                "|".join(
                    [
                        "".join(sorted(state[w] for w in size if matrix[w, v])),
                        "".join(sorted(state[w] for w in size if matrix[v, w])),
                        state[v],
                    ]
                )
            )
            for v in size
        ]
    return md5(str(sorted(state)))


def plain_pruned(matrix: np.ndarray, labels: list[int]) -> tuple[np.ndarray, list[int]] | None:
    """Without the vertices off every path from the first to the last, or None if there is no path."""
    size = len(matrix)

    def reached(start: int, edges: np.ndarray) -> set[int]:
        found, waiting = {start}, [start]
        while waiting:
            for other in np.flatnonzero(edges[waiting.pop()]).tolist():
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    forward = reached(0, matrix)
    if size - 1 not in forward:
        return None
    keep = sorted(forward & reached(size - 1, matrix.T))
    return matrix[np.ix_(keep, keep)], [labels[v] for v in keep]


def labels_of(operations: list[int]) -> list[int]:
    return [-1, *operations, -2]


def random_modules(n: int, size: int, density: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.triu(rng.random((n, size, size)) < density, 1).astype(np.int64), rng.integers(3, size=(n, size - 2))


def rows_of(matrices: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """Genotypes of 7-vertex modules without any check."""
    y, x = np.tril_indices(7, -1)
    return np.concatenate([matrices[:, x, y], operations], axis=1).astype(np.int8)


# -- enumeration ------------------------------------------------------------------------------


def test_counts_by_vertices() -> None:
    found = np.bincount(SPACE.num_vertices(SPACE.enumerate()), minlength=8)
    assert found.tolist() == [0, 0, 1, 6, 84, 2_441, 62_010, 359_082]
    assert found.sum() == SPACE.size == 423_624


def test_order_is_that_of_the_generation() -> None:
    """All cells of up to five vertices, found the slow way: the first module of each hash is kept."""
    seen: set[str] = set()
    expected = []
    for size in (2, 3, 4, 5):
        for bits in range(1 << size * (size - 1) // 2):
            matrix = np.zeros((size, size), dtype=np.int64)
            for y in range(1, size):
                for x in range(y):
                    matrix[x, y] = bits >> (y * (y - 1) // 2 + x) & 1
            dangling = (matrix[:-1].sum(axis=1) == 0).any() or (matrix[:, 1:].sum(axis=0) == 0).any()
            if dangling or matrix.sum() > 9:
                continue
            for operations in itertools.product(range(3), repeat=size - 2):
                key = plain_hash(matrix, labels_of(list(operations)))
                if key not in seen:
                    seen.add(key)
                    expected.append((matrix, operations))
    assert len(expected) == 1 + 6 + 84 + 2_441
    graphs = SPACE.graphs(SPACE.enumerate()[: len(expected)])
    codes = [spaces.operation_code(o) for o in ("conv_3x3", "conv_1x1", "max_pool_3x3")]
    for i, (matrix, operations) in enumerate(expected):
        k = len(matrix)
        np.testing.assert_array_equal(graphs.adjacency[i, :k, :k], matrix)
        assert graphs.ops[i, 1 : k - 1].tolist() == [codes[o] for o in operations]


@pytest.fixture(scope="module")
def published(shared_data: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Genotypes of the published table in its own vertex order, and the table."""
    columns = ["module_hash", "n_vertices", "adj_bits", "ops_base3"]
    table = pd.read_parquet(shared_data / "nb101" / "nb101.parquet", columns=columns)
    return genotypes_of_codes(*(table[c].to_numpy() for c in columns[1:])), table


def test_canonical_form_is_the_published_one(published: tuple[np.ndarray, pd.DataFrame]) -> None:
    """In every row, so that what depends on the vertex order (channel counts) is as in the published table."""
    rows, table = published
    assert len(rows) == SPACE.size
    np.testing.assert_array_equal(SPACE.canonical(rows), rows)
    np.testing.assert_array_equal(np.sort(SPACE.index(rows)), np.arange(SPACE.size))
    np.testing.assert_array_equal(SPACE.num_vertices(rows), table["n_vertices"])


@pytest.mark.slow
def test_published_hashes(published: tuple[np.ndarray, pd.DataFrame]) -> None:
    rows, table = published
    expected = np.frombuffer(b"".join(table["module_hash"]), dtype=np.uint8).reshape(-1, 16)
    # A seventh of the rows: all of them, equal as well, take two minutes. Vertex orders are compared in all rows above.
    found = SPACE.hash(rows[::7])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[::7])


def test_hashes_of_original_records(shared_data: Path) -> None:
    """Records in NAS-Bench-101's own file form carry hash, matrix and operations as text."""
    checked = 0
    for path in sorted((shared_data / "originals" / "nasbench101_tfrecord").glob("*.tfrecord")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            key, _, matrix, operations, *_ = json.loads(data[place + 12 : place + 12 + length])
            place += length + 16
            assert SPACE.hash_strings(SPACE.from_string([f"{matrix}:{operations}"])) == [key]
            checked += 1
    assert checked == 21 + 63 + 84


# -- hash and pruning -------------------------------------------------------------------------


def test_published_examples() -> None:
    row = SPACE.from_matrices(INCEPTION[None], [INCEPTION_OPERATIONS])
    assert SPACE.hash_strings(row) == [INCEPTION_HASH]
    assert plain_hash(INCEPTION, labels_of(INCEPTION_OPERATIONS)) == INCEPTION_HASH
    # The published record of this cell has another vertex order, which the table's is.
    matrix = "0111100000000100000010000001000001000000010000000"
    operations = "input,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,output"
    assert SPACE.to_string(row) == [f"{matrix}:{operations}"]
    direct = SPACE.from_matrices([[[0, 1], [0, 0]]], np.zeros((1, 0), dtype=int))
    assert SPACE.hash_strings(direct) == [DIRECT_HASH]
    assert SPACE.index(direct).tolist() == [0]
    assert SPACE.to_string(direct) == ["0100:input,output"]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32])
def test_hash_does_not_depend_on_the_matrix_dtype(dtype: type) -> None:
    row = SPACE.from_matrices(INCEPTION[None].astype(dtype), [INCEPTION_OPERATIONS])
    assert SPACE.hash_strings(row) == [INCEPTION_HASH]


@pytest.mark.parametrize("density", [0.25, 0.4, 0.6])
def test_pruning_and_hash_of_random_matrices(density: float) -> None:
    """Unpruned matrices, many of them invalid, against the plain implementation."""
    matrices, operations = random_modules(250, 7, density, seed=3)
    rows = rows_of(matrices, operations)
    valid = SPACE.is_valid(rows)
    hashes = iter(SPACE.hash_strings(rows[valid]))
    vertices = iter(SPACE.num_vertices(rows[valid]))
    reasons = []
    for row, matrix, codes, ok in zip(rows, matrices, operations.tolist(), valid, strict=True):
        pruned = plain_pruned(matrix, labels_of(codes))
        assert ok == (pruned is not None and pruned[0].sum() <= 9)
        if ok:
            assert next(vertices) == len(pruned[0])
            assert next(hashes) == plain_hash(*pruned)
            continue
        reason = "cannot be reached" if pruned is None else f"it has {pruned[0].sum()} edges after pruning, 9 are"
        reasons.append(reason)
        with pytest.raises(InvalidGenotypeError, match=f"Row 0 is not a member of nasbench101: .*{reason}"):
            SPACE.validate(row[None])
    assert len(reasons) > 10
    assert (~valid).any()
    assert valid.any()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7])
def test_from_matrices_of_every_size(size: int) -> None:
    matrices, operations = random_modules(300, size, 0.5, seed=size)
    pruned = [plain_pruned(m, labels_of(c)) for m, c in zip(matrices, operations.tolist(), strict=True)]
    keep = [i for i, p in enumerate(pruned) if p is not None and p[0].sum() <= 9]
    assert len(keep) > 100
    rows = SPACE.from_matrices(matrices[keep], operations[keep])
    assert SPACE.hash_strings(rows) == [plain_hash(*pruned[i]) for i in keep]
    np.testing.assert_array_equal(SPACE.adjacency(rows).sum(axis=(1, 2)), matrices[keep].sum(axis=(1, 2)))


def test_hash_of_a_batch_is_that_of_its_rows() -> None:
    rows = SPACE.sample(40, 0)[np.random.default_rng(0).integers(40, size=60)]  # with repeats, in no order
    np.testing.assert_array_equal(SPACE.hash(rows), np.concatenate([SPACE.hash(r[None]) for r in rows]))
    assert SPACE.hash(rows[:0]).shape == (0, 16)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(index=st.integers(0, SPACE.size - 1), data=st.data())
def test_vertex_order_does_not_matter(index: int, data: st.DataObject) -> None:
    """Any order of the inner vertices in which edges still go forwards is the same cell."""
    row = SPACE.enumerate()[index]
    size = int(SPACE.num_vertices(row[None])[0])
    graphs = SPACE.graphs(row[None])
    matrix = graphs.adjacency[0, :size, :size]
    order = [0]
    while len(order) < size - 1:
        ready = [
            v
            for v in range(1, size - 1)
            if v not in order and all(u in order for u in np.flatnonzero(matrix[:, v]).tolist())
        ]
        order.append(data.draw(st.sampled_from(ready)))
    order.append(size - 1)
    codes = row[21 : 21 + size - 2]
    moved = SPACE.from_matrices(matrix[np.ix_(order, order)][None], codes[None, np.array(order[1:-1], dtype=int) - 1])
    assert SPACE.index(moved).tolist() == [index]
    np.testing.assert_array_equal(SPACE.canonical(moved)[0], row)
    np.testing.assert_array_equal(SPACE.hash(moved), SPACE.hash(row[None]))
    assert SPACE.to_string(moved) == SPACE.to_string(row[None])


def test_what_is_pruned_does_not_count() -> None:
    """Operations of vertices off every path, and edges to them, change the row but not the cell."""
    rows = SPACE.enumerate()[SPACE.num_vertices(SPACE.enumerate()) == 5][:50].copy()
    wanted = SPACE.index(rows)
    rows[:, 21 + 4] = POOL  # vertex 5 is off
    rows[:, 10:15] = 1  # even if every other vertex feeds it
    np.testing.assert_array_equal(SPACE.index(rows), wanted)
    np.testing.assert_array_equal(SPACE.validate(rows), rows)
    assert (SPACE.canonical(rows) != rows).any(axis=1).all()


def test_used_vertices_lie_on_paths() -> None:
    graphs = SPACE.graphs(SPACE.sample(2_000, 5))
    for matrix, ops, size in zip(graphs.adjacency, graphs.ops, graphs.num_nodes, strict=True):
        used = matrix[:size, :size]
        assert not matrix[size:].any()
        assert not matrix[:, size:].any()
        assert used.sum() <= 9
        assert plain_pruned(used, list(range(size)))[1] == list(range(size))
        assert (ops[1 : size - 1] > spaces.operation_code("output")).all()


# -- moves ------------------------------------------------------------------------------------


def test_neighbors_are_other_networks() -> None:
    for row in SPACE.sample(30, 6):
        assert (SPACE.index(SPACE.neighbors(row)) != SPACE.index(row[None])).all()


def test_only_the_bare_connection_has_no_neighbors() -> None:
    """No single change of input → output alone gives another cell: a vertex needs an edge in and one out."""
    bare = SPACE.enumerate()[:1]
    assert SPACE.neighbors(bare).shape == (0, 26)
    with pytest.raises(InvalidGenotypeError, match="its neighbourhood in nasbench101 seems to be empty"):
        SPACE.mutate(bare, 0)
    assert all(len(SPACE.neighbors(row)) for row in SPACE.enumerate()[1:600])


# -- bad input --------------------------------------------------------------------------------


def test_rows_that_are_no_cells() -> None:
    good = SPACE.sample(1, 0)[0]
    unconnected = np.zeros(26, dtype=np.int8)
    crowded = rows_of(np.triu(np.ones((1, 7, 7), dtype=int), 1), np.zeros((1, 5)))[0]
    for wrong, reason in (
        (unconnected, "output .* cannot be reached from its input"),
        (crowded, "21 edges after pruning, 9 are allowed"),
    ):
        batch = np.stack([good, wrong, wrong])
        assert SPACE.is_valid(batch).tolist() == [True, False, False]
        for call in (
            SPACE.validate,
            SPACE.index,
            SPACE.canonical,
            SPACE.hash,
            SPACE.graphs,
            SPACE.to_string,
            SPACE.num_vertices,
            SPACE.neighbors,
            lambda g: SPACE.mutate(g, 0),
        ):
            with pytest.raises(InvalidGenotypeError, match=rf"Row 1 .*{reason}.*2 of 3 rows are invalid"):
                call(batch)


def test_from_matrices_refuses() -> None:
    shapes = r"Expected adjacency \[n, k, k\] .* Got shapes"
    for matrix, codes in (
        (INCEPTION, [INCEPTION_OPERATIONS]),
        (INCEPTION[None], INCEPTION_OPERATIONS),
        (INCEPTION[None], [INCEPTION_OPERATIONS[:-1]]),
        (INCEPTION[None, :-1], [INCEPTION_OPERATIONS]),
        (np.zeros((1, 1, 1), int), np.zeros((1, 0), int)),
        (np.zeros((1, 8, 8), int), np.zeros((1, 6), int)),
    ):
        with pytest.raises(InvalidGenotypeError, match=shapes):
            SPACE.from_matrices(matrix, codes)
    for turned in (INCEPTION.T, INCEPTION + np.eye(7, dtype=int)):
        with pytest.raises(InvalidGenotypeError, match="must be upper triangular"):
            SPACE.from_matrices(turned[None], [INCEPTION_OPERATIONS])
    for matrix, codes in (
        (INCEPTION[None] * 0.5, [INCEPTION_OPERATIONS]),
        (np.where(INCEPTION, np.nan, 0)[None], [INCEPTION_OPERATIONS]),
        (INCEPTION[None], [[0.5, 0, 0, 0, 0]]),
        (INCEPTION[None], [["conv1x1-bn-relu"] * 5]),
    ):
        with pytest.raises(InvalidGenotypeError, match="must hold integers"):
            SPACE.from_matrices(matrix, codes)
    with pytest.raises(InvalidGenotypeError, match="takes values 0 to 1"):
        SPACE.from_matrices(2 * INCEPTION[None], [INCEPTION_OPERATIONS])
    for code in (-1, 3):
        with pytest.raises(InvalidGenotypeError, match=f"Column 25 .*takes values 0 to 2. Got {code} in row 0"):
            SPACE.from_matrices(INCEPTION[None], [[0, 0, 0, 0, code]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0100:input,conv3x3-bn-relu,output", r"names 3 vertices .* needs 9 matrix entries.*Got 4 entries"),
        ("010001000:input,conv5x5-bn-relu,output", "needs 9 matrix entries and operations of conv3x3-bn-relu"),
        ("000100010:input,conv3x3-bn-relu,output", "upper triangular"),
        ("010000000:input,conv3x3-bn-relu,output", "cannot be reached"),
        ("0100000000:input,output", "needs 4 matrix entries"),
        ("0" * 64 + ":input," + "maxpool3x3," * 6 + "output", "2 <= k <= 7"),
        ("010001000:output,conv3x3-bn-relu,input", "is not a NAS-Bench-101 module"),
        ("28cfc7874f6d200472e1a9dcd8650aa", "is not a NAS-Bench-101 module"),
    ],
)
def test_module_texts_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidGenotypeError, match=f"String 1 .*{reason}"):
        SPACE.from_string(["0100:input,output", text])


# -- look-up by hash --------------------------------------------------------------------------


def test_look_up_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SPACE.sample(5, 9)
    index = SPACE.index(rows).tolist()
    hashes = SPACE.hash_strings(rows)
    assert SPACE.from_hash([]).shape == (0, 26)
    monkeypatch.setitem(SPACE.__dict__, "_index_of_hash", dict(zip(hashes, index, strict=True)))
    np.testing.assert_array_equal(SPACE.from_hash(hashes[::-1]), rows[::-1])
    np.testing.assert_array_equal(SPACE.from_hash([hashes[0].upper()]), rows[:1])
    np.testing.assert_array_equal(SPACE.from_string([hashes[1], SPACE.to_string(rows)[2], f" {hashes[3]} "]), rows[1:4])
    for unknown in ("0" * 32, "no hash", ""):
        with pytest.raises(UnknownNameError, match=f"1 of 2 module hashes .*first of them '{unknown}'.*32 hexadec"):
            SPACE.from_hash([hashes[0], unknown])
    with pytest.raises(InvalidGenotypeError, match="must be a list"):
        SPACE.from_hash(hashes[0])
