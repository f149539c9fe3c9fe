"""The Pareto set of ``tauzero search``, and what a surrogate says of its members."""

from __future__ import annotations

__all__ = ["front_of", "judged", "shown_front"]

from typing import Any

import numpy as np

from tauzero._cli_support import make_table


def judged(predictor: Any, space: Any, rows: Any) -> list[dict[str, Any]]:
    """Prediction, deviation and unfamiliarity of each row; computed after a search, for a few rows."""
    mean, std = predictor.predict(rows, return_std=True)
    score = predictor.ood_score(rows)
    return [
        {"predicted": float(m), "std": float(s), "ood_score": float(o), "ood": bool(o > 1), "published": bool(p)}
        for m, s, o, p in zip(mean, std, score, space.is_published(rows), strict=True)
    ]


def front_of(space: Any, trajectory: Any, most: int, predictor: Any) -> tuple[int, list[dict[str, Any]]]:
    """Size of the Pareto set of all queries, and at most so many of it, from the best value to the lowest.

    Points that are equal in everything are shown once. Of a larger set the ends are kept and others at
    equal distances by rank.
    """
    front = trajectory.pareto_front()
    points = np.stack([trajectory.values, *trajectory.costs.values()], axis=1)[front]
    front = front[np.sort(np.unique(points, axis=0, return_index=True)[1])]
    size = len(front)
    if size > most:
        front = front[np.unique(np.linspace(0, size - 1, most).round().astype(np.int64))]
    rows = trajectory.genotypes[front]
    more = [{}] * len(rows) if predictor is None or not len(rows) else judged(predictor, space, rows)
    found = []
    for arch, position, further in zip(space.to_string(rows), front.tolist(), more, strict=True):
        costs = {name: float(column[position]) for name, column in trajectory.costs.items()}
        found.append({"arch": arch, "value": float(trajectory.values[position]), "costs": costs, **further})
    return size, found


def shown_front(size: int, points: list[dict[str, Any]]) -> Any:
    """The front as a table for people."""
    predicted = bool(points) and "std" in points[0]
    header = ["architecture", "value", *(["std", "ood_score"] if predicted else [])]
    header += list(points[0]["costs"]) if points else []
    cells = []
    for point in points:
        further = [f"{point['std']:.3f}", f"{point['ood_score']:.2f}"] if predicted else []
        cells.append([point["arch"], point["value"], *further, *point["costs"].values()])
    title = "not beaten in value and all costs" + (f" ({len(points)} of {size})" if len(points) < size else "")
    return make_table(title, header, cells)
