"""Predictions of an evaluation, row by row: for plots of predicted against true values and of calibration."""

from __future__ import annotations

__all__ = ["Predictions", "save_predictions"]

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import atomic_path
from tauzero.evaluation.splits import Split
from tauzero.spaces import Genotypes

FORMAT = "tauzero.predictions"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model, fitted on one training set, said about the rows that it was judged on.

    Attributes
    ----------
    model, train, seed
        Label of the model, number of its training rows, and the seed that drew them.
    index
        ``int64[m]``; `SearchSpace.index` of each judged row, or its row in ``Benchmark.architectures`` where the space
        cannot be numbered.
    truth, prediction, std
        ``float64[m]`` in the unit of the metric; `std` is NaN for models that give no standard deviation.
    trained
        ``bool[m]``; whether the row was trained on.
    unseen
        ``bool[m]``; whether no copy of the row's network was trained on.
    """

    model: str
    train: int
    seed: int
    index: npt.NDArray[np.int64]
    truth: npt.NDArray[np.float64]
    prediction: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    trained: npt.NDArray[np.bool_]
    unseen: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        job: tuple[str, int, int],
        split: Split,
        *,
        model: Any,
        genotypes: Genotypes,
        truth: npt.NDArray[np.float64],
        prediction: npt.NDArray[np.float64],
    ) -> Predictions:
        """Keep the predictions of a job (label, size, seed), and ask the model for their standard deviations.

        Parameters
        ----------
        job
            What was fitted.
        split
            Training and judged rows.
        model
            The fitted surrogate.
        genotypes, truth, prediction
            ``int8[m, L]`` and ``float64[m]``: the judged rows.
        """
        std = np.full(len(truth), np.nan)
        if "return_std" in inspect.signature(model.predict).parameters:
            std = np.asarray(model.predict(genotypes, return_std=True)[1], dtype=np.float64)
        trained = np.isin(split.test, split.train)
        label, size, seed = job
        return cls(label, int(size), seed, split.test.astype(np.int64), truth, prediction, std, trained, split.unseen)


def save_predictions(
    parts: Sequence[Predictions], path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write predictions as one Parquet file; all of it or nothing.

    Parameters
    ----------
    parts
        Predictions of one or several models and training sets.
    path
        The file.
    metadata
        Facts to be kept in the file, as JSON.

    Raises
    ------
    ValueError
        If there are none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not parts:
        raise ValueError("The 'parts' argument must hold predictions. Got none: pass keep=SEED to evaluate.")
    sizes = [len(part.index) for part in parts]
    table = pa.table(
        {
            "model": pa.array(np.repeat([part.model for part in parts], sizes)).dictionary_encode(),
            "train": np.repeat([part.train for part in parts], sizes),
            "seed": np.repeat([part.seed for part in parts], sizes),
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in ("index", "truth", "prediction", "std", "trained", "unseen")
            },
        }
    )
    header = {"format": FORMAT, "version": "1", "facts": json.dumps(dict(metadata or {}))}
    target = Path(path)
    with atomic_path(target) as partial:
        pq.write_table(table.replace_schema_metadata(header), partial, compression="zstd")
    return target
