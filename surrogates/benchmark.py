"""A surrogate in a table's place: a benchmark that predicts what others look up."""

from __future__ import annotations

__all__ = ["PredictedColumn", "SurrogateBenchmark", "open_benchmark"]

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import Benchmark, Column, Table
from tauzero.spaces import Genotypes, UnknownNameError
from tauzero.surrogates._noise import RunNoise, standard_normals
from tauzero.surrogates.base import Surrogate

Floats = npt.NDArray[np.float64]
_Key = tuple[str, str, int | None, int | None]
Noise = RunNoise | Literal["predictive", "none"]

#: Rows that a model predicts at a time, always: matrix products of other shapes round differently. A power of two.
_BLOCK = 128
_SAMPLE = 10_000  # rows of `architectures` where a space cannot be enumerated
_RUNS = 3  # runs that are listed; any other number can be asked for


def _places(rows: Genotypes) -> npt.NDArray[np.int64]:
    """A number below `_BLOCK` for each row, of its own entries alone and spread evenly, ``int64[n]``."""
    factors = np.random.default_rng(0).integers(2**63, size=rows.shape[1:], dtype=np.uint64)
    factors |= np.uint64(1)
    mixed = ((rows.astype(np.uint64) + np.uint64(1)) * factors).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * factors[0]) >> np.uint64(64 - _BLOCK.bit_length() + 1)).astype(np.int64)


@dataclass(frozen=True)
class PredictedColumn:
    """One metric that a surrogate benchmark answers.

    Attributes
    ----------
    dataset, metric, epoch, unit
        As of a table's `tauzero.benchmarks.Column`.
    model
        Predicts the metric as a mean over training runs.
    noise
        What a run (``query(…, seed=k)``) strays by: ``"predictive"``, the model's own standard deviation, what it does
        not know of the architecture included; a `RunNoise`, the spread of training runs alone; or ``"none"``.
    cost
        Predicts the seconds of the training; or a constant; or None where nothing is known (NaN).
    description
        One sentence for people.
    """

    dataset: str
    metric: str
    epoch: int | None
    unit: str
    model: Surrogate
    noise: Noise = "predictive"
    cost: Surrogate | float | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.model, Surrogate):
            raise ValueError(  # noqa: TRY004 - every bad argument of tauzero is a ValueError
                f"The 'model' of a surrogate benchmark must be a fitted surrogate of one space. Got "
                f"{type(self.model).__name__}."
            )
        self.model._check_fitted()
        if not (isinstance(self.noise, RunNoise) or self.noise in {"predictive", "none"}):
            raise ValueError(f"The 'noise' must be 'predictive', 'none' or a RunNoise. Got {self.noise!r}.")
        if isinstance(self.cost, Surrogate):
            self.cost._check_fitted()
            if self.cost.space_ is not self.model.space_:
                raise ValueError(
                    f"The 'cost' model must predict {self.model.space_.name} as the model does. Got one of "
                    f"{self.cost.space_.name}."
                )
        elif self.cost is not None and not (math.isfinite(self.cost) and self.cost >= 0):
            raise ValueError(
                f"The 'cost' must be a fitted surrogate, a number of seconds ≥ 0 or None. Got {self.cost!r}."
            )

    @property
    def label(self) -> str:
        """Dataset and metric: what draws of noise are numbered by beside the seed."""
        return f"{self.dataset}/{self.metric}"

    def bounded(self, values: Floats) -> Floats:
        """Values that are possible in the unit."""
        if self.unit == "percent":
            return np.clip(values, 0.0, 100.0)
        return values if self.unit == "score" else np.maximum(values, 0.0)


