"""How NAS-Bench-Suite-Zero (Krishnakumar et al., NeurIPS 2022) names architectures and files.

NASLib, in which it was made, numbers operations and edges its own way; see ``conversions.py`` of its search spaces.
"""

from __future__ import annotations

__all__ = ["TABLES", "chunk_of", "genotypes_of", "tables_of"]

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._transnas_parquet import TASKS
from tauzero.spaces import BenchmarkFormatError, Genotypes, InvalidGenotypeError

if TYPE_CHECKING:
    from tauzero.spaces.darts import DARTS
    from tauzero.spaces.nasbench101 import NASBench101

#: Name of the table → (space, the names that files have for it).
TABLES: Final = {
    "suitezero_nasbench101": ("nasbench101", ("nasbench101", "nb101")),
    "suitezero_nasbench201": ("nasbench201", ("nasbench201", "nb201")),
    "suitezero_nasbench301": ("darts", ("nasbench301", "nb301", "darts")),
    "suitezero_transnas_micro": ("transnas_micro", ("transbench101_micro", "tnb101_micro")),
    "suitezero_transnas_macro": ("transnas_macro", ("transbench101_macro", "tnb101_macro")),
}
_TASKS = frozenset(task for task, *_ in TASKS)
_MATRICES = frozenset(n * n + n for n in range(3, 8))  # lengths of NAS-Bench-101's keys; one of 2 vertices has 6

# {"cifar10": {"(0, 2, …)": {…; early files have the space around it.
_DOCUMENT = re.compile(r'\s*\{\s*(?:"([-\w]+)"\s*:\s*\{\s*)?"([-\w]+)"\s*:\s*\{\s*"([(\[][^"\\]{1,600})"\s*:\s*\{')
_CHUNK = re.compile(r"\s*\[\s*\{\s*\"")
_KEY = re.compile(r'"([(\[][0-9, ]{1,200}[)\]])"\s*:\s*\{')
_CHUNK_NAME = re.compile(r"(?:.*/)?benchmark--([-\w]+?)--([-\w]+?)--\d+\.json")

_INTEGERS = re.compile(r"[(\[]\s*\d(?:\s*,\s*\d)*\s*,?\s*[)\]]")
_PAIR = r"[(\[]\s*\d\s*,\s*\d\s*[)\]]"
_CELL = rf"[(\[]\s*{_PAIR}(?:\s*,\s*{_PAIR}){{7}}\s*[)\]]"
_CELLS = re.compile(rf"[(\[]\s*{_CELL}\s*,\s*{_CELL}\s*[)\]]")
_DIGIT = re.compile(r"\d")

_NB201_CODES: Final = np.array([1, 0, 3, 2, 4], dtype=np.int8)  # identity, zero, conv 3×3, conv 1×1, pooling
_NB201_EDGES: Final = (0, 1, 3, 2, 4, 5)  # (0→1), (0→2), (0→3), (1→2), (1→3), (2→3)
_NB101_CODES: Final = np.array([-1, -1, 2, 1, 0], dtype=np.int64)  # input, output, pooling, conv 1×1, conv 3×3


def chunk_of(name: str) -> tuple[str, str] | None:
    """Table and dataset that a chunk's file name says, ``benchmark--SPACE--DATASET--START.json``."""
    found = _CHUNK_NAME.fullmatch(name)
    table = _by_name(found[1]) if found else None
    return None if found is None or table is None else (table, found[2])


def tables_of(name: str, beginning: bytes) -> frozenset[str]:
    """Tables that a file with this name and beginning may belong to; empty where it is another kind of file."""
    text = beginning.decode("utf-8-sig", errors="replace")
    if _CHUNK.match(text) is not None:
        chunk = chunk_of(name)
        return frozenset({chunk[0]} if chunk and '"arch"' in text else ())
    found = _DOCUMENT.match(text)
    if found is None:
        return frozenset()
    wrapper, dataset, key = found.groups()
    said = _by_name(wrapper) if wrapper else _by_name(name)
    length = len(_DIGIT.findall(key))
    if key[1:2] in {"(", "["}:
        tables = {"suitezero_nasbench301"}
    elif length in _MATRICES or said == "suitezero_nasbench101":
        tables = {"suitezero_nasbench101"}
    elif said is not None:
        tables = {said}
    elif dataset in _TASKS:
        tables = _of_tasks(text)
    else:
        tables = {"suitezero_nasbench201"} if length == 6 else set()
    return frozenset(tables)


