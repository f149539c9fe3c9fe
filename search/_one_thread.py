"""Work on one torch thread."""

from __future__ import annotations

__all__ = ["OneThread"]

from collections.abc import Iterator
from contextlib import contextmanager

from tauzero.spaces._engines import ResultT, TaskT, Work


class OneThread(Work[TaskT, ResultT]):
    """Work that torch does on one thread, wherever that is, so that the workers do not show in the last digit."""

    def begin(self) -> None:
        """One torch thread in a worker process."""
        import torch

        torch.set_num_threads(1)

    @contextmanager
    def here(self) -> Iterator[None]:
        """One torch thread in this process, for as long as the context lasts."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
