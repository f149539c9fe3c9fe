"""Results of one architecture as NAS-Bench-201 and NATS-Bench keep them, and the columns that they become.

The states of ``ArchResults`` and ``ResultsCount`` (NATS-Bench, nats_bench/api_utils.py): for each schedule (12 or 200
epochs; 1, 12 or 90 in the size space) ``all_results`` has (dataset, seed) → accuracies by epoch from 0,
``train_acc1es[e]`` and ``eval_acc1es["SET@e"]``, seconds of each epoch and latencies. ``cifar10-valid`` are trainings
on half of the images. Of CIFAR-100 and ImageNet16-120, *ori-test* is validation and test set together.
"""

from __future__ import annotations

__all__ = ["SIZE", "TOPOLOGY", "Collected", "Results", "Scheme", "columns", "number", "record"]

import math
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._nasbench201 import size_columns
from tauzero.benchmarks._table import Column, mean_over_runs
from tauzero.spaces import BenchmarkFormatError, Genotypes, NATSBenchSize

_RUNS = 3
_LARGEST = 1e30
_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
_CLASSES = (("cifar10", 10, 32), ("cifar100", 100, 32), ("ImageNet16-120", 120, 16))


class _Measure(NamedTuple):
    """One kind of accuracy: our dataset and metric, what was trained on, the published set, whether it has a curve."""

    dataset: str
    metric: str
    trained: str
    images: str
    curve: bool
    text: str


_HALF = "trained on the 25,000 images of cifar10-valid"
_MEASURES: Final = (
    _Measure("cifar10", "validation_accuracy", "cifar10-valid", "x-valid", True, f"x-valid, {_HALF}"),
    _Measure("cifar10", "test_accuracy", "cifar10", "ori-test", True, "ori-test, trained on all 50,000 images"),
    _Measure("cifar10", "test_accuracy_c10valid", "cifar10-valid", "ori-test", False, f"ori-test, {_HALF}"),
    _Measure("cifar10", "train_accuracy", "cifar10-valid", "train", True, f"on the training images, {_HALF}"),
    *(
        _Measure(dataset, metric, dataset, images, True, text)
        for dataset in _DATASETS[1:]
        for metric, images, text in (
            ("validation_accuracy", "x-valid", "x-valid"),
            ("test_accuracy", "x-test", "x-test"),
            ("valtest_accuracy", "ori-test", "ori-test: the validation and the test images together"),
            ("train_accuracy", "train", "on the training images"),
        )
    ),
)
_COSTS: Final = tuple(("cifar10-valid" if d == "cifar10" else d) for d in _DATASETS)


@dataclass(frozen=True)
class Scheme:
    """A benchmark of this kind.

    Attributes
    ----------
    name
        Of the table and of its space.
    schedules
        Epochs of each schedule and its names in files; the last is the full training.
    grid
        Epochs of the full training at which curves are kept.
    pattern
        What the names of its architectures look like.
    """

    name: str
    schedules: tuple[tuple[int, tuple[str, ...]], ...]
    grid: tuple[int, ...]
    pattern: bytes

    @property
    def epochs(self) -> int:
        """Epochs of the full training."""
        return self.schedules[-1][0]


TOPOLOGY: Final = Scheme(
    "nasbench201",
    ((12, ("12", "less")), (200, ("200", "full"))),
    (1, 2, 4, 6, 8, 10, 12, 16, 20, 25, 30, *range(40, 201, 10)),
    rb"\|[a-z0-9_]+~0\|\+\|",
)
SIZE: Final = Scheme(
    "natsbench_size",
    ((1, ("01",)), (12, ("12",)), (90, ("90",))),
    (1, 2, 4, 6, 8, 10, 12, 16, 20, 25, 30, *range(40, 91, 10)),
    rb"\d\d?:\d\d?:\d\d?:\d\d?:\d\d?",
)


@dataclass
class Results:
    """Numbers of n architectures; NaN where there is no value.

    Attributes
    ----------
    final
        ``float32[n, schedules, measures, runs]``: percent, after each schedule's last epoch.
    curve
        ``float32[n, measures, runs, grid]``: percent, during the full training.
    seconds
        ``float32[n, schedules, datasets]``: of the whole training, mean over runs.
    latency
        ``float32[n, datasets]``: seconds of a batch, mean.
    """

    final: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float32]
    latency: npt.NDArray[np.float32]


