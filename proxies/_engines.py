"""The chunks of a sweep, and how the engines of `tauzero.spaces` compute them."""

from __future__ import annotations

__all__ = [
    "Job",
    "Result",
    "Results",
    "Task",
    "describe_failure",
    "import_ray",
    "local_devices",
    "run_local",
    "run_ray",
    "score_task",
]

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tauzero.proxies import _score
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.spaces._engine_ray import RayCluster, import_ray
from tauzero.spaces._engines import InProcess, LocalProcesses, Work, Worker, local_count

_ENDED = "the process that scored it ended abruptly, as it does when memory runs out"
_REASON_LENGTH = 400


@dataclass(frozen=True)
class Job:
    """What all tasks of a sweep have in common; sent to each worker once.

    Attributes
    ----------
    space
        The search space.
    options
        Keyword arguments of `tauzero.proxies.score` other than `device` and `on_error`.
    """

    space: SearchSpace
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A chunk of different networks and the proxies that they lack.

    Attributes
    ----------
    numbers
        ``int64[k]``: which networks of the sweep these are.
    rows
        ``int8[k, L]``: their genotypes.
    names
        The proxies.
    tries
        How often this chunk has ended its process.
    """

    numbers: npt.NDArray[np.int64]
    rows: Genotypes
    names: tuple[str, ...]
    tries: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def after_a_loss(self) -> list[Task]:
        """The tasks to go on with when this one ended its process: halves, until one network remains."""
        if len(self) == 1:
            return [replace(self, tries=self.tries + 1)]
        half = len(self) // 2
        return [
            replace(self, numbers=self.numbers[part], rows=self.rows[part])
            for part in (slice(None, half), slice(half, None))
        ]

    def given_up(self) -> Result:
        """No scores, and the reason."""
        return Result(np.full((len(self), len(self.names)), np.nan), [_ENDED] * len(self))


@dataclass(frozen=True)
class Result:
    """What came of a task.

    Attributes
    ----------
    scores
        ``float64[k, len(names)]``, NaN where there is none.
    reasons
        For each network None, or why scores are missing.
    """

    scores: npt.NDArray[np.float64]
    reasons: list[str | None]


#: Tasks with their results as they are finished; closing it ends the workers.
Results: TypeAlias = Generator[tuple[Task, Result], None, None]


# -- one chunk --------------------------------------------------------------------------------


def score_task(job: Job, task: Task, device: str) -> Result:
    """Score a chunk; what raises for a chunk as a whole is narrowed down by halving and recorded."""
    try:
        frame = _score.score(job.space, task.rows, list(task.names), device=device, on_error="record", **job.options)
    except Exception as error:  # noqa: BLE001 - whatever one network does, the sweep goes on with the others
        if len(task) == 1:
            return Result(np.full((1, len(task.names)), np.nan), [describe_failure(error)])
        parts = [score_task(job, part, device) for part in task.after_a_loss()]
        return Result(np.concatenate([p.scores for p in parts]), [r for p in parts for r in p.reasons])
    scores = np.asarray(frame[list(task.names)], dtype=np.float64).reshape(len(task), len(task.names))
    return Result(scores, list(frame.attrs.get("reasons") or [None] * len(task)))


def describe_failure(error: Exception) -> str:
    """Class and first line of an exception."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 1] + "…"


class _Scoring(Work[Task, Result]):
    """Scores chunks on one device."""

    def __init__(self, job: Job, device: str) -> None:
        self._job, self._device = job, device

    def __repr__(self) -> str:
        return f"the device {self._device}"

    def begin(self) -> None:
        """One torch thread."""
        torch.set_num_threads(1)

    @contextmanager
    def here(self) -> Iterator[None]:
        """One torch thread as in worker processes, so that their number does not show in the last digit."""
        threads = torch.get_num_threads()
        if self._device.startswith("cpu"):
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def do(self, task: Task) -> Result:
        """Score a chunk."""
        return score_task(self._job, task, self._device)

    def given_up(self, task: Task) -> Result:
        """No scores, and the reason."""
        return task.given_up()


# -- this machine -----------------------------------------------------------------------------


def local_devices(device: str, workers: int | None, tasks: int) -> list[str]:
    """Device of each worker: one worker per GPU, or per core of the CPU, and no more than there are tasks."""
    if device == "cuda":
        found = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    elif device.startswith("cpu"):
        found = [device] * local_count(workers)
    else:
        found = [device]
    number = min(workers or len(found), max(tasks, 1))
    return [found[k % len(found)] for k in range(number)]


def run_local(job: Job, tasks: Sequence[Task], devices: Sequence[str]) -> Results:
    """Compute tasks in as many processes as there are devices (one: in this process), in the order of completion.

    A worker that dies is replaced, and the chunk it died of is split until the network to blame is found.
    Closing the generator ends the workers.

    Raises
    ------
    RuntimeError
        If worker processes cannot start.
    """
    works = [_Scoring(job, device) for device in devices]
    with InProcess(works[0]) if len(works) == 1 else LocalProcesses(works) as engine:
        yield from engine.run(tasks)


def _Worker(job: Job, device: str) -> Worker[Task, Result]:  # noqa: N802 - one process, as `run_local` starts them
    return Worker(_Scoring(job, device))


# -- Ray --------------------------------------------------------------------------------------


def run_ray(
    job: Job,
    tasks: Sequence[Task],
    device: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
    retries: int = 3,
) -> Results:
    """Compute tasks on a Ray cluster, in the order of completion; parameters as of `RayCluster`.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    """
    with RayCluster(
        _Scoring(job, device), address=address, workers=workers, gpus_per_worker=gpus_per_worker, retries=retries
    ) as engine:
        yield from engine.run(tasks)
