"""Tables of one's own: every network of a space trained on one's images, many at once."""

from __future__ import annotations

__all__ = ["BuildPlan", "build_table", "plan_table"]

import os
import platform
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tauzero import __version__, spaces
from tauzero.benchmarks import Table, write_store
from tauzero.benchmarks._folder_lock import digest
from tauzero.benchmarks._readers import benchmark_names
from tauzero.search._one_thread import OneThread
from tauzero.search._table_columns import make_columns
from tauzero.search._table_folder import BuildFolder, Group, Results
from tauzero.search._table_protocol import Protocol
from tauzero.spaces import Genotypes, Progress, SearchSpace
from tauzero.spaces._engines import Engine, check_engine, open_engine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
#: Images of the parts of scikit-learn's 1,797 digits where nothing is said; the rest is the test.
_DIGITS = (400, 300)


@dataclass(frozen=True, eq=False)
class BuildPlan:
    """What a build trains, before anything is trained.

    Attributes
    ----------
    space
        The search space.
    members
        ``int8[n, L]``: the rows of the table.
    networks
        ``int8[m, L]``: the different networks among them, each trained once per seed.
    network_of
        ``int64[n]``: the network of each row.
    protocol
        How they are trained.
    split
        Images.
    settings
        JSON-able: what decides about the results of a training.
    seeds
        Trainings of each network.
    together
        Whether the space's networks are computed together; else they are trained one by one.
    """

    space: SearchSpace
    members: Genotypes
    networks: Genotypes
    network_of: npt.NDArray[np.int64]
    protocol: Protocol
    split: Any
    settings: dict[str, Any]
    seeds: int
    together: bool

    def groups(self) -> list[Group]:
        """All groups of trainings, seed by seed."""
        size = int(self.settings["group_size"])
        return [
            Group(number, first, self.networks[first : first + size], seed)
            for seed in range(self.seeds)
            for number, first in enumerate(range(0, len(self.networks), size))
        ]


def plan_table(
    space: str | SearchSpace,
    data: Any = "digits",
    *,
    genotypes: npt.ArrayLike | None = None,
    dataset: str | None = None,
    epochs: int = 10,
    seeds: int = 3,
    train_images: int | None = None,
    validation_images: int | None = None,
    test_images: int | None = None,
    image_size: int | None = None,
    num_classes: int | None = None,
    split_seed: int = 0,
    batch_size: int = 50,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    augment: bool | None = None,
    group_size: int = 64,
    **options: Any,
) -> BuildPlan:
    """Check everything that a build needs, read the images and say what is to be trained; see `build_table`."""
    from tauzero import networks
    from tauzero.search._table_training import load_split

    found = spaces.get(space)
    family = networks.family(found)
    for name, value, least in (
        ("seeds", seeds, 1), ("split_seed", split_seed, 0), ("group_size", group_size, 1),
        ("image_size", image_size, 1), ("train_images", train_images, 2),
        ("validation_images", validation_images, 1), ("test_images", test_images, 1),
    ):  # fmt: skip
        optional = value is None and name.endswith(("images", "size"))
        if not optional and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least):
            raise ValueError(f"The '{name}' argument must be an integer ≥ {least}. Got {value!r}.")
    built_in = isinstance(data, str) and data in {"digits", "noise"}
    numbers = [train_images, validation_images]
    if built_in:
        numbers = [default if given is None else given for given, default in zip(numbers, _DIGITS, strict=True)]
    if numbers[0] is None or numbers[1] is None:
        raise ValueError(
            "The arguments 'train_images' and 'validation_images' must say how many images are trained on and how many "
            "validate, such as 10000 and 5000."
        )
    protocol = Protocol(
        epochs, batch_size, learning_rate, momentum, weight_decay, not built_in if augment is None else augment,
        family.read_options(options),
    )  # fmt: skip
    side = (8 if built_in else 32) if image_size is None else image_size
    split, description = load_split(
        data, (numbers[0], numbers[1], test_images), image_size=side, num_classes=num_classes, seed=split_seed,
        multiple=family.image_multiple,
    )  # fmt: skip
    members, distinct, network_of = _members(found, genotypes)
    settings = {
        "space": found.name,
        "networks": digest(distinct),
        "members": digest(members),
        "dataset": _dataset_name(data) if dataset is None else dataset,
        "images": description,
        "pixels": digest(*(np.ascontiguousarray(a.numpy()) for part in _parts(split) for a in part)),
        "image_size": list(split.train[0].shape[2:]),
        "classes": split.num_classes,
        "train_images": len(split.train[1]),
        "validation_images": len(split.validation[1]),
        "test_images": len(split.test[1]),
        "split_seed": int(split_seed),
        **protocol.describe(),
        "group_size": int(group_size),
    }
    first = family.build(distinct[0], split.num_classes, options=protocol.options)
    together = family.train_together([first]) is not None or (len(distinct) > 1 and family.stack([first]) is not None)
    return BuildPlan(found, members, distinct, network_of, protocol, split, settings, int(seeds), together)


