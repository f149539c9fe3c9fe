"""The account of one search: what was asked, what it cost, what the algorithm is told, and when it is over."""

from __future__ import annotations

__all__ = ["Account"]

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search.base import Algorithm, identity
from tauzero.search.objectives import Evaluation, Objective
from tauzero.search.trajectory import Trajectory
from tauzero.spaces import Genotypes, Progress, Seed

#: Consecutive proposals without one new architecture after which a search counts as stalled.
_PATIENCE = 10_000

#: What a query is known by: the architecture's `identity`, with the epochs where the algorithm chooses them.
_Key = int | tuple[int, int]
#: What a query gave: value, seconds, and the objective's costs.
_Answer = tuple[float, ...]


class Account:
    """Book-keeping of one search; arrays are allocated once, so that a step costs microseconds."""

    def __init__(
        self, objective: Objective, solver: Algorithm, budget: int | None, seconds: float | None, seed: Seed | None
    ) -> None:
        self.objective, self.solver, self.space = objective, solver, objective.space
        self.budget = None if budget is None else int(budget)
        self.limit = None if seconds is None else float(seconds)
        self.seed = int(seed) if isinstance(seed, int | np.integer) else None
        self.size = self.space.size * len(solver.fidelities or (0,))
        # One entry per batch, appended at once: an interrupt never leaves half an entry.
        self.batches: list[tuple[Genotypes, list[_Key], list[_Answer]]] = []
        self.paid = 0
        self.clock = 0.0
        self.known: dict[_Key, float | tuple[float, ...]] = {}
        self.position_of: dict[bytes, int] = {}
        self.recalled: dict[_Key, _Answer] = {}
        self.repeats = 0
        self.idle = 0
        self.over = False  # a query was asked for that `seconds` does not allow
        self.started = time.perf_counter()

    def recall(self, path: Path) -> None:
        """Take the evaluations of an interrupted search; they must be those of the same search."""
        if not path.exists():
            return
        before = Trajectory.load(path)
        mine = (self.space.name, self.solver.name, self.objective.label, self.seed, list(self.objective.cost_names))
        theirs = (before.space, before.algorithm, before.objective, before.seed, list(before.costs))
        if mine != theirs:
            raise ValueError(
                f"The checkpoint {path} belongs to another search: (space, algorithm, objective, seed, costs) is "
                f"{theirs}, asked for is {mine}. Delete it or choose another file."
            )
        epochs = None if self.solver.fidelities is None else before.epochs
        if self.objective.instant and len(before):
            now = self._evaluation(before.genotypes, before.index, epochs).values
            if not np.allclose(now, before.values, rtol=1e-6, atol=1e-9):
                raise ValueError(
                    f"The checkpoint {path} was made with other values of the objective '{self.objective.label}' "
                    "(another table or surrogate). Delete it or choose another file."
                )
        keys: list[Any] = before.index.tolist()
        if epochs is not None:
            keys = list(zip(keys, epochs.tolist(), strict=True))
        self.recalled = dict(zip(keys, _answers(before), strict=True))

    def step(self, batch_size: int, progress: Progress | None) -> str:
        """Ask, evaluate what is new, tell; return why the search ends, or an empty string."""
        room = batch_size if self.budget is None else min(batch_size, self.budget - self.paid)
        rows, epochs = self.solver.ask_at(room)
        if not len(rows):
            return "exhausted"
        if len(rows) == 1 and epochs is None and self._repeated(rows):
            return self._patience()
        keys = self._keys(rows, epochs)
        known = self.known
        fresh: list[int] = []
        for k, key in enumerate(keys):
            if key not in known:
                known[key] = np.nan  # so that a second copy in this batch is not paid for
                fresh.append(k)
        told = len(keys)
        if fresh:
            self.idle = 0
            told = self._pay(rows, keys, fresh)
            if told < len(keys):
                fresh = [k for k in fresh if k < told]
                rows, keys, epochs = rows[:told], keys[:told], None if epochs is None else epochs[:told]
        else:
            self.idle += len(keys)
        self.repeats += len(keys) - len(fresh)
        if keys:
            values = np.array([known[key] for key in keys], dtype=np.float64)
            if epochs is None:
                self.solver._answer(rows, values)
            else:
                self.solver.tell(rows, values, epochs)
        if fresh and progress is not None:
            self._tell_progress(progress)
        if self.over:
            return "seconds"
        return self._ending() if fresh else self._patience()

    def _patience(self) -> str:
        return "stalled" if self.idle >= _PATIENCE else ""

    def _repeated(self, row: Genotypes) -> bool:
        """Answer one row ``int8[1, L]`` from memory, if it came before: most steps of a converged search."""
        position = self.position_of.get(row.tobytes())
        if position is None or position not in self.known:
            return False
        self.idle += 1
        self.repeats += 1
        self.solver._answer(row, np.array([self.known[position]], dtype=np.float64))
        return True

    def _tell_progress(self, progress: Progress) -> None:
        if self.budget is not None:
            progress(self.paid, self.budget)
        elif self.limit is not None:
            progress(math.ceil(self.clock), math.ceil(self.limit))

    def _ending(self) -> str:
        if self.budget is not None and self.paid >= self.budget:
            return "budget"
        if self.paid >= self.size:
            return "exhausted"
        return ""

    def _keys(self, rows: Genotypes, epochs: npt.NDArray[np.int64] | None) -> list[Any]:
        """What each row's query is known by; a row that came before is not looked at again."""
        names = [row.tobytes() for row in rows]
        try:
            positions = [self.position_of[name] for name in names]
        except KeyError:
            positions = identity(self.space, rows).tolist()
            self.position_of.update(zip(names, positions, strict=True))
        return positions if epochs is None else list(zip(positions, epochs.tolist(), strict=True))

    def _pay(self, rows: Genotypes, keys: list[_Key], fresh: list[int]) -> int:
        """Answer and charge the rows `fresh`; return how many of all rows come before the first not affordable."""
        told = len(keys)
        if len(fresh) < told:
            rows, keys = rows[fresh], [keys[k] for k in fresh]
        answers = self._answered(rows, keys)
        affordable = self._charge(rows, answers)
        if affordable < len(keys):
            self.over = True
            for key in keys[affordable:]:
                del self.known[key]
            told = fresh[affordable]
            rows, keys, answers = rows[:affordable], keys[:affordable], answers[:affordable]
        if self.solver.multi_objective:
            self.known.update(zip(keys, ((a[0], *(-c for c in a[2:])) for a in answers), strict=True))
        else:
            self.known.update(zip(keys, (answer[0] for answer in answers), strict=True))
        if keys:
            self.batches.append((rows, keys, answers))
        self.paid += len(keys)
        return told

    def _charge(self, rows: Genotypes, answers: list[_Answer]) -> int:
        """Add the cost of the answers to the clock; return how many of them `seconds` allows."""
        if self.limit is None:
            self.clock += sum(answer[1] for answer in answers)
            return len(answers)
        for k, answer in enumerate(answers):
            if not math.isfinite(answer[1]):
                raise ValueError(
                    f"The 'seconds' argument limits the cost of a search, and the objective '{self.objective.label}' "
                    f"does not know that of {self.space.to_string(rows[k : k + 1])[0]}: give 'budget' instead."
                )
            # Rounding of the sum must not end a search whose costs add up to the limit.
            if self.clock + answer[1] > self.limit * (1 + 1e-12):
                return k
            self.clock += answer[1]
        if self.budget is None and not self.clock:
            raise ValueError(
                f"The objective '{self.objective.label}' costs no time, so that a limit of 'seconds' never ends the "
                "search: give 'budget' as well."
            )
        return len(answers)

    def _answered(self, rows: Genotypes, keys: list[_Key]) -> list[_Answer]:
        """Value, seconds and costs of each row: from the checkpoint, or evaluated."""
        open_ = [k for k, key in enumerate(keys) if key not in self.recalled] if self.recalled else []
        if len(open_) == len(keys) or not self.recalled:
            return self._evaluate(rows, keys)
        if open_:
            asked = [keys[k] for k in open_]
            self.recalled.update(zip(asked, self._evaluate(rows[open_], asked), strict=True))
        return [self.recalled[key] for key in keys]

    def _evaluate(self, rows: Genotypes, keys: list[Any]) -> list[_Answer]:
        if self.solver.fidelities is None:
            return _answers(self._evaluation(rows, np.array(keys, dtype=np.int64), None))
        both = np.array(keys, dtype=np.int64)
        return _answers(self._evaluation(rows, both[:, 0], both[:, 1]))

    def _evaluation(
        self, rows: Genotypes, index: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64] | None
    ) -> Evaluation:
        if epochs is None:  # an objective without fidelities need not have the argument
            result = self.objective.evaluate_indexed(rows, index)
        else:
            result = self.objective.evaluate_indexed(rows, index, epochs)
        if result.values.shape != (len(rows),) or not np.isfinite(result.values).all():
            raise ValueError(
                f"The objective '{self.objective.label}' must give one finite value per architecture. "
                f"Got {result.values!r} for {self.space.to_string(rows)}."
            )
        if result.costs or self.objective.cost_names:
            fits = tuple(result.costs) == tuple(self.objective.cost_names)
            if not fits or not all(c.shape == (len(rows),) and np.isfinite(c).all() for c in result.costs.values()):
                raise ValueError(
                    f"The objective '{self.objective.label}' must give one finite number per architecture for each of "
                    f"its costs {list(self.objective.cost_names)}. Got {dict(result.costs)} for "
                    f"{self.space.to_string(rows)}."
                )
        return result

    def result(self, stopped: str) -> Trajectory:
        empty = np.empty((0, self.space.length), np.int8)
        keys: list[Any] = [key for _, some, _ in self.batches for key in some]
        answers = [answer for _, _, some in self.batches for answer in some]
        # Column by column, so that no queries at all give empty columns too.
        columns = np.array(answers, dtype=np.float64).reshape(len(keys), 2 + len(self.objective.cost_names)).T.copy()
        if self.solver.fidelities is None:
            index = np.array(keys, dtype=np.int64)
            epochs = np.full(len(keys), self.objective.full_epochs, dtype=np.int64)
        else:
            index, epochs = np.array(keys, dtype=np.int64).reshape(-1, 2).T.copy()
        return Trajectory(
            space=self.space.name,
            genotypes=np.concatenate([empty, *(rows for rows, _, _ in self.batches)]),
            index=index,
            values=columns[0],
            seconds=columns[1],
            epochs=epochs,
            costs=dict(zip(self.objective.cost_names, columns[2:], strict=True)),
            algorithm=self.solver.name,
            objective=self.objective.label,
            seed=self.seed,
            budget=self.budget or 0,
            seconds_budget=self.limit,
            stopped=stopped,
            repeats=self.repeats,
            notes=self.objective.notes,
            wall_seconds=time.perf_counter() - self.started,
        )


def _answers(result: Evaluation | Trajectory) -> list[_Answer]:
    """Rows of (value, seconds, *costs)."""
    columns = (result.values, result.seconds, *result.costs.values())
    return list(zip(*(column.tolist() for column in columns), strict=True))
