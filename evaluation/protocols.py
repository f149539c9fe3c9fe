"""Judging surrogates: every model, training set size and seed under one named protocol."""

from __future__ import annotations

__all__ = ["EvaluationResult", "evaluate"]

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import Encoder, EncoderLike, resolve
from tauzero.evaluation.metrics import (
    coverage,
    kendall_tau,
    mae,
    n_at_k,
    negative_log_likelihood,
    noise_ceiling,
    precision_at_k,
    r2,
    spearman,
)
from tauzero.evaluation.predictions import Predictions
from tauzero.evaluation.splits import PROTOCOLS, Split, protocol_split
from tauzero.search._studies import fresh_surrogate, in_parallel, seed_list, surrogate_label
from tauzero.spaces import Genotypes, Progress, SearchSpace, unknown_name

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

#: What is measured for every seed; each has a mean and a standard deviation in a row of the result.
_MEASURES = (
    "tau",
    "tau_unseen",
    "spearman",
    "p_at_1",
    "n_at_10",
    "r2",
    "mae",
    "fit_s",
    "predict_s",
    "coverage_90",
    "width_90",
    "nll",
)
_LEVEL = 0.9
_UNCERTAIN = 20_000  # judged rows whose intervals are looked at: enough for a share to ± 0.002
_UNCERTAIN_STREAM = 2  # beside the seed, so that they are drawn independently of the training rows


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """How well surrogates rank a table under a protocol.

    Attributes
    ----------
    benchmark, space, dataset, metric, protocol
        What was judged.
    rows
        One dictionary per model and training set size, in that order: ``model``, ``train`` (rows),
        ``test`` (mean number of judged rows), ``seeds`` (how many), and mean and standard deviation
        over seeds (``…_std``, n − 1 in the denominator, 0.0 for one seed) of

        - ``tau``, ``spearman``: rank correlations on all judged rows;
        - ``tau_unseen``: tau on the judged rows whose network has no copy in the training set, None
          if there are none: its distance from ``tau`` is what duplicates give away;
        - ``p_at_1``: precision at the best 1 %; ``n_at_10``: true rank of the best of the 10 predicted best;
        - ``r2``, ``mae``: on the scale of the metric;
        - ``coverage_90``, ``width_90``: share of the rows without a copy in training whose value lies inside
          the model's 90 % interval, and mean width of these intervals on the scale of the metric; ``nll``:
          mean negative log likelihood of a normal distribution with the predicted mean and standard deviation
          on the same rows (on 20,000 of them drawn at random, where there are more). None for models that
          predict none, or were fitted on too few rows for it;
        - ``fit_s``, ``predict_s``: wall seconds on this machine, without the time for intervals.

        ``encoders`` names the further encoders that the model was given.
    per_seed
        One dictionary per model, training set size and seed with the same measures.
    splits
        One sentence per training set size (of the first seed): who trains, who is judged.
    noise_ceiling
        Kendall tau between independent training runs of the table, see `noise_ceiling`; None if it has none.
    noise_ceiling_metric
        Which metric's runs these were: `metric`, or ``"validation_accuracy"`` where only that has runs.
    predictions
        Those of the seed that `evaluate` was told to keep, by model and training set size; else empty.
    """

    benchmark: str
    space: str
    dataset: str
    metric: str
    protocol: str
    rows: tuple[dict[str, Any], ...]
    per_seed: tuple[dict[str, Any], ...]
    splits: tuple[str, ...]
    noise_ceiling: float | None
    noise_ceiling_metric: str | None
    predictions: tuple[Predictions, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the predictions as JSON-able values."""
        return {
            "benchmark": self.benchmark,
            "space": self.space,
            "dataset": self.dataset,
            "metric": self.metric,
            "protocol": self.protocol,
            "protocol_text": PROTOCOLS[self.protocol],
            "splits": list(self.splits),
            "rows": [dict(row) for row in self.rows],
            "per_seed": [dict(row) for row in self.per_seed],
            "noise_ceiling": self.noise_ceiling,
            "noise_ceiling_metric": self.noise_ceiling_metric,
        }

    def curves(self, measure: str = "tau") -> dict[str, tuple[list[int], list[float], list[float]]]:
        """Training set sizes, means and standard deviations of a measure for every model, for plots."""
        if measure not in _MEASURES:
            raise unknown_name("measure", measure, _MEASURES)
        lines: dict[str, tuple[list[int], list[float], list[float]]] = {}
        for row in sorted(self.rows, key=lambda r: int(r["train"])):
            if row[measure] is None:
                continue
            sizes, means, stds = lines.setdefault(row["model"], ([], [], []))
            sizes.append(row["train"])
            means.append(row[measure])
            stds.append(row[f"{measure}_std"])
        return lines


def evaluate(  # noqa: PLR0917 - the order of the command line's arguments
    benchmark: Benchmark,
    dataset: str | None = None,
    protocol: str = "all",
    train_sizes: int | Sequence[int] = (78, 156, 469),
    models: str | Any | Sequence[str | Any] | Mapping[str, Any] = "auto",
    seeds: int | Sequence[int] = 5,
    *,
    metric: str | None = None,
    epoch: int | None = None,
    encoders: Sequence[EncoderLike] = (),
    test: int | None = None,
    keep: int | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Fit surrogates on random training sets and judge how they rank architectures.

    All models of one seed and size get the same training set. What is judged on reaches a model only
    as genotypes to predict, after it has been fitted.

    Parameters
    ----------
    benchmark, dataset
        Table to learn and to judge by; by default its first dataset.
    protocol
        ``"all"``, ``"unique"`` or ``"heldout"``: see `protocol_split`.
    train_sizes
        Numbers of training architectures.
    models
        Names of surrogates or unfitted estimators (which are cloned), one or several; or a mapping
        from a label to either, or to a pair (name, parameters).
    seeds
        How many seeds (0, 1, …), or the seeds; each draws a training set and seeds the models.
    metric, epoch
        As in ``Benchmark.query``; by default the dataset's main metric (`Benchmark.main_metric`) after the
        longest training, mean over runs. Architectures without a value are left out.
    encoders
        Further encoders, such as ``("proxy_scores", {"scores": file})``, for all models that take them
        (parameter ``encoders``) and have none of their own; rows say which did.
    test
        Judge on so many random rows of those that the protocol judges on, see `protocol_split`.
    keep
        One of the seeds, whose predictions are kept (`EvaluationResult.predictions`); none by default.
    n_jobs
        Worker processes of joblib; results (other than times) do not depend on it.
    progress
        Called with (done, total) fits.
    """
    sizes = [train_sizes] if isinstance(train_sizes, int | np.integer) else list(train_sizes)
    if not sizes:
        raise ValueError("The 'train_sizes' argument must hold at least one training set size. Got none.")
    named = _models(models)
    chosen_seeds = seed_list(seeds)
    if keep is not None and keep not in chosen_seeds:
        raise ValueError(f"The 'keep' argument must be one of the seeds, {list(chosen_seeds)}. Got {keep!r}.")
    target = metric if metric is not None else benchmark.main_metric(dataset)
    y = benchmark.table(dataset, target, epoch=epoch)
    official = next(d for d in benchmark.datasets if dataset is None or d.lower() == dataset.lower())
    space = benchmark.space
    # A space that can be enumerated is sent to workers by its name, other architectures as they are.
    architectures = None if space.enumerable else benchmark.architectures
    task = _Task(space, y, architectures, protocol, test, named, _joined(encoders, space, named), keep)
    # Every size is checked before the first model is fitted.
    splits = [task.split(size, chosen_seeds[0]) for size in sizes]
    jobs = [(label, size, seed) for label in named for size in sizes for seed in chosen_seeds]
    measured = in_parallel(task, jobs, n_jobs, progress)
    kept = [found for found in (m.pop("predictions", None) for m in measured) if found is not None]
    rows = [
        _summary(label, size, [m for m in measured if (m["model"], m["train"]) == (label, size)])
        for label in named
        for size in dict.fromkeys(int(s) for s in sizes)
    ]
    judged = np.zeros(len(y), dtype=np.bool_)
    judged[splits[0].test] = True
    ceiling, ceiling_metric = _ceiling(benchmark, official, target, epoch, judged)
    return EvaluationResult(
        benchmark=benchmark.name,
        space=space.name,
        dataset=official,
        metric=target,
        protocol=protocol,
        rows=tuple(rows),
        per_seed=tuple(measured),
        splits=tuple(split.text for split in splits),
        noise_ceiling=ceiling,
        noise_ceiling_metric=ceiling_metric,
        predictions=tuple(kept),
    )


@dataclass(frozen=True, slots=True)
class _Task:
    """Fits and judges one model: what a worker process gets."""

    space: SearchSpace
    y: npt.NDArray[np.float64]
    architectures: Genotypes | None
    protocol: str
    test: int | None
    models: dict[str, tuple[str | Any, dict[str, Any]]]
    encoders: tuple[Encoder, ...]
    keep: int | None

    def split(self, size: int, seed: int) -> Split:
        return protocol_split(
            self.space,
            self.protocol,
            size,
            seed,
            available=np.isfinite(self.y),
            architectures=self.architectures,
            test=self.test,
        )

    def __call__(self, job: tuple[str, int, int]) -> dict[str, Any]:
        label, size, seed = job
        split = self.split(size, seed)
        prototype, params = self.models[label]
        model = fresh_surrogate(prototype, self.space, params, seed)
        if self.encoders and _takes_encoders(model):
            model.set_params(encoders=self.encoders)
        rows = self.space.enumerate() if self.architectures is None else self.architectures
        start = time.perf_counter()
        model.fit(rows[split.train], self.y[split.train])
        fitted = time.perf_counter()
        prediction = np.asarray(model.predict(rows[split.test]), dtype=np.float64)
        done = time.perf_counter()
        truth = self.y[split.test]
        kept = (
            Predictions.of(job, split, model=model, genotypes=rows[split.test], truth=truth, prediction=prediction)
            if seed == self.keep
            else None
        )
        new = split.unseen
        checked = split.test[new]
        if len(checked) > _UNCERTAIN:
            checked = np.random.default_rng([_UNCERTAIN_STREAM, seed]).choice(checked, _UNCERTAIN, replace=False)
        return {
            "model": label,
            "train": int(size),
            "seed": seed,
            "test": len(truth),
            "tau": kendall_tau(truth, prediction),
            "tau_unseen": kendall_tau(truth[new], prediction[new]) if new.sum() > 1 else None,
            "spearman": spearman(truth, prediction),
            "p_at_1": precision_at_k(truth, prediction, 0.01),
            "n_at_10": n_at_k(truth, prediction, min(10, len(truth))),
            "r2": r2(truth, prediction),
            "mae": mae(truth, prediction),
            "fit_s": fitted - start,
            "predict_s": done - fitted,
            **_calibration(model, rows[checked], self.y[checked]),
            "encoders": _encoder_names(model),
            "best_params": getattr(model, "best_params_", None),
            "predictions": kept,
        }


def _joined(
    encoders: Sequence[EncoderLike], space: SearchSpace, models: dict[str, tuple[str | Any, dict[str, Any]]]
) -> tuple[Encoder, ...]:
    """Make the further encoders, once for all models; refuse them where no model would read them."""
    pair = isinstance(encoders, tuple) and len(encoders) == 2 and isinstance(encoders[1], Mapping)
    if pair or isinstance(encoders, str | Encoder) or not isinstance(encoders, Sequence):
        raise ValueError(
            f"The 'encoders' argument must be a list of encoders, names or pairs (name, parameters). Got {encoders!r}: "
            "pass a list, also for a single one."
        )
    joined = tuple(resolve(item, space) for item in encoders)
    if joined and not any(_takes_encoders(fresh_surrogate(m, space, p, 0)) for m, p in models.values()):
        raise ValueError(
            f"The 'encoders' argument needs a model with the parameter 'encoders' that has none of its own. "
            f"Got {', '.join(models)}."
        )
    return joined


def _takes_encoders(model: Any) -> bool:
    known = model.get_params(deep=False)
    return "encoders" in known and not len(known["encoders"])


def _encoder_names(model: Any) -> list[str]:
    given = model.get_params(deep=False).get("encoders", ())
    return [e if isinstance(e, str) else e.name if isinstance(e, Encoder) else str(e[0]) for e in given]


def _calibration(model: Any, genotypes: Genotypes, y: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """How far what a model says about its own error can be trusted; None for what it does not say."""
    found: dict[str, float | None] = {"coverage_90": None, "width_90": None, "nll": None}
    offered = set(inspect.signature(model.predict).parameters)
    if not len(y) or "return_std" not in offered:
        return found
    interval = None
    if "return_interval" in offered:
        try:
            *given, interval = model.predict(genotypes, return_std=True, return_interval=_LEVEL)
        except ValueError:  # too few training rows for an interval: the same rows could be predicted before
            given = model.predict(genotypes, return_std=True)
    else:
        given = model.predict(genotypes, return_std=True)
    mean, std = (np.asarray(part, dtype=np.float64) for part in given)
    if np.isfinite(std).all() and (std > 0).all():
        found["nll"] = negative_log_likelihood(y, mean, std)
    if interval is not None:
        ends = np.asarray(interval, dtype=np.float64)
        found["coverage_90"] = coverage(y, ends)
        found["width_90"] = float((ends[:, 1] - ends[:, 0]).mean())
    return found


def _models(models: Any) -> dict[str, tuple[str | Any, dict[str, Any]]]:
    """Label → (name or prototype, parameters)."""
    if isinstance(models, Mapping):
        pairs = [(str(label), model) for label, model in models.items()]
    else:
        several = models if isinstance(models, list | tuple) else [models]
        pairs = [(surrogate_label(model), model) for model in several]
    named: dict[str, tuple[str | Any, dict[str, Any]]] = {}
    for label, model in pairs:
        if label in named:
            raise ValueError(f"The model {label!r} is given twice: pass a mapping from labels of your own to models.")
        prototype, params = model if isinstance(model, tuple) else (model, {})
        if isinstance(prototype, str):
            from tauzero import surrogates

            if prototype not in surrogates.names():
                raise unknown_name("surrogate", prototype, surrogates.names())
        named[label] = prototype, dict(params)
    if not named:
        raise ValueError("The 'models' argument must name at least one surrogate. Got none.")
    return named


def _summary(label: str, size: int, measured: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": label,
        "train": size,
        "test": float(np.mean([m["test"] for m in measured])),
        "seeds": len(measured),
        "encoders": measured[0]["encoders"],
    }
    for name in _MEASURES:
        values = [m[name] for m in measured if m[name] is not None]
        row[name] = float(np.mean(values)) if values else None
        row[f"{name}_std"] = (float(np.std(values, ddof=1)) if len(values) > 1 else 0.0) if values else None
    return row


def _ceiling(
    benchmark: Benchmark, dataset: str, metric: str, epoch: int | None, judged: npt.NDArray[np.bool_]
) -> tuple[float | None, str | None]:
    """Noise ceiling on the judged rows, from the runs of the metric or else of validation accuracy."""
    for name in dict.fromkeys((metric, "validation_accuracy")):
        if name not in benchmark.metrics(dataset):
            continue
        budget = epoch if epoch in benchmark.epochs(dataset, name) else None
        runs = benchmark.runs(dataset, name, budget)
        if len(runs) < 2:
            continue
        values = np.stack([benchmark.table(dataset, name, epoch=budget, seed=run) for run in runs], axis=1)
        ceiling = noise_ceiling(values[judged])
        if ceiling is not None:
            return ceiling, name
    return None, None