class SurrogateBenchmark(Benchmark):
    """Predictions of fitted surrogates wherever a table can be used (Zela et al., ICLR 2022: NAS-Bench-301).

    ``query(…, seed=None)`` is the predicted mean over training runs. ``query(…, seed=k)`` is one run: mean plus the
    standard deviation of the column's noise times a standard normal number that belongs to architecture, dataset,
    metric and k. The same question has the same answer, whatever else is in the batch; equal networks have equal
    answers; any integer k ≥ 0 is a run (`runs` lists the first few).

    Every architecture of the space can be asked for. `architectures` and `table` are the whole space where it can be
    enumerated, else a fixed uniform sample of it.

    Parameters
    ----------
    columns
        What can be asked for, the default first; all of one space, no two of the same dataset, metric and epoch.
    name
        Name for reports; ``surrogate:`` is put in front of it.
    runs
        How many runs `runs` lists, ≥ 2, where there is noise: what evaluations take for the noise ceiling.
    sample
        Rows of `architectures` where the space cannot be enumerated.
    licence
        Licence of the data that the models learned from.
    provenance
        JSON-able: where the models come from; ``"trained_on"`` is a list of tables.
    """

    on_demand = True

    def __init__(
        self,
        columns: Sequence[PredictedColumn],
        name: str = "fitted",
        *,
        runs: int = _RUNS,
        sample: int = _SAMPLE,
        licence: str = "not stated",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        given = tuple(columns)
        if not given:
            raise ValueError("The 'columns' argument of SurrogateBenchmark must hold at least one column. Got none.")
        space = given[0].model.space_
        if any(c.model.space_ is not space for c in given):
            names = sorted({c.model.space_.name for c in given})
            raise ValueError(f"All models of a SurrogateBenchmark must predict one space. Got {', '.join(names)}.")
        for argument, number, least in (("runs", runs, 2), ("sample", sample, 1)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
                raise ValueError(
                    f"The '{argument}' argument of SurrogateBenchmark must be an integer ≥ {least}. Got {number!r}."
                )
        self.columns, self._runs, self._sample = given, int(runs), int(sample)
        self._by_key = {(c.dataset, c.metric, c.epoch): c for c in given}
        if len(self._by_key) < len(given):
            raise ValueError(
                "The 'columns' argument of SurrogateBenchmark must hold each dataset, metric and epoch once. Got "
                f"{', '.join(f'{c.label} after {c.epoch} epochs' for c in given)}."
            )
        self._folder: Path | None = None
        self._whole: dict[int, tuple[Floats, Floats]] = {}
        described = _described(given, self._runs, space.size if space.enumerable else self._sample)
        super().__init__(Table(f"surrogate:{name}", space.name, described, licence, dict(provenance or {})))

    def __repr__(self) -> str:
        where = f" from '{self._folder}'" if self._folder else ""
        return f"<SurrogateBenchmark {self.name}: {self._space.name} × {len(self.columns)} predicted columns{where}>"

    def __reduce__(self) -> tuple[Callable[..., Benchmark], tuple[Any, ...]]:
        if self._folder is not None:
            return open_benchmark, (str(self._folder),)
        more = {"runs": self._runs, "sample": self._sample, "licence": self._table.licence}
        return _rebuild, (self.columns, self.name.partition(":")[2], {**more, "provenance": self._table.provenance})

    # -- what there is ------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """The folder that it was loaded from; None for one made in memory."""
        return self._folder

    @property
    def origins(self) -> tuple[str, ...]:
        """Names of the tables that the models learned from, as far as they say so."""
        known = [c.model.metadata_.get("benchmark") for c in self.columns]
        given = self._table.provenance.get("trained_on", [])
        return tuple(dict.fromkeys(str(n) for n in (*given, *known) if n))

    @cached_property
    def architectures(self) -> Genotypes:
        """What `table` is aligned with, ``int8[m, L]``: the whole space, or a fixed uniform sample (seed 0)."""
        if self._space.enumerable:
            return self._space.enumerate()
        rows = self._space.sample(self._sample, 0, unique=True)
        rows.setflags(write=False)
        return rows

    @cached_property
    def validity(self) -> dict[str, Any] | None:
        """The validity report of the folder, if it has one: how far the predictions can be trusted."""
        if self._folder is None:
            return None
        from tauzero.surrogates._benchmark_files import read_validity

        return read_validity(self._folder)

    def info(self) -> dict[str, Any]:
        """Return everything about the benchmark except its values, as a JSON-able dictionary; see `Benchmark.info`.

        ``rows`` is the length of `architectures`. ``surrogate`` says of each column which model answers, how single
        runs scatter and what a query costs; ``validity`` is the report of the folder, or None.
        """
        facts = super().info()
        facts["surrogate"] = [
            {
                "dataset": c.dataset,
                "metric": c.metric,
                "model": c.model.name,
                "training_networks": int(c.model.n_train_),
                "noise": "runs" if isinstance(c.noise, RunNoise) else c.noise,
                "cost": "model" if isinstance(c.cost, Surrogate) else c.cost,
                "card": c.model.metadata_,
            }
            for c in self.columns
        ]
        facts["validity"] = self.validity
        facts["path"] = None if self._folder is None else str(self._folder)
        if self._folder is not None:
            facts["bytes"] = sum(p.stat().st_size for p in self._folder.rglob("*") if p.is_file())
        return facts

    # -- answers ------------------------------------------------------------------------------

    def table(
        self,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
    ) -> npt.NDArray[np.float64]:
        """Predict one column for each row of `architectures`, ``float64[m]``; the array is the caller's own.

        The first call predicts them all (a minute for the 423,624 cells of NAS-Bench-101), later ones are look-ups.
        """
        key = self._resolve(dataset, metric, epoch, seed)
        column = self._column(key)
        if id(column) not in self._whole:
            self._whole[id(column)] = self._predicted(column.model, self._space.canonical(self.architectures))
        rows = self.architectures if key[3] is not None else self.architectures[:0]
        return self._run(column, *self._whole[id(column)], rows, key[3]).copy()

    def spread(
        self, genotypes: npt.ArrayLike, dataset: str | None = None, metric: str | None = None
    ) -> tuple[Floats, Floats]:
        """Two standard deviations of each architecture, ``float64[n]`` each, in the unit of the metric.

        Returns
        -------
        predictive
            What the model says of its own error (`Surrogate.predict`): what it does not know of the architecture
            (epistemic), and the noise of its training values (aleatoric).
        run
            By how much runs of a query scatter: the column's noise. Equal to `predictive` for ``noise="predictive"``,
            the aleatoric part alone for the noise of training runs, 0 for ``noise="none"``.
        """
        column = self._column(self._resolve(dataset, metric, None, None))
        mean, predictive = self._answers(column, self._find(genotypes))
        return predictive, self._deviation(column, mean, predictive)

    def _find(self, genotypes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Canonical rows: a surrogate knows every architecture."""
        return self._space.canonical(genotypes)

    def _look_up(
        self, rows: npt.NDArray[Any], key: _Key, return_cost: bool
    ) -> npt.NDArray[np.float64] | tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if rows.ndim == 1:  # positions, from `query_index`
            rows = self._space.canonical(self._space.enumerate()[rows])
        column = self._column(key)
        values = self._run(column, *self._answers(column, rows), rows, key[3])
        if not return_cost:
            return values
        if isinstance(column.cost, Surrogate):
            return values, np.maximum(self._predicted(column.cost, rows)[0], 0.0)
        return values, np.full(len(rows), math.nan if column.cost is None else float(column.cost))

    def _column(self, key: _Key) -> PredictedColumn:
        return self._by_key[key[:3]]

    def _answers(self, column: PredictedColumn, rows: Genotypes) -> tuple[Floats, Floats]:
        """Mean and deviation of canonical rows, from the whole space where that was predicted before."""
        whole = self._whole.get(id(column))
        if whole is None or not self._space.enumerable:
            return self._predicted(column.model, rows)
        index = self._space.index(rows)
        return whole[0][index], whole[1][index]

    @staticmethod
    def _predicted(model: Surrogate, rows: Genotypes) -> tuple[Floats, Floats]:
        """Mean and deviation of canonical rows in the unit of the metric, in blocks of one size.

        Libraries of matrix products round by the shape, and some by a row's place in it: in batches as they come, the
        same architecture would differ in the sixth digit from one query to the next. So its place in a block of one
        size follows from the architecture alone; places that nobody has a claim to are filled with any row.
        """
        if not len(rows):
            return np.empty(0), np.empty(0)
        distinct, inverse = model.space_.distinct(rows)
        stretch = getattr(model, "stretch", None)  # of a model for larger cells
        place = _places(distinct)
        by_place = np.argsort(place, kind="stable")
        counts = np.bincount(place, minlength=_BLOCK)
        turn = np.empty(len(distinct), dtype=np.int64)  # the block of each row: how many before it have its place
        turn[by_place] = np.arange(len(distinct)) - np.repeat(np.cumsum(counts) - counts, counts)
        by_turn = np.argsort(turn, kind="stable")
        means, stds = np.empty(len(distinct)), np.empty(len(distinct))
        for members in np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]):
            full = np.repeat(distinct[members[:1]], _BLOCK, axis=0)
            full[place[members]] = distinct[members]
            mean, std = (column[place[members]] for column in model._predict(full, with_std=True))
            half = (model.target_.inverse(mean + std) - model.target_.inverse(mean - std)) / 2
            means[members] = model.target_.inverse(mean)
            stds[members] = np.maximum(half, 0.0) * (1.0 if stretch is None else stretch(distinct[members]))
        return means[inverse], stds[inverse]

    @staticmethod
    def _deviation(column: PredictedColumn, mean: Floats, predictive: Floats) -> Floats:
        if isinstance(column.noise, RunNoise):
            return column.noise.at(mean)
        return predictive if column.noise == "predictive" else np.zeros(len(mean))

    def _run(self, column: PredictedColumn, mean: Floats, std: Floats, rows: Genotypes, seed: int | None) -> Floats:
        """The mean, or one run around it."""
        if seed is None:
            return column.bounded(mean)
        draws = standard_normals(self._space.canonical(rows), seed, column.label)
        return column.bounded(mean + self._deviation(column, mean, std) * draws)

    def _resolve(self, dataset: str | None, metric: str | None, epoch: int | None, seed: int | None) -> _Key:
        if seed is None:
            return super()._resolve(dataset, metric, epoch, None)
        key = super()._resolve(dataset, metric, epoch, None)
        what = f"{key[1]} on {key[0]}"
        if self._column(key).noise == "none":
            raise UnknownNameError(f"There are no single runs of {what}: leave seed=None. Got seed={seed!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise UnknownNameError(
                f"A run of {what} is predicted for every integer ≥ 0, and seed=None is the mean. Got seed={seed!r}."
            )
        return (*key[:3], int(seed))

    # -- files --------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write it into a folder that ``benchmarks.load("surrogate:FOLDER")`` opens; nothing in it is executable.

        An earlier one is replaced once the new one is complete. Models that ship with tauzero are written too, so
        that the folder stands alone.
        """
        from tauzero.surrogates._benchmark_files import save_benchmark

        return save_benchmark(self, Path(folder))


def open_benchmark(place: str | os.PathLike[str]) -> SurrogateBenchmark:
    """Open what stands behind ``surrogate:`` in a benchmark's name.

    Parameters
    ----------
    place
        A folder that `SurrogateBenchmark.save` or `Surrogate.save` wrote, or a name: of a surrogate benchmark that
        ships with tauzero, else of a pretrained model. A folder in the current directory wins.

    Raises
    ------
    UnknownNameError
        If there is neither such a folder nor such a name; the message lists the names.
    ModelFormatError
        If the folder holds neither, or a damaged one.
    """
    from tauzero.surrogates._benchmark_files import find_benchmark

    return find_benchmark(place)


def _described(columns: tuple[PredictedColumn, ...], runs: int, rows: int) -> tuple[Column, ...]:
    """Columns without values, which say what can be asked for; runs are listed for those with noise."""
    nothing = np.broadcast_to(np.float64(0.0), (rows,))
    found = []
    for c in columns:
        listed = [None, *(range(runs) if c.noise != "none" and c.epoch is not None else ())]
        text = c.description or f"predicted by a surrogate ({c.model.name})"
        found += [Column(c.dataset, c.metric, c.epoch, run, c.unit, nothing, text) for run in listed]
    return tuple(found)


def _rebuild(columns: tuple[PredictedColumn, ...], name: str, more: dict[str, Any]) -> SurrogateBenchmark:
    return SurrogateBenchmark(columns, name, **more)
