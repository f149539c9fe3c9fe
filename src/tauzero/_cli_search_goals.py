"""What ``tauzero search`` maximises: an objective from the options of the command line."""

from __future__ import annotations

__all__ = ["Goal", "Wanted", "goal_of", "place_of", "shape_options"]

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tauzero._cli_support import fail
from tauzero.spaces.errors import unknown_name

OBJECTIVES = ("table", "surrogate", "proxy", "training")
#: Rows that the surrogate is fitted on unless --train or a model says otherwise.
_TRAIN = 156
#: Architectures of a space that a surrogate benchmark predicts before a search begins.
_WHOLE = 65_536


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options about the objective, as they were given."""

    objective: str
    surrogate: str | None
    train: int | None
    kind: str
    proxies: list[str]
    data: str | None
    epochs: list[int]
    images: int | None
    image_size: int | None
    device: str
    costs: list[str]
    options: Mapping[str, Any]
    engine: str = "local"
    workers: int | None = None
    address: str | None = None

    def check(self) -> None:
        """Refuse an unknown objective, and options that belong to another one."""
        if self.objective not in OBJECTIVES:
            raise unknown_name("objective", self.objective, OBJECTIVES)
        belongs = {
            "--surrogate": (self.surrogate is not None, ("surrogate",)),
            "--train": (self.train is not None, ("surrogate",)),
            "--kind": (self.kind != "mean", ("surrogate",)),
            "--proxies": (bool(self.proxies), ("proxy",)),
            "--data": (self.data is not None, ("proxy", "training")),
            "--images": (self.images is not None, ("proxy", "training")),
            "--image-size": (self.image_size is not None, ("proxy", "training")),
            "--option": (bool(self.options) and not self.costs, ("proxy", "training")),
            "--epochs": (bool(self.epochs), ("table", "training")),
            "--workers": (self.workers is not None, ("proxy", "training")),
            "--engine": (self.engine != "local" or self.address is not None, ("proxy", "training")),
        }
        for option, (given, objectives) in belongs.items():
            if given and self.objective not in objectives:
                wanted = " and ".join(f"--objective {name}" for name in objectives)
                raise ValueError(f"{option} belongs to {wanted}. Got --objective {self.objective}.")


@dataclass(slots=True)
class Goal:
    """An objective, and what a report says of it."""

    objective: Any
    #: Training seconds and true queries that were spent before the search began.
    seconds: float = 0.0
    looked_up: int = 0
    notes: list[str] = field(default_factory=list)
    #: Ends the workers that evaluate the objective, where there are any.
    close: Callable[[], None] = lambda: None
    #: The surrogate of --objective surrogate.
    predictor: Any = None


def place_of(name: str, source: str | None, *, needs_table: bool) -> tuple[Any, Any]:
    """The space that is searched and its table, None where the name is a space's or the table is not here."""
    from tauzero import benchmarks, spaces

    if source is not None or needs_table or benchmarks.has_scheme(name) or name in benchmarks.names():
        try:
            table = benchmarks.load(name, source)
        except benchmarks.MissingTableError:
            if needs_table or name not in spaces.names():
                raise
        else:
            return table.space, table
    return spaces.get(name), None


def goal_of(wanted: Wanted, space: Any, table: Any, dataset: str | None, seed: int) -> Goal:
    """The objective that the options describe."""
    from tauzero import search

    if wanted.objective == "table":
        if table.on_demand and not (space.enumerable and space.size <= _WHOLE):
            return _predicted(wanted, table, dataset)
        if not space.enumerable:
            fail(
                f"a search by look-up needs a space that can be enumerated, and {space.name} has about "
                f"{space.size:.1e} architectures: use --objective surrogate, proxy or training."
            )
        if len(wanted.epochs) > 1:
            fail("--epochs takes one number with --objective table: the table knows which budgets it has.")
        epoch = wanted.epochs[0] if wanted.epochs else None
        goal = Goal(search.TableObjective(table, dataset, _other_metric(table, dataset), epoch=epoch))
    elif wanted.objective == "surrogate":
        predictor, seconds, looked_up, notes = _predictor(space, table, dataset, wanted.surrogate, wanted.train, seed)
        drawn = seed if wanted.kind == "thompson" else None
        goal = Goal(
            search.SurrogateObjective(predictor, wanted.kind, seed=drawn, space=space),
            seconds,
            looked_up,
            notes,
            predictor=predictor,
        )
    elif wanted.objective == "proxy":
        settings: dict[str, Any] = {"dataset": dataset, "batch_size": wanted.images, "image_size": wanted.image_size}
        given = {name: value for name, value in settings.items() if value is not None}
        goal = Goal(
            search.ProxyObjective(
                space, wanted.proxies or ["synflow"], wanted.data or "noise", seed=seed, device=wanted.device,
                **given, **wanted.options,
            )
        )  # fmt: skip
    else:
        goal = Goal(
            search.TrainingObjective(
                space, wanted.data or "digits", sorted(wanted.epochs) or 12, num_images=wanted.images,
                image_size=wanted.image_size or 32, seed=seed, device=wanted.device, **wanted.options,
            )
        )  # fmt: skip
    if wanted.workers is not None or wanted.engine != "local" or wanted.address is not None:
        engine: Any = wanted.engine  # the room says which there are
        goal.objective = search.ParallelObjective(goal.objective, engine, wanted.workers, address=wanted.address)
        goal.close = goal.objective.close
    if wanted.costs:
        goal.objective = search.WithCosts(goal.objective, wanted.costs, options=wanted.options or None)
    return goal


