"""Nested tuples: told by depth, not by number, and refused before they can overflow the stack."""

import pickle
import subprocess
import sys

import pytest

from tauzero.benchmarks import _safe_pickle
from tauzero.benchmarks._pickle_depth import MAX_TUPLES_UNSEEN, too_deep
from tauzero.spaces import BenchmarkFormatError

BOMB = b"\x80\x04})" + b"\x85" * 1_000_000 + b"K\x01s."


def nested(depth):
    value = ()
    for _ in range(depth):
        value = (value,)
    return value


def depth_of(data):
    """The deepest nest, by bisection over the limit."""
    low, high = 0, 1 << 20
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if too_deep(data, middle) else (low, middle)
    return low


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "depth"),
    [
        (nested(40), 40),
        ([nested(3), nested(5)], 5),
        ({(1, (2, 3)): [(4,)]}, 2),
        ([((1, 2), [((3,),)])], 2),
        ([(k, k + 1) for k in range(300)], 1),
    ],
)
def test_depths(value, depth, protocol):
    found = depth_of(pickle.dumps(value, protocol))
    assert found == depth + (protocol == 0 and value != [((1, 2), [((3,),)])] and depth > 4)  # empty ones count there


def test_depth_through_the_memo_is_seen():
    data = b"\x80\x04)" + b"".join(b"\x94h" + bytes([k]) + b"\x85" for k in range(200)) + b"."
    assert depth_of(data) == 200  # the top is kept, fetched again and put in a tuple


def test_many_shallow_tuples_are_read():
    value = [(k, str(k)) for k in range(MAX_TUPLES_UNSEEN + 10)]
    assert _safe_pickle.loads(pickle.dumps(value), "x") == value


@pytest.mark.parametrize("data", [BOMB, BOMB[:-2], b"\x80\x04})" + b"\x85" * 60_000 + b"K\x01s."])
def test_a_nest_is_refused(data):
    with pytest.raises(BenchmarkFormatError, match="nests tuples"):
        _safe_pickle.loads(data, "nest.pickle")


def test_without_the_look_the_process_would_die():
    program = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", program], input=BOMB, capture_output=True, check=False)
    assert done.returncode < 0
