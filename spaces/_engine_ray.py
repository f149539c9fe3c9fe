"""The engine on a Ray cluster, whose nodes may come and go."""

from __future__ import annotations

__all__ = ["RayCluster", "import_ray"]

import importlib
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterable
from types import ModuleType
from typing import Any

from tauzero.spaces._engines import TRIES, Engine, ResultT, TaskT, Work, as_queue
from tauzero.spaces.errors import MissingExtraError


def import_ray() -> ModuleType:
    """Return the module `ray`; `MissingExtraError` if it is not installed."""
    # Read by Ray while it is imported and started: nothing is reported to its makers, and tasks without GPUs are
    # left to see those there are (Ray warns of the change of this default).
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError("The engine 'ray' needs Ray: pip install 'tauzero[ray]'.") from error


class RayCluster(Engine[TaskT, ResultT]):
    """Computes tasks on a Ray cluster, which runs the tasks of a node that dies on the others.

    A connection that is there is used and left alone; else one is made, or Ray started on this machine, and ended
    by `close`.

    Parameters
    ----------
    work
        What is done with each task.
    address
        As `ray.init` takes it; None starts Ray here (or follows ``RAY_ADDRESS``).
    workers
        Number of tasks at a time; by default as many as the cluster has room for.
    gpus_per_worker
        GPUs that a task reserves; fractions let several share one.
    retries
        How often Ray runs a task again whose process or node died, before it is split.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    ConnectionError
        If there is no cluster at the address.
    """

    def __init__(
        self,
        work: Work[TaskT, ResultT],
        *,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float = 0.0,
        retries: int = 3,
    ) -> None:
        self._ray = import_ray()
        self._work, self._limit, self._gpus = work, workers, gpus_per_worker
        self._on_term = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
        self._started = not self._ray.is_initialized()
        if self._started:
            _connect(self._ray, address, workers)
        self._shared = self._ray.put(work)  # images and tables travel to each node once
        self._remote = self._ray.remote(num_cpus=1, num_gpus=gpus_per_worker, max_retries=retries)(_work_on_ray)

    def run(self, tasks: Iterable[TaskT]) -> Generator[tuple[TaskT, ResultT], None, None]:
        """In the order of completion."""
        ray, waiting = self._ray, as_queue(tasks)
        running: dict[Any, TaskT] = {}
        try:
            while waiting or running:
                # Asked again and again: nodes come and go. One task more for each worker waits on the cluster.
                room = self._limit or 2 * _capacity(ray, self._gpus)
                while waiting and len(running) < room:
                    task = waiting.popleft()
                    running[self._remote.remote(self._shared, task)] = task
                done, _ = ray.wait(list(running), num_returns=1, timeout=10.0)
                for reference in done:
                    task = running.pop(reference)
                    try:
                        result = ray.get(reference)
                    except ray.exceptions.RayTaskError:
                        raise
                    except ray.exceptions.RayError:  # the process or its node died, more often than Ray tries again
                        again = task.after_a_loss()
                        if again[0].tries < TRIES:
                            waiting.extendleft(reversed(again))
                            continue
                        result = self._work.given_up(task)
                    yield task, result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """End what was started, and put back the handler of SIGTERM that Ray replaced."""
        if self._started:
            self._started = False
            self._ray.shutdown()
            if self._on_term is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._on_term)


def _connect(ray: ModuleType, address: str | None, workers: int | None) -> None:
    import logging

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        options["address"] = address
    elif not os.environ.get("RAY_ADDRESS"):
        options |= {"num_cpus": workers, "include_dashboard": False}
    where = address or os.environ.get("RAY_ADDRESS", "")
    try:
        host, colon, port = where.rpartition(":")
        if colon and "/" not in host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(**options)
    except OSError as error:
        raise ConnectionError(f"There is no Ray cluster at the address {where!r}: {error}") from error


def _capacity(ray: ModuleType, gpus: float) -> int:
    resources = ray.cluster_resources()
    number = resources.get("CPU", 1.0)
    if gpus > 0:
        number = min(number, resources.get("GPU", 0.0) / gpus)
    return max(int(number), 1)


def _work_on_ray(work: Work[Any, Any], task: Any) -> Any:
    work.begin()
    return work.do(task)
