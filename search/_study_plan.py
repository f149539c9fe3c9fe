"""Which algorithms take part in a study, and how its trials are cut into tasks."""

from __future__ import annotations

__all__ = ["choose", "params_of", "tasks_of"]

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from tauzero.benchmarks._folder_lock import digest
from tauzero.search._registry import find, names
from tauzero.search._study_design import Design, described
from tauzero.search._study_folder import Pair
from tauzero.search._study_trial import Trials
from tauzero.search.base import MultiFidelityAlgorithm
from tauzero.search.objectives import TableObjective
from tauzero.search.proxy_evolution import ProxyEvolution

#: Trials of a task at most, and tasks that each worker gets at least.
_CHUNK, _CHUNKS_PER_WORKER = 50, 4


def left_out(name: str, objective: str, design: Design, fidelities: Sequence[int]) -> str | None:
    """Why an algorithm cannot take part in a study with an objective, or None if it can."""
    algorithm = find(name)
    if algorithm.multi_objective:
        return "it weighs accuracy against costs, and the objectives of a study have none"
    if issubclass(algorithm, MultiFidelityAlgorithm) and "fidelities" not in design.params.get(name, {}):
        if objective != "table":
            return "it chooses training budgets, and a prediction or a score has none"
        if len(fidelities) < 2:
            return "it chooses training budgets, and the table has one for the whole space"
    return None


def too_dear(name: str, design: Design) -> str | None:
    """Why an algorithm takes part only if it is named, or None."""
    if issubclass(find(name), ProxyEvolution) and design.scores is None and "score" not in design.params.get(name, {}):
        return "it would score thousands of untrained networks: give a table of scores, or name it"
    return None


def params_of(name: str, design: Design) -> Any:
    """Parameters of an algorithm as plain JSON values, and the scores that it evolves by."""
    found = dict(described(dict(design.params.get(name, {}))))
    if issubclass(find(name), ProxyEvolution) and "score" not in found:
        found["score"] = (
            [*design.scorers, described(dict(design.proxy_options))]
            if design.scores is None
            else f"sha256 {digest(design.scores)}"
        )
    return found


def choose(
    algorithms: str | Sequence[str], kinds: Sequence[str], design: Design, goal: TableObjective
) -> tuple[list[Pair], list[dict[str, str]]]:
    """Objectives and algorithms that fit each other, and what was left out and why."""
    everything = isinstance(algorithms, str) and algorithms == "all"
    chosen = names() if everything else [algorithms] if isinstance(algorithms, str) else list(dict.fromkeys(algorithms))
    if not chosen:
        raise ValueError("The 'algorithms' argument must name at least one search algorithm, or be 'all'.")
    for name in [*chosen, *design.params]:
        find(name)
    pairs, excluded = [], []
    for kind in kinds:
        for name in chosen:
            reason = left_out(name, kind, design, goal.fidelities if kind == "table" else ())
            if reason is None and everything:
                reason = too_dear(name, design)
            if reason is None:
                pairs.append((kind, name))
            else:
                excluded.append({"objective": kind, "algorithm": name, "reason": reason})
    if not everything:
        for name in chosen:
            reasons = [entry["reason"] for entry in excluded if entry["algorithm"] == name]
            if len(reasons) == len(kinds):
                raise ValueError(f"The algorithm {name!r} cannot take part in this study: {reasons[0]}.")
    return pairs, excluded


def tasks_of(asked: Mapping[Pair, list[int]], workers: int) -> deque[Trials]:
    """Tasks of a few trials; with a surrogate of all algorithms that lack them, which share its model."""
    tasks: deque[Trials] = deque()
    lacking: dict[int, list[str]] = {}
    for (objective, algorithm), numbers in asked.items():
        if objective == "surrogate":
            for trial in numbers:
                lacking.setdefault(trial, []).append(algorithm)
        else:
            size = min(_CHUNK, max(1, math.ceil(len(numbers) / (_CHUNKS_PER_WORKER * workers))))
            tasks += [
                Trials(objective, (algorithm,), tuple(numbers[k : k + size])) for k in range(0, len(numbers), size)
            ]
    together: dict[tuple[str, ...], list[int]] = {}
    for trial, some in lacking.items():
        together.setdefault(tuple(some), []).append(trial)
    for some_, numbers in together.items():
        size = min(_CHUNK, max(1, math.ceil(len(numbers) / (_CHUNKS_PER_WORKER * workers))))
        tasks += [Trials("surrogate", some_, tuple(numbers[k : k + size])) for k in range(0, len(numbers), size)]
    return tasks