class Collected:
    """Architectures' names and numbers, while they are read."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self._names: list[str] = []
        self._rows: list[Results] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, results: Results) -> None:
        """Add one architecture."""
        self._names.append(name)
        self._rows.append(results)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything so far: ``genotypes`` and the fields of `Results`; then begin anew.

        Raises
        ------
        BenchmarkFormatError
            If a name is none of the space.
        """
        space = spaces.get(self.scheme.name)
        try:
            genotypes = space.from_string(self._names)
        except ValueError as error:
            raise BenchmarkFormatError(f"The file names an architecture that {space.name} has not: {error}") from error
        found: dict[str, npt.NDArray[Any]] = {"genotypes": genotypes}
        for field in fields(Results):
            found[field.name] = np.stack([getattr(row, field.name) for row in self._rows])
        self._names, self._rows = [], []
        return found


def _mapping(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise BenchmarkFormatError(f"{what} must be a dictionary, not {type(value).__name__}: is the file damaged?")
    return value


def number(value: object, what: str) -> float:
    """Check a number of a file; NaN is allowed.

    Raises
    ------
    BenchmarkFormatError
        If it is no number, or so large that ``float32`` could not hold it, or sums of it.
    """
    if isinstance(value, float | int | np.floating | np.integer):
        found: Any = value
        if not abs(found) > _LARGEST:
            return float(found)
    raise BenchmarkFormatError(f"{what}: expected a number, got {value!r:.40}: is the file damaged?")


def _runs(state: dict[Any, Any], where: str) -> dict[str, list[dict[Any, Any]]]:
    """Trainings by dataset, in the order of their seeds."""
    trained: dict[str, list[tuple[int, dict[Any, Any]]]] = {}
    for key, result in _mapping(state.get("all_results"), f"{where}: all_results").items():
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and type(key[1]) is int):
            raise BenchmarkFormatError(f"{where}: a result's key must be (dataset, seed). Got {key!r:.80}.")
        trained.setdefault(key[0], []).append((key[1], _mapping(result, f"{where}, {key}")))
    for dataset, runs in trained.items():
        if len(runs) > _RUNS:
            raise BenchmarkFormatError(f"{where}: {len(runs)} trainings on {dataset}, at most {_RUNS} are known.")
        runs.sort(key=lambda run: run[0])
    return {dataset: [run for _, run in runs] for dataset, runs in trained.items()}


def _accuracies(result: dict[Any, Any], images: str, epochs: tuple[int, ...], where: str) -> list[float]:
    """Accuracy after each of some epochs; NaN where there is none."""
    source = result.get("train_acc1es" if images == "train" else "eval_acc1es")
    if source is None:
        return [math.nan] * len(epochs)
    values = _mapping(source, f"{where}: accuracies")
    keys = [e - 1 if images == "train" else f"{images}@{e - 1}" for e in epochs]
    return [number(values[key], where) if key in values else math.nan for key in keys]


def _costs(runs: list[dict[Any, Any]], epochs: int, where: str) -> tuple[float, float]:
    """Seconds of the training and latency, means over the runs that have them."""
    seconds, latencies = [], []
    for result in runs:
        times = result.get("train_times")
        if times is not None and len(_mapping(times, f"{where}: train_times")) == epochs:
            seconds.append(math.fsum(number(t, where) for t in times.values()))
        latency = result.get("latency")
        if isinstance(latency, list) and latency:
            mean = math.fsum(number(t, where) for t in latency) / len(latency)
            latencies += [mean] if mean > 0 else []
    return (
        math.fsum(seconds) / len(seconds) if seconds else math.nan,
        math.fsum(latencies) / len(latencies) if latencies else math.nan,
    )


def record(scheme: Scheme, states: object, where: str) -> tuple[str, Results]:
    """Name and numbers of one architecture.

    Parameters
    ----------
    scheme
        The benchmark.
    states
        The state of ``ArchResults`` for each schedule.
    where
        What to call it in messages.

    Raises
    ------
    BenchmarkFormatError
        If it is not such a state.
    """
    n = len(scheme.schedules)
    results = Results(
        final=np.full((n, len(_MEASURES), _RUNS), np.nan, np.float32),
        curve=np.full((len(_MEASURES), _RUNS, len(scheme.grid)), np.nan, np.float32),
        seconds=np.full((n, len(_DATASETS)), np.nan, np.float32),
        latency=np.full(len(_DATASETS), np.nan, np.float32),
    )
    name: str | None = None
    by_schedule = _mapping(states, where)
    for k, (epochs, keys) in enumerate(scheme.schedules):
        state = next((by_schedule[key] for key in keys if key in by_schedule), None)
        if state is None:
            continue
        there = f"{where}, {epochs} epochs"
        state = _mapping(state, there)
        arch = state.get("arch_str")
        if not isinstance(arch, str) or (name is not None and arch != name):
            raise BenchmarkFormatError(f"{there}: arch_str must be the architecture's name. Got {arch!r:.100}.")
        name = arch
        trained = _runs(state, there)
        for m, measure in enumerate(_MEASURES):
            for run, result in enumerate(trained.get(measure.trained, ())):
                (results.final[k, m, run],) = _accuracies(result, measure.images, (epochs,), there)
                if measure.curve and epochs == scheme.epochs:
                    results.curve[m, run] = _accuracies(result, measure.images, scheme.grid, there)
        for d, dataset in enumerate(_COSTS):
            results.seconds[k, d], latency = _costs(trained.get(dataset, []), epochs, there)
            if not math.isnan(latency):
                results.latency[d] = latency
    if name is None:
        raise BenchmarkFormatError(f"{where}: there is none of the schedules {[keys for _, keys in scheme.schedules]}.")
    return name, results