def _of_tasks(text: str) -> set[str]:
    """Both spaces of TransNAS-Bench-101 write six digits, but only cells have a zero and only chains are shorter."""
    keys = [_DIGIT.findall(key) for key in _KEY.findall(text)]
    if any(len(key) != 6 for key in keys):
        return {"suitezero_transnas_macro"}
    if any("0" in key for key in keys):
        return {"suitezero_transnas_micro"}
    return {"suitezero_transnas_micro", "suitezero_transnas_macro"}


def _by_name(name: str) -> str | None:
    return next((table for table, (_, names) in TABLES.items() if any(n in name for n in names)), None)


def genotypes_of(table: str, keys: Sequence[str], source: str) -> tuple[Genotypes, npt.NDArray[np.bool_]]:
    """Read architecture keys of one table.

    Returns
    -------
    genotypes
        ``int8[m, L]``: the keys that are members of the space.
    member
        ``bool[n]``: which keys those are. All of them, but in NAS-Bench-101, of which early files have cells with
        too many edges.

    Raises
    ------
    BenchmarkFormatError
        If a key is of another form, or of another space.
    """
    space = TABLES[table][0]
    form = _CELLS if space == "darts" else _INTEGERS
    for key in keys:
        if form.fullmatch(key) is None:
            raise BenchmarkFormatError(
                f"'{source}': expected an architecture of {space} as NASLib writes it, got {key!r:.80}."
            )
    digits = [[int(d) for d in _DIGIT.findall(key)] for key in keys]
    try:
        if space == "nasbench101":
            return _nasbench101(digits)
        if space == "darts":
            pairs = [np.array(d).reshape(2, 8, 2).tolist() for d in digits]
            rows = cast("DARTS", spaces.get("darts")).from_naslib([c for c, _ in pairs], [c for _, c in pairs])
        else:
            rows = spaces.get(space).validate(_six(space, digits))
    except InvalidGenotypeError as error:
        raise BenchmarkFormatError(f"'{source}' has an architecture that is none of {space}: {error}") from error
    return rows, np.ones(len(keys), dtype=np.bool_)


def _six(space: str, digits: list[list[int]]) -> npt.NDArray[np.int64]:
    """Rows of six operations, ``int64[n, 6]``; shorter chains are filled with zeros."""
    lengths = {4, 5, 6} if space == "transnas_macro" else {6}
    wrong = next((k for k, d in enumerate(digits) if len(d) not in lengths), None)
    if wrong is not None:
        raise InvalidGenotypeError(f"number {wrong} has {len(digits[wrong])} operations.")
    rows = np.zeros((len(digits), 6), dtype=np.int64)
    for row, d in zip(rows, digits, strict=True):
        row[: len(d)] = d
    if space == "nasbench201":
        if rows.size and rows.max() > 4:
            raise InvalidGenotypeError("an operation is numbered above 4.")
        rows[:, _NB201_EDGES] = _NB201_CODES[rows]
    return rows


def _nasbench101(digits: list[list[int]]) -> tuple[Genotypes, npt.NDArray[np.bool_]]:
    """Cells that are written as n × n entries of a matrix and n operations."""
    space = cast("NASBench101", spaces.get("nasbench101"))
    known = np.zeros(len(digits), dtype=np.bool_)
    found = np.zeros((len(digits), space.length), dtype=np.int8)
    for size in range(2, 8):
        at = np.flatnonzero([len(d) == size * size + size for d in digits])
        if not len(at):
            continue
        written = np.array([digits[k] for k in at])
        matrix, operations = written[:, : size * size].reshape(-1, size, size), written[:, size * size :]
        inner = operations[:, 1:-1]
        ends = (operations[:, 0] == 0) & (operations[:, -1] == 1)
        plain = not np.tril(matrix).any() and matrix.max() == 1 and np.isin(inner, (2, 3, 4)).all()
        if not ends.all() or not plain:
            raise InvalidGenotypeError("a cell must be an upper triangular matrix of 0 and 1, and 0, 2 to 4 …, 1.")
        for y in range(1, size):  # as `from_matrices`, which takes members only
            target = 6 if y == size - 1 else y
            for x in range(y):
                found[at, target * (target - 1) // 2 + x] = matrix[:, x, y]
        found[at, 21 : 21 + size - 2] = _NB101_CODES[inner]
        known[at] = True
    if not known.all():
        raise InvalidGenotypeError("a cell must have n × n + n numbers for its n vertices, at most 7.")
    member = space.is_valid(found)
    if not member.any():
        raise InvalidGenotypeError("none of its cells has a path and at most 9 edges.")
    return found[member], member