def build_table(
    space: str | SearchSpace,
    out: str | os.PathLike[str],
    data: Any = "digits",
    *,
    name: str,
    licence: str = "",
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    plan: BuildPlan | None = None,
    target: str | os.PathLike[str] | None = None,
    **more: Any,
) -> Table:
    """Train the networks of a space and make a table of what came of it.

    Equal networks are trained once for all their members. Cells in groups share one program where the space has one
    (NAS-Bench-201's cells with its operations); other spaces' networks are trained one by one, with the same meaning.
    The same call goes on where an earlier one was interrupted, be it by ``kill -9``. Accuracies do not depend on
    engine, `workers` and interruptions; between machines rounding differs.

    Parameters
    ----------
    space
        A search space with networks, or its name.
    out
        Folder, created if need be: ``build.json`` (settings) and a file for each finished group of trainings; at the
        end ``NAME.arrow``, the table.
    data
        ``"digits"`` (scikit-learn's), a tuple ``(images, labels)``, or a path of a data set as `tauzero.proxies.score`
        reads it: an ``.npz`` file, CIFAR's files, a folder of pictures in folders.
    name
        Of the table; none of the benchmarks' names.
    licence
        Of the images; it becomes the table's.
    engine, workers, address
        ``"local"``: processes of this machine, by default one per core. ``"ray"``: a Ray cluster.
    progress
        Called with (done, total) trainings: at the start with those found finished, then after each group.
    plan
        From `plan_table`, in place of `data` and `more`.
    target
        The table's file; None for ``NAME.arrow`` in the folder.
    more
        What decides about the results, arguments of `plan_table`:
        `genotypes` (all of an enumerable space; of others they must be given; members of the same networks are added),
        `dataset` (its name in the table), `epochs`, `seeds` (trainings of each network), `train_images`,
        `validation_images`, `test_images` (of arrays and built-in images by default the rest), `image_size` (8 for
        digits, else 32), `num_classes`, `split_seed` (draws the parts), `batch_size`, `learning_rate`, `momentum`,
        `weight_decay`, `augment` (crops and mirror images; by default for all but digits), `group_size` (networks side
        by side), and the shape of the networks, such as ``channels=4, cells_per_stage=1``.

    Returns
    -------
    Table
        ``train_accuracy`` and ``negative_train_loss`` (while the weights changed), ``validation_accuracy``,
        ``test_accuracy`` after each epoch, each run and their mean; ``training_seconds``, ``parameters``, ``flops``.

    Raises
    ------
    ValueError
        If an argument does not fit, or the folder holds a build with other settings.
    BenchmarkFormatError
        If a file of the folder is damaged.
    FolderInUseError
        If another process is at work on the folder.
    MissingExtraError
        If the engine is ``"ray"`` and Ray is not installed.

    Notes
    -----
    A network whose logits are not finite has diverged: from that epoch on its accuracies are that of guessing, 100
    divided by the number of classes, and its loss is missing. More `seeds` go on in the
    same folder. Processor seconds of all trainings (evaluation apart) are divided
    among networks in proportion to their multiply-adds, since within a group only the sum can be measured.
    """
    check_name(name)
    check_engine(engine, workers, address)
    if plan is None:
        plan = plan_table(space, data, **more)
    elif more:
        raise ValueError(f"The argument '{next(iter(more))}' is one of `plan_table`: it was decided with the plan.")
    groups = plan.groups()
    results = Results(plan.seeds, len(plan.networks), plan.protocol.epochs)
    total = results.done.size
    folder = Path(out).expanduser()
    with BuildFolder(folder, plan.settings) as writer:
        missing = writer.open(groups, results)
        if progress is not None:
            progress(int(results.done.sum()), total)
        if missing:
            work = _Training(plan)
            opened: Engine[Group, Any] = open_engine(engine, work, workers=workers, address=address)
            with opened, closing(opened.run(missing)) as finished:
                for group, curves in finished:
                    writer.append(group, curves, results)
                    if progress is not None:
                        progress(int(results.done.sum()), total)
        table = _table(plan, results, name, licence)
        write_store(table, folder / f"{name}.arrow" if target is None else target)
    return table


