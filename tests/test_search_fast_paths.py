"""Short cuts of searches over tables, against the plain way that they stand in for."""

from __future__ import annotations

import numpy as np
import pytest

from tauzero import search, spaces
from tauzero.spaces.base import SearchSpace


def test_one_row_of_nasbench101_has_the_index_that_it_has_among_many() -> None:
    space = spaces.get("nasbench101")
    rows = space.sample(500, 0)
    np.testing.assert_array_equal([int(space.index(row[None])[0]) for row in rows], space.index(rows))
    assert space.index(rows[:1]).dtype == np.int64


def test_one_row_of_nasbench101_is_refused_where_many_are() -> None:
    space = spaces.get("nasbench101")
    drawn = np.random.default_rng(0).integers(0, 2, size=(200, space.length)).astype(np.int8)
    valid = space.is_valid(drawn)
    assert 20 < valid.sum() < 180
    for row in drawn[~valid]:
        with pytest.raises(spaces.InvalidGenotypeError, match="not a member"):
            space.index(row[None])
    for value in (-1, 3, 48, 127):  # 48 is the letter 0
        for column in (0, 25):
            wrong = drawn[valid][:1].copy()
            wrong[0, column] = value
            with pytest.raises(spaces.InvalidGenotypeError, match=f"Column {column} .*Got {value} in row 0"):
                space.index(wrong)
            with pytest.raises(spaces.InvalidGenotypeError, match=f"Column {column} .*Got {value} in row 0"):
                space.neighbors(wrong[0])


def test_neighbors_of_nasbench101_are_those_of_the_plain_way() -> None:
    space = spaces.get("nasbench101")
    passes_its_input_on = np.zeros(space.length, np.int8)
    passes_its_input_on[15] = 1  # the edge 0 → 6
    for row in [passes_its_input_on, *space.sample(300, 1)]:
        slow = SearchSpace.neighbors(space, row)
        fast = space.neighbors(row)
        np.testing.assert_array_equal(fast, slow)
        assert fast.dtype == np.int8
        assert fast.flags.c_contiguous
        np.testing.assert_array_equal(space.neighbors(row[None].astype(np.int64)), slow)


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_a_value_out_of_range_is_found_in_any_dtype(name: str) -> None:
    space = spaces.get(name)
    rows = space.sample(5, 0)
    for value in (-1, space.cardinalities[1], 100):
        wrong = rows.copy()
        wrong[3, 1] = value
        for dtype in (np.int8, np.int64):
            with pytest.raises(spaces.InvalidGenotypeError, match=f"Column 1 .*Got {value} in row 3"):
                space.check_range(wrong.astype(dtype))


@pytest.mark.parametrize("name", ["regularized_evolution", "evolution", "local_search", "reinforce"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_run_is_asking_and_telling_by_hand(name: str, batch: int) -> None:
    """`run` answers without the checks of `tell`; what is proposed must be the same."""
    space = spaces.get("nasbench201")
    values = np.random.default_rng(0).random(space.size)
    result = search.run(name, search.ArrayObjective(space, values), 300, 7, batch_size=batch)
    algorithm = search.create(name, space, 7)
    queries: list[int] = []
    repeats = 0
    while len(queries) < 300:
        rows = algorithm.ask(min(batch, 300 - len(queries)))
        index = space.index(rows).tolist()
        algorithm.tell(rows, values[index])
        for i in index:
            if i in queries:
                repeats += 1
            else:
                queries.append(i)
    assert algorithm.num_pending == 0
    np.testing.assert_array_equal(result.index, queries)
    assert result.repeats == repeats
