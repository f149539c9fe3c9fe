"""One call that trains a supernet and returns the architecture that was found."""

from __future__ import annotations

__all__ = ["run"]

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tauzero import spaces
from tauzero.benchmarks import Benchmark, atomic_path
from tauzero.search.oneshot._data import load_images
from tauzero.search.oneshot._registry import find, supernet_class
from tauzero.search.oneshot._result import OneShotResult, ranking_of, truth_of
from tauzero.search.oneshot._settings import resolve
from tauzero.search.oneshot._trainer import Training
from tauzero.spaces import Progress, SearchSpace


def _device(name: str | torch.device) -> torch.device:
    try:
        found = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"The 'device' argument must be auto, cpu or cuda. Got {name!r}.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"The 'device' argument is {str(name)!r}, but PyTorch sees no GPU here: use 'cpu'.")
    return found


def run(
    method: str,
    space: SearchSpace | str = "nasbench201",
    data: Any = "digits",
    *,
    preset: str = "paper",
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    epochs: int | None = None,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
    table: Benchmark | None = None,
    **options: Any,
) -> OneShotResult:
    """Train a supernet with a one-shot method and derive an architecture from it.

    Parameters
    ----------
    method
        One of `names`.
    space
        A space with a supernet: ``nasbench201``, ``nasbench201x(…)`` or ``darts``, or its name.
    data
        Labelled images: ``"digits"``, a tuple ``(images, labels)``, or a path as `tauzero.proxies.score` reads it.
        Training images only; they are divided into two halves.
    preset
        ``"paper"``: the hyper-parameters of the published runs; ``"smoke"``: seconds on a CPU.
    seed
        A non-negative integer: which images, the halves, initial weights, everything drawn.
    out
        Folder of a checkpoint, which is written after each epoch and gone on from where there is one, and of the
        result. None for nothing.
    epochs
        Instead of the preset's.
    device
        ``"auto"`` (CUDA if there is one, else the CPU), ``"cpu"``, ``"cuda"``, …
    progress
        Called with finished and all epochs.
    table
        A table of the space: the found architecture and the supernet's ranking are compared with it.
    **options
        Any other number of the run, such as ``channels=8, batch_size=128``: fields of `Settings`, of the supernet's
        `Options` and of the method's.

    Raises
    ------
    UnknownNameError
        If there is no such method, space, preset or option.
    ValueError
        If an option cannot have its value, the images cannot be used, or the folder belongs to another run; before
        anything is trained.
    NonFiniteLossError
        If a loss is not finite; the message says where it happened and how to go on.

    Examples
    --------
    >>> from tauzero.search import oneshot
    >>> result = oneshot.run("darts-v1", data="digits", preset="smoke", device="cpu", epochs=1, ranked=0)
    >>> result.genotype.shape, result.epochs
    ((6,), 1)
    """
    chosen = find(method)
    the_space = spaces.get(space)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"The 'seed' argument must be a non-negative integer. Got {seed!r}.")
    if table is not None and table.space is not the_space:
        raise ValueError(f"The 'table' argument must be of {the_space.name}. Got one of {table.space.name}.")
    family = supernet_class(the_space)
    given = options if epochs is None else {**options, "epochs": epochs}
    setup = resolve(chosen, family, the_space, preset=preset, options=given)
    folder = None if out is None else Path(out)
    where = _device(device)
    data_seed = int(seed) if setup.settings.data_seed is None else setup.settings.data_seed
    images = load_images(data, setup.settings, seed=data_seed, multiple=family.image_multiple, device=where)
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence(int(seed), spawn_key=(3,)).generate_state(1, np.uint64)[0] >> 1)
    )
    supernet = family(the_space, images.num_classes, setup.supernet, generator).to(where)
    identity = {
        "method": method,
        "space": the_space.name,
        "seed": int(seed),
        "data": images.description,
        **setup.plain(),
    }
    training = Training(
        supernet, chosen(setup.method), setup.settings, images, seed=int(seed), folder=folder, identity=identity
    )
    training.resume()
    if folder is not None:  # before hours of training: a folder that cannot be written to
        with atomic_path(folder / "settings.json") as partial:
            partial.write_text(json.dumps({"preset": preset, **identity}, ensure_ascii=False) + "\n", encoding="utf-8")
    training.run(progress or (lambda done, total: None))  # noqa: ARG005 - tells nobody
    row = training.method.derive(training)
    rng = np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=(4,)))
    drawn = the_space.sample(min(setup.settings.ranked, the_space.size), rng, unique=True)
    with torch.no_grad():
        scores = (
            training.method.scores(training, drawn)
            if setup.settings.ranked_images is None
            else training.accuracies(drawn, setup.settings.ranked_images)
        )
    value = training.method.value(training, row)
    result = OneShotResult(
        method=method,
        space=the_space.name,
        genotype=row,
        arch=the_space.to_string(row[None])[0],
        value=value,
        search_accuracy=training.method.search_accuracy(training, value),
        truth=truth_of(table, row),
        ranking=ranking_of(table, drawn, scores),
        history=training.history,
        options=setup.plain(),
        seed=int(seed),
        description=images.description,
        seconds=sum(entry["seconds"] for entry in training.history),
    )
    if folder is not None:
        result.save(folder)
    return result
