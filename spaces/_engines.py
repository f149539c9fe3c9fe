"""Where independent tasks are computed: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

__all__ = ["ENGINES", "Engine", "InProcess", "LocalProcesses", "Splits", "Work", "Worker", "open_engine"]

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from tauzero.spaces.errors import unknown_name

ENGINES = ("local", "ray")
#: A task that cannot be divided and ends its process this often is given up.
TRIES = 2


class Splits(Protocol):
    """A task: something that pickles, and that can be made smaller when its process ended."""

    @property
    def tries(self) -> int:
        """How often this very task has ended its process."""

    def after_a_loss(self) -> Sequence[Self]:
        """Tasks to go on with: smaller ones, or the same with one more of `tries` where there is nothing to divide."""


TaskT = TypeVar("TaskT", bound=Splits)
ResultT = TypeVar("ResultT")


class Work(ABC, Generic[TaskT, ResultT]):
    """What is done with a task; it pickles and is sent to each worker once."""

    def begin(self) -> None:
        """Prepare a worker process, in it; before every task on Ray, so that it must be quick when done before."""

    @contextmanager
    def here(self) -> Iterator[None]:
        """Surround the tasks that are computed in the process that asks, with the same results as in a worker."""
        yield

    @abstractmethod
    def do(self, task: TaskT) -> ResultT:
        """Compute one task. An exception ends the run and reaches the caller."""

    @abstractmethod
    def given_up(self, task: TaskT) -> ResultT:
        """The result, or an exception, in place of a task that ended its process `TRIES` times."""


class Engine(ABC, Generic[TaskT, ResultT]):
    """Computes tasks; a context that ends its workers."""

    @abstractmethod
    def run(self, tasks: Iterable[TaskT]) -> Generator[tuple[TaskT, ResultT], None, None]:
        """Tasks with their results in the order of completion.

        Parameters
        ----------
        tasks
            The tasks. A `collections.deque` is emptied as they are handed out and may be added to meanwhile.
        """

    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_queue(tasks: Iterable[TaskT]) -> deque[TaskT]:
    """The tasks as a queue; the caller's own if it is one."""
    return tasks if isinstance(tasks, deque) else deque(tasks)


def local_count(workers: int | None) -> int:
    """Number of processes: as given, or one per core."""
    if workers is not None:
        return int(workers)
    import joblib

    return int(joblib.cpu_count())


def open_engine(
    name: str, work: Work[TaskT, ResultT], *, workers: int | None = None, address: str | None = None
) -> Engine[TaskT, ResultT]:
    """Return the engine of a name, on CPUs.

    Parameters
    ----------
    name
        ``"local"`` (one process per worker, this one if there is only one) or ``"ray"``.
    work
        What is done with each task.
    workers
        Tasks at a time, ≥ 1; by default one per core, with Ray what the cluster has room for.
    address
        Of a Ray cluster; None starts Ray on this machine.

    Raises
    ------
    UnknownNameError, ValueError
        If the engine is not known or an argument does not fit.
    MissingExtraError
        If Ray is not installed.
    """
    check_engine(name, workers, address)
    if name == "ray":
        from tauzero.spaces._engine_ray import RayCluster

        return RayCluster(work, workers=workers, address=address)
    count = local_count(workers)
    return InProcess(work) if count == 1 else LocalProcesses([work] * count)