def columns(scheme: Scheme, genotypes: Genotypes, results: Results) -> list[Column]:
    """Columns of all metrics that have a value, in the order of the rows given."""
    found: list[Column] = []
    for m, measure in enumerate(_MEASURES):
        for k, (epochs, _) in enumerate(scheme.schedules):
            text = f"{epochs}-epoch schedule; {measure.text}"
            found += _with_runs(measure.dataset, measure.metric, epochs, results.final[:, k, m], text)
        if np.isnan(results.curve[:, m, :, :-1]).all():
            continue  # measured at the end only
        for g, epoch in enumerate(scheme.grid):
            text = f"after {epoch} of {scheme.epochs} epochs; {measure.text}"
            found += _with_runs(measure.dataset, f"{measure.metric}_curve", epoch, results.curve[:, m, :, g], text)
    for d, dataset in enumerate(_DATASETS):
        found += _cost_columns(scheme, dataset, results.seconds[:, :, d], results.latency[:, d])
    return found + (_size_columns(genotypes) if scheme is SIZE else size_columns(genotypes))


def _with_runs(dataset: str, metric: str, epoch: int, values: npt.NDArray[np.float32], text: str) -> list[Column]:
    """Columns of the mean and, where there are several runs, of each; ``float32[n, runs]``."""
    there = [run for run in range(_RUNS) if not np.isnan(values[:, run]).all()]
    if not there:
        return []
    runs = [np.ascontiguousarray(values[:, run]) for run in there]
    mean = mean_over_runs(runs)
    if len(there) == 1:
        return [Column(dataset, metric, epoch, None, "percent", runs[0], f"one run; {text}")]
    return [
        Column(dataset, metric, epoch, None, "percent", mean.astype(np.float32), f"mean over runs; {text}"),
        *(
            Column(dataset, metric, epoch, k, "percent", run, f"run {k}; {text}")
            for k, run in zip(there, runs, strict=True)
        ),
    ]


def _cost_columns(
    scheme: Scheme, dataset: str, seconds: npt.NDArray[np.float32], latency: npt.NDArray[np.float32]
) -> list[Column]:
    """Seconds after each schedule and at each epoch of the curves, and the latency."""
    found = []
    known = {epochs: seconds[:, k] for k, (epochs, _) in enumerate(scheme.schedules)}
    whole = known[scheme.epochs]
    text = "sum over epochs, mean over runs" + (f"; {_HALF}" if dataset == "cifar10" else "")
    for epoch in sorted({*known, *scheme.grid}):
        values = known.get(epoch)
        share = ""
        if values is None or np.isnan(values).all():
            values, share = whole * np.float32(epoch / scheme.epochs), f"{epoch}/{scheme.epochs} of the whole; "
        if not np.isnan(values).all():
            values = np.ascontiguousarray(values)
            found.append(Column(dataset, "training_seconds", epoch, None, "seconds", values, share + text))
    if not np.isnan(latency).all():
        text = "one batch, as published"
        found.append(Column(dataset, "latency_seconds", None, None, "seconds", np.ascontiguousarray(latency), text))
    return found


def _size_columns(genotypes: Genotypes) -> list[Column]:
    space = spaces.get(SIZE.name)
    if not isinstance(space, NATSBenchSize):  # pragma: no cover - for the type checker
        raise TypeError("The registry of spaces holds something else under the name 'natsbench_size'.")
    found = []
    for dataset, classes, side in _CLASSES:
        texts = ("", "; multiply-adds of convolutions and classifier, counted once")
        for metric, values, text in zip(
            ("parameters", "flops"), space.costs(genotypes, classes, side), texts, strict=True
        ):
            found.append(
                Column(
                    dataset, metric, None, None, "count", values.astype(np.int32), f"computed from the channels{text}"
                )
            )
    return found