def _predicted(wanted: Wanted, table: Any, dataset: str | None) -> Goal:
    """A surrogate benchmark that is asked query by query: predicting its whole space would take longer, or for ever."""
    from tauzero import search

    if wanted.epochs and wanted.epochs != [*table.epochs(dataset, table.main_metric(dataset))]:
        fail(f"--epochs: {table.name} knows {', '.join(map(str, table.epochs(dataset))) or 'no training budgets'}.")
    goal = Goal(search.BenchmarkObjective(table, dataset))
    if wanted.costs:
        goal.objective = search.WithCosts(goal.objective, wanted.costs, options=wanted.options or None)
    return goal


def shape_options(given: list[str]) -> dict[str, Any]:
    """Shape options of networks, ``NAME=VALUE``, as Python reads the value; what it cannot read is text."""
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f"--option takes NAME=VALUE, such as channels=8. Got {text!r}.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _predictor(
    space: Any, table: Any, dataset: str | None, name: str | None, train: int | None, seed: int
) -> tuple[Any, float, int, list[str]]:
    """Return a fitted surrogate, the training seconds and the number of true queries it cost, and what to know."""
    import numpy as np

    from tauzero import surrogates
    from tauzero.evaluation import protocol_split

    if name is not None and train is not None:
        raise ValueError("--surrogate and --train exclude each other: a saved model, or one fitted now.")
    if name is not None:
        predictor, extended = _saved(name, space, dataset)
        if extended:
            return predictor, 0.0, 0, [f"{name} learnt from other cells than those of {space.name}: see ood_score."]
        count = int(predictor.metadata_.get("training_rows", predictor.n_train_))
        same = table is not None and predictor.metadata_.get("benchmark") == table.name
        known = [f"{name} was trained on {count:,} rows of this very table: what it finds says nothing about search."]
        return predictor, 0.0, count, known if same else []
    # As in a search by look-up, validation accuracy drives and test accuracy is only reported.
    stand_in = _other_metric(table, dataset) or table.default_metric
    metric = "validation_accuracy" if "validation_accuracy" in table.metrics(dataset) else stand_in
    rows = table.architectures
    values = table.table(dataset, metric)
    if not np.isfinite(values).all():
        metric = stand_in
        values = table.table(dataset, metric)
    some = {} if space.enumerable else {"architectures": rows}
    picked = protocol_split(space, "all", train or _TRAIN, seed, available=np.isfinite(values), **some).train
    _, cost = table.query(rows[picked], dataset=dataset, metric=metric, return_cost=True)
    predictor = surrogates.create("auto", space, random_state=seed)
    predictor.fit(rows[picked], values[picked])
    known = [f"The surrogate was fitted on the {metric} of {len(picked):,} random architectures, looked up."]
    return predictor, float(cost.sum()), len(picked), known


def _saved(name: str, space: Any, dataset: str | None) -> tuple[Any, bool]:
    """A saved model that predicts a space, and whether it was extended to it; ``multi-space:SOURCE`` names a head."""
    from pathlib import Path

    from tauzero import surrogates

    folder, colon, source = name.partition(":")
    if not colon or Path(name).is_dir():
        folder, source = name, ""
    loaded: Any = surrogates.load(folder)
    if not isinstance(loaded, surrogates.MultiSpaceGNN):
        if source:
            raise ValueError(f"Only a multi-space model takes a source, as in multi-space:{source}. Got {name!r}.")
        if loaded.space_ is not space and space.extends is None and loaded.space_.extends is None:
            raise ValueError(f"The surrogate {name} predicts {loaded.space_.name}, not {space.name}.")
        return loaded.on(space), loaded.space_ is not space
    published = f"{space.extends or space.kind}/{dataset}"
    if not source and published in loaded.sources_:
        source = published
    return surrogates.extend(loaded, space, source=source or None), True


def _other_metric(table: Any, dataset: str | None) -> str | None:
    """The main metric of a dataset whose networks have no accuracies, such as structural similarity; else None."""
    known = table.metrics(dataset)
    accuracies = {"validation_accuracy", table.default_metric}
    return None if accuracies & set(known) else str(table.main_metric(dataset))