def check_engine(name: str, workers: object, address: str | None) -> None:
    """Refuse an unknown engine and arguments that are none of it; `MissingExtraError` without Ray."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"The 'workers' argument must be a positive integer. Got {workers!r}.")
    if name == "local" and address is not None:
        raise ValueError("The argument 'address' needs engine='ray'.")
    if name == "ray":
        from tauzero.spaces._engine_ray import import_ray

        import_ray()


class InProcess(Engine[TaskT, ResultT]):
    """Computes tasks one after the other in this process."""

    def __init__(self, work: Work[TaskT, ResultT]) -> None:
        self._work = work

    def run(self, tasks: Iterable[TaskT]) -> Generator[tuple[TaskT, ResultT], None, None]:
        """In the order of the tasks."""
        waiting = as_queue(tasks)
        with self._work.here():
            while waiting:
                task = waiting.popleft()
                yield task, self._work.do(task)


class LocalProcesses(Engine[TaskT, ResultT]):
    """Computes tasks in processes of this machine, one for each element of `works`.

    A worker that dies is replaced, and the task it died of is split until what is to blame is found.

    Raises
    ------
    RuntimeError
        If worker processes cannot start.
    """

    def __init__(self, works: Sequence[Work[TaskT, ResultT]]) -> None:
        self._workers: list[Worker[TaskT, ResultT]] = []
        try:
            self._workers += [Worker(work) for work in works]
            for worker in self._workers:
                worker.check()
        except BaseException:
            self.close()
            raise

    def run(self, tasks: Iterable[TaskT]) -> Generator[tuple[TaskT, ResultT], None, None]:
        """In the order of completion."""
        waiting, idle = as_queue(tasks), list(self._workers)
        running: dict[Future[ResultT], tuple[Worker[TaskT, ResultT], TaskT]] = {}

        def hand_out() -> None:
            while waiting and idle:
                worker, task = idle.pop(), waiting.popleft()
                running[worker.submit(task)] = (worker, task)

        while waiting or running:
            hand_out()
            finished: list[tuple[TaskT, ResultT]] = []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, task = running.pop(future)
                try:
                    finished.append((task, future.result()))
                except BrokenProcessPool:
                    worker.restart()
                    again = task.after_a_loss()
                    if again[0].tries < TRIES:
                        waiting.extendleft(reversed(again))
                    else:
                        finished.append((task, worker.work.given_up(task)))
                idle.append(worker)
            hand_out()  # first, so that the workers are busy while results are written
            yield from finished

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.stop()


class Worker(Generic[TaskT, ResultT]):
    """A process of its own: when it dies, it is known which task it died of."""

    def __init__(self, work: Work[TaskT, ResultT]) -> None:
        self.work = work
        self._start()

    def _start(self) -> None:
        from joblib.externals.loky import ProcessPoolExecutor

        # Fresh interpreters instead of forks (CUDA and OpenMP do not survive one); unlike multiprocessing's
        # own, they do not run the user's main module again. Threads are limited before torch is loaded.
        self._pool = ProcessPoolExecutor(
            1,
            initializer=_begin,
            initargs=(self.work, os.getpid()),
            env=dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        )
        self._ready = self._pool.submit(_ready)

    def check(self) -> None:
        """Wait until the process has started."""
        try:
            self._ready.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"A worker process for {self.work} could not start ({error}). "
                "Pass workers=1 to compute in this process, where the cause is shown."
            ) from error

    def submit(self, task: TaskT) -> Future[ResultT]:
        """Begin a task."""
        future: Future[ResultT] = self._pool.submit(_work, task)
        return future

    def restart(self) -> None:
        """Replace a process that died."""
        self.stop()
        self._start()
        self.check()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._pool.shutdown(wait=True, kill_workers=True)


#: What `_begin` leaves in a worker process for the tasks to come.
_STATE: dict[str, Any] = {}


def _begin(work: Work[Any, Any], parent: int) -> None:
    """Prepare a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # loky replaces workers that have grown by 300 MB since their first task and takes that for a leak; here it is one
    # batch of activations, and every chunk would begin with the start of a process.
    from joblib.externals.loky import process_executor

    process_executor._USE_PSUTIL = False
    work.begin()
    _STATE["work"] = work


def _end_with(parent: int) -> None:
    """End this process when its parent has been killed: nobody waits for its result."""
    while os.name != "nt" and os.getppid() == parent:
        time.sleep(0.5)
    if os.name != "nt":
        os._exit(1)


def _ready() -> bool:
    return True


def _work(task: Any) -> Any:
    return _STATE["work"].do(task)