def check_name(name: str) -> None:
    """Refuse a name that cannot be a table's, or is a published benchmark's."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"The 'name' argument must be of letters, digits, - and _. Got {name!r}.")
    if name in benchmark_names():
        raise ValueError(
            f"The 'name' argument must not be that of a published benchmark, whose figures are others'. Got {name!r}: "
            f"choose another, such as my-{name}."
        )


class _Training(OneThread[Group, Any]):
    """Trains groups on one thread."""

    def __init__(self, plan: BuildPlan) -> None:
        self._space, self._protocol = plan.space, plan.protocol
        # As arrays: tensors would travel through shared memory, of which containers have little.
        self._split = [tuple(a.numpy() for a in part) for part in _parts(plan.split)]
        self._classes = plan.split.num_classes

    def __repr__(self) -> str:
        return "training"

    def do(self, task: Group) -> Any:
        import torch

        from tauzero.search._table_training import Split, train_group

        parts = [(torch.from_numpy(pixels), torch.from_numpy(labels)) for pixels, labels in self._split]
        split = Split(parts[0], parts[1], parts[2], self._classes)
        return train_group(self._space, task.rows, task.seed, split, self._protocol)

    def given_up(self, task: Group) -> Any:
        raise RuntimeError(
            f"The process that trained the {len(task.rows)} networks from number {task.first} on (seed {task.seed}) "
            "was ended from outside, twice: the memory may not suffice. Use a smaller group size or fewer workers."
        )


def _parts(split: Any) -> tuple[Any, Any, Any]:
    return split.train, split.validation, split.test


def _dataset_name(data: Any) -> str:
    if isinstance(data, str | os.PathLike):
        return Path(data).stem or "images"
    return "images"


def _members(space: SearchSpace, genotypes: npt.ArrayLike | None) -> tuple[Genotypes, Genotypes, npt.NDArray[np.int64]]:
    """Rows of the table, their different networks in lexicographic order, and the network of each row."""
    if not space.enumerable:
        if genotypes is None:
            raise ValueError(
                f"The 'genotypes' argument must name the architectures: {space.name} has about {space.size:.2g}, too "
                "many to train all. On the command line: --sample N."
            )
        members, _ = space.distinct(genotypes)
    elif genotypes is None:
        members = space.enumerate()
    else:
        everything = space.enumerate()
        wanted = np.unique(space.index(space.canonical(genotypes)))
        members = everything[np.isin(space.index(space.canonical(everything)), wanted)]
    if not len(members):
        raise ValueError("The 'genotypes' argument must hold at least one architecture. Got none.")
    distinct, network_of = space.distinct(members)
    # Neighbours share operations on their first edges, which a group then computes in fewer pieces.
    order = np.lexsort(distinct.T[::-1])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return members, np.ascontiguousarray(distinct[order]), place[network_of].astype(np.int64)


def _table(plan: BuildPlan, results: Results, name: str, licence: str) -> Table:
    import torch

    provenance = {
        "made by": f"tauzero {__version__}, `tauzero benchmarks build`",
        "seeds": plan.seeds,
        "protocol": {k: v for k, v in plan.settings.items() if k not in {"networks", "members", "pixels"}},
        "digests": {k: plan.settings[k] for k in ("networks", "members", "pixels")},
        "trainings": int(results.done.size),
        "processor_seconds": round(results.seconds, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": platform.machine(),
    }
    index = genotypes = None
    if not plan.space.enumerable:
        genotypes = plan.members
    elif len(plan.members) < plan.space.size:
        index = plan.space.index(plan.members)
    text = licence or "not stated; that of the images"
    return Table(name, plan.space.name, make_columns(plan, results), text, provenance, index, None, genotypes)
