"""The room's façade: architectures and proxy names in, a table of scores out."""

from __future__ import annotations

__all__ = ["score"]

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tauzero import networks, spaces
from tauzero.networks import DatasetShape, dataset_shape
from tauzero.proxies import _registry
from tauzero.proxies._images import Batch, check_batch_size, images
from tauzero.proxies.base import Proxy, Work
from tauzero.spaces import Genotypes, Progress, SearchSpace

# Architectures that one thread holds at a time: networks are at most 6 MB each; small groups keep all cores busy.
_GROUP = 2


def score(
    space: str | SearchSpace,
    genotypes: npt.ArrayLike,
    names: str | Sequence[str],
    batch: Batch = "noise",
    *,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    batch_size: int = 64,
    dataset: str | int | DatasetShape = "cifar10",
) -> pd.DataFrame:
    """Score untrained architectures.

    Parameters
    ----------
    space
        Name of a search space that has networks, or the space.
    genotypes
        ``int8[n, L]``.
    names
        Proxies by name or alias; one name or a list. ``"all"`` stands for `tauzero.proxies.names`.
    batch
        Images: ``"noise"``, ``"digits"``, an array or the path of an ``.npz`` file; see `tauzero.proxies.images`.
        Read only if a proxy needs images.
    device
        ``"auto"`` (CUDA if there is one, else the CPU), ``"cpu"``, ``"cuda"``, …
    seed
        Draws the images and, with each architecture's canonical index, its initial weights.
    progress
        Called with (done, total) numbers of networks after each group; equal networks count once.
    batch_size
        Number of images, ≥ 2.
    dataset
        Data set that the networks are built for: decides the number of classes, the image size of noise
        and digits and what `flops`, `params` and `synflow` see.

    Returns
    -------
    pandas.DataFrame
        One row per genotype in the given order: ``index`` (int64, the architecture's index in the space),
        ``arch`` (its string) and one float64 column per name. NaN where a score is undefined.

    Raises
    ------
    InvalidGenotypeError, UnknownNameError, ValueError
        If an argument does not fit; the message says which, what was expected and what came.

    Examples
    --------
    >>> from tauzero import proxies
    >>> proxies.score("nasbench201", [[3, 3, 3, 3, 3, 3]], ["params", "flops"]).iloc[0, 2:].tolist()
    [1531546.0, 220119690.0]
    """
    the_space = spaces.get(space)
    family = networks.family(the_space)
    rows = the_space.validate(genotypes)
    asked = _read_names(names)
    chosen = {name: _registry.get(name) for name in asked}
    shape = dataset_shape(dataset)
    where = _read_device(device)
    the_seed = _read_seed(seed)
    size = check_batch_size(batch_size)
    pixels: Tensor | None = None
    if any(proxy.needs_images for proxy in chosen.values()):
        cpu = images(batch, batch_size=size, image_size=shape.image_size, seed=the_seed, multiple=family.image_multiple)
        for proxy in chosen.values():
            if proxy.needs_images:
                proxy.check_images(cpu)
        # The layout that CPU convolutions and poolings are fastest in (twice as fast as NCHW).
        pixels = cpu.contiguous(memory_format=torch.channels_last) if where.type == "cpu" else cpu.to(where)
    run = _Run(the_space, shape, the_seed, where, pixels, progress)
    by_proxy = run.score(rows, list(dict.fromkeys(chosen.values())))
    frame = pd.DataFrame({"index": the_space.index(rows), "arch": the_space.to_string(rows)})
    for name in asked:
        frame[name] = by_proxy[chosen[name]]
    return frame


@dataclass(frozen=True)
class _Run:
    """One call of `score`: splits the architectures into works and tells how far it is."""

    space: SearchSpace
    shape: DatasetShape
    seed: int
    device: torch.device
    batch: Tensor | None
    progress: Progress | None

    def score(self, rows: Genotypes, chosen: list[Proxy]) -> dict[Proxy, npt.NDArray[np.float64]]:
        scores = {}
        written = [proxy for proxy in chosen if proxy.reads == "string"]
        if written:
            work = self._work(rows)
            scores.update({proxy: _undefined_to_nan(proxy.score(work)) for proxy in written})
        shared = [proxy for proxy in chosen if proxy.reads == "network"]
        if shared:
            canonical = self.space.canonical(rows)
            _, first, back = np.unique(self.space.index(canonical), return_index=True, return_inverse=True)
            found = self._networks(canonical[first], shared)
            scores.update({proxy: values[back] for proxy, values in found.items()})
        return scores

    def _work(self, rows: Genotypes) -> Work:
        return Work(self.space, rows, self.shape, self.seed, self.device, self.batch)

    def _networks(self, distinct: Genotypes, chosen: list[Proxy]) -> dict[Proxy, npt.NDArray[np.float64]]:
        values = {proxy: np.full(len(distinct), np.nan) for proxy in chosen}
        starts = range(0, len(distinct), _GROUP)

        def group(start: int) -> list[npt.NDArray[np.float64]]:
            work = self._work(distinct[start : start + _GROUP])
            return [_undefined_to_nan(proxy.score(work)) for proxy in chosen]

        with _exact_convolutions(), _workers(self.device) as pool:
            for start, results in zip(starts, pool.map(group, starts), strict=True):
                stop = min(start + _GROUP, len(distinct))
                for proxy, result in zip(chosen, results, strict=True):
                    values[proxy][start:stop] = result
                if self.progress is not None:
                    self.progress(stop, len(distinct))
        return values


def _undefined_to_nan(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


@contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that score groups side by side.

    On a CPU each thread computes with one core: small convolutions gain more from this than from being
    split, a busy machine does not make them wait for one another, and rounding does not depend on
    the number of cores. torch releases Python's lock during its operations.
    """
    cores = torch.get_num_threads()
    alone = device.type != "cpu"
    pool = (
        ThreadPoolExecutor(1) if alone else ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if not alone:
            # The setting is per thread, but it is also the default of threads to come.
            torch.set_num_threads(cores)


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Deterministic CUDA convolutions without TF32 inside, the user's settings again outside; nothing on a CPU."""
    if not torch.cuda.is_available():
        yield
        return
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul


def _read_names(names: str | Sequence[str]) -> list[str]:
    asked = _registry.names() if isinstance(names, str) and names == "all" else names
    listed = [asked] if isinstance(asked, str) else list(asked)
    if not listed:
        raise ValueError(f"The 'names' argument must name a proxy. Got none; known: {', '.join(_registry.names())}.")
    return list(dict.fromkeys(listed))


def _read_device(device: str | torch.device) -> torch.device:
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The 'device' argument must be 'auto', 'cpu', 'cuda' or 'cuda:<n>'. Got {device!r}."
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"The 'device' argument is {device!r}, but torch sees no CUDA device: pass 'cpu' or 'auto'.")
    return chosen


def _read_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"The 'seed' argument must be a non-negative integer. Got {seed!r}.")
    return int(seed)
