"""Zero-cost proxies from a table of scores as features of an architecture."""

from __future__ import annotations

__all__ = ["ProxyScores"]

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._rows import row_keys
from tauzero.encoders._score_tables import ScoreTable
from tauzero.encoders.base import Encoder
from tauzero.spaces import Genotypes, SearchSpace

if TYPE_CHECKING:
    import pandas as pd

    from tauzero.benchmarks import Benchmark

#: A Parquet file (or a folder that ``tauzero score --out`` wrote), a benchmark, a data frame, or columns by name.
Scores: TypeAlias = "str | os.PathLike[str] | Benchmark | pd.DataFrame | Mapping[str, Any]"

_RARE = 1e-3  # a pattern of missing scores gets an indicator if more than this share of the networks has it


class ProxyScores(Encoder):
    """Looks zero-cost proxies up that somebody has computed already.

    Parameters
    ----------
    space
        A search space or its name.
    scores
        The scores: a Parquet file, a folder of ``tauzero score --out``, a benchmark or its ``.arrow`` file (such as
        ``tauzero.benchmarks.load("suitezero_nasbench201")``; columns are named ``DATASET/METRIC``), a pandas
        DataFrame or a mapping from column names to values. In the last ones and in Parquet the architectures stand
        in the first of these that is there: ``arch`` (strings that ``space.from_string`` reads), ``op0``, ``op1``, …
        (genotype columns), ``normal`` and ``reduce`` (cells of `darts` as JSON), or ``index``, which is always
        **this library's** ``space.index``: a file whose ``index`` counts something else (rows of another file, ranks
        of a hash) must bring ``arch`` instead.
    columns
        Names or glob patterns (``"nbsz_*_c10"``) of the proxies, in the order of the table; None for all numeric
        columns. Patterns and None pass over what networks were trained for (names with ``accuracy``, ``val``,
        ``test``, ``train``, ``acc`` or ``loss`` in them) and over row numbers (``index``, ``idx``); such a column
        has to be named in full.
    canonical
        Networks that are equal have the same scores: the mean of those in the table. With False every row is
        looked up as it stands.
    arrays
        What `arrays` returned, in place of `scores`: an encoder of a saved model needs no file.

    Notes
    -----
    A score of a network is the mean of the finite values of its rows, or ±∞ where there is no other. Each column
    then becomes the normal quantile of its rank among the networks that have a score,
    Φ⁻¹((rank − ½)/n), ties sharing their mean rank: proxies span fifty orders of magnitude, and only their
    order is comparable. Ranks are taken over all scored networks, those that will be predicted included; no
    accuracy enters them. Missing scores become 0, the median. For each pattern in which columns are missing together
    in more than 0.1 % of the networks (of the whole space where it can be enumerated, else of the table) there is a
    column ``missing[…]`` that is 1 where they are. An architecture that the table does not have lacks all scores.
    """

    name = "proxy_scores"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        scores: Scores | None = None,
        columns: str | Sequence[str] | None = None,
        canonical: bool = True,
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        super().__init__(space, canonical=canonical)
        if (scores is None) == (arrays is None):
            raise ValueError(
                "The 'scores' parameter of ProxyScores must be a Parquet file, a DataFrame or a mapping of columns. "
                + ("Got none." if scores is None else "Got one beside 'arrays', which take its place.")
            )
        if scores is not None:
            table = ScoreTable.read(self.space, scores, columns)
            self.columns = table.names
            self._genotypes, self._scores = self._merge(table.genotypes, table.values)
        else:
            self.columns, self._genotypes, self._scores = self._restored(columns, dict(arrays or {}))
        self._values, self._indicators = self._rank()

    def _restored(
        self, columns: str | Sequence[str] | None, arrays: dict[str, npt.NDArray[Any]]
    ) -> tuple[list[str], Genotypes, npt.NDArray[np.float64]]:
        names = [columns] if isinstance(columns, str) else list(columns or [])
        missing = {"genotypes", "scores"} - set(arrays)
        if missing:
            raise ValueError(f"The 'arrays' parameter of ProxyScores lacks {', '.join(sorted(missing))}.")
        genotypes = self.space.validate(arrays["genotypes"])
        scores = np.asarray(arrays["scores"], dtype=np.float64)
        if not names or scores.shape != (len(genotypes), len(names)):
            raise ValueError(
                "The 'arrays' parameter of ProxyScores must have a score for each of its genotypes and 'columns'. "
                f"Got scores of shape {scores.shape} for {len(genotypes)} genotypes and {len(names)} columns."
            )
        return names, genotypes, scores

    def _merge(
        self, genotypes: Genotypes, values: npt.NDArray[np.float64]
    ) -> tuple[Genotypes, npt.NDArray[np.float64]]:
        """Different networks in the order of their keys, and the mean of the finite scores of each."""
        rows = self.space.canonical(genotypes) if self.canonical else genotypes
        _, first, inverse = np.unique(row_keys(rows), return_index=True, return_inverse=True)
        count = len(first)

        def total(column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return np.bincount(inverse.reshape(-1), weights=column, minlength=count).astype(np.float64)

        merged = np.empty((count, values.shape[1]))
        for k, column in enumerate(values.T):
            finite = np.isfinite(column)
            number = total(finite.astype(np.float64))
            mean = total(np.where(finite, column, 0.0)) / np.maximum(number, 1)
            # Signs of infinities where there is nothing else; both signs in one network cancel to NaN.
            positive, negative = total((column == np.inf) * 1.0) > 0, total((column == -np.inf) * 1.0) > 0
            other = np.where(positive & ~negative, np.inf, np.where(negative & ~positive, -np.inf, np.nan))
            merged[:, k] = np.where(number > 0, mean, other)
        return np.ascontiguousarray(rows[first]), merged

    def _rank(self) -> tuple[npt.NDArray[np.float32], list[tuple[str, int]]]:
        """Features of the scored networks, and for each indicator its name and the column whose gaps it marks."""
        from scipy.special import ndtri
        from scipy.stats import rankdata

        gaps = np.isnan(self._scores)
        values = np.zeros(self._scores.shape)
        for k, column in enumerate(self._scores.T):
            there = ~gaps[:, k]
            if there.any():
                values[there, k] = ndtri((rankdata(column[there]) - 0.5) / there.sum())
        networks = len(gaps)
        if self.space.enumerable:  # networks that are not in the table lack all scores
            networks = int(self.space.classes().max()) + 1 if self.canonical else self.space.size
        members: dict[bytes, list[int]] = {}
        for k in range(gaps.shape[1]):
            if gaps[:, k].sum() + networks - len(gaps) > _RARE * networks:
                members.setdefault(gaps[:, k].tobytes(), []).append(k)
        indicators = []
        for columns in members.values():
            more = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
            indicators.append((f"missing[{self.columns[columns[0]]}{more}]", columns[0]))
        marks = gaps[:, [column for _, column in indicators]]
        return np.concatenate([values, marks], axis=1, dtype=np.float32), indicators

    # -- encoder ------------------------------------------------------------------------------

    @property
    def known(self) -> Genotypes:
        """The networks that have scores, ``int8[m, L]``, one row each."""
        return self._genotypes

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the proxies, then the indicators ``missing[…]``."""
        return [*self.columns, *(name for name, _ in self._indicators)]

    @cached_property
    def families(self) -> list[npt.NDArray[np.intp]]:
        """The proxies, and the indicators: a relevance for every proxy would be too many for a few dozen rows."""
        bounds = [0, len(self.columns), self.dimension]
        return [np.arange(a, b, dtype=np.intp) for a, b in pairwise(bounds) if b > a]

    def get_params(self) -> dict[str, Any]:
        """The plain arguments; together with `arrays` they make an equal encoder."""
        return super().get_params() | {"columns": list(self.columns)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Scored networks ``genotypes int8[m, L]`` and their scores ``scores float64[m, k]``."""
        return {"genotypes": self._genotypes, "scores": self._scores}

    def __repr__(self) -> str:
        return (
            f"<encoder 'proxy_scores' of {self.space.name}: {len(self.columns)} proxies of {len(self._genotypes):,} "
            "networks>"
        )

    def _encode(self, rows: Genotypes) -> npt.NDArray[Any]:
        keys, wanted = self._keys, row_keys(rows)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        unknown = np.zeros(self.dimension, dtype=np.float32)
        unknown[len(self.columns) :] = 1.0
        return np.where((keys[place] == wanted)[:, None], self._values[place], unknown)

    @cached_property
    def _keys(self) -> npt.NDArray[Any]:
        return row_keys(self._genotypes)
