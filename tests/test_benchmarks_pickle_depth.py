"""Nested tuples as keys: refused before hashing them, which has no limit to its depth, can overflow the stack."""

import pickle
import subprocess
import sys

import pytest

from tauzero.benchmarks import _safe_pickle
from tauzero.spaces import BenchmarkFormatError

BOMB = b"\x80\x04})" + b"\x85" * 1_000_000 + b"K\x01s."


@pytest.mark.parametrize("data", [BOMB, BOMB[:-2], b"\x80\x04})" + b"\x85" * 60_000 + b"K\x01s."])
def test_a_nest_is_refused(data):
    with pytest.raises(BenchmarkFormatError, match="nest"):
        _safe_pickle.loads(data, "nest.pickle")


def test_a_nest_through_the_memo_is_refused():
    double = b"".join(b"\x94h" + bytes([k]) + b"h" + bytes([k]) + b"\x86" for k in range(60))  # 2⁶⁰ elements
    with pytest.raises(BenchmarkFormatError):
        _safe_pickle.loads(b"\x80\x04})" + double + b"K\x01s.", "nest.pickle")


def test_many_shallow_tuples_are_read():
    value = {(k, str(k)): k for k in range(100_000)}
    assert _safe_pickle.loads(pickle.dumps(value), "x") == value


def test_in_another_reader_the_process_would_die():
    program = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", program], input=BOMB, capture_output=True, check=False)
    assert done.returncode < 0
