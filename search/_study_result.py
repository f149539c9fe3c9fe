"""What a study found, read from its folder."""

from __future__ import annotations

__all__ = ["StudyResult"]

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tauzero.search._study_folder import read_facts, read_frames, read_group
from tauzero.search.trajectory import Trajectory
from tauzero.spaces import unknown_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a study found, as frames that its folder holds as Parquet files.

    Attributes
    ----------
    folder
        Where it was read from.
    facts
        Content of ``study.json``: settings, plan (trials of each objective and algorithm), parameters, what was left
        out and why, notes, versions, machine, commands; ``finished`` says whether all planned trials are there.
    trials
        One row per objective, algorithm and trial: ``queries`` (evaluations of the algorithm, predictions included),
        ``true_queries``, ``repeats``, ``simulated_s`` (seconds of all true queries), ``wall_s``, ``stopped``, the
        choice (``index``, ``arch``, ``value`` of the signal, ``validation_accuracy``, ``test_accuracy``), ``regret``
        and ``test_regret`` (percentage points below the table's best).
    curves
        Regret of the choice against true queries and simulated seconds (``axis``): mean, std, quantiles over
        trials, and the mean test accuracy of the choice.
    tests
        Algorithms of one objective in pairs: difference of final regrets (a minus b), Wilcoxon's signed rank test
        over trials, adjusted by Holm over all rows, and how often a had the lower regret.
    gains
        Regret of look-up minus that of search on predictions or scores, by algorithm: positive where these are better.
    """

    folder: Path
    facts: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    tests: pd.DataFrame
    gains: pd.DataFrame

    @property
    def optimum(self) -> float:
        """Best value of the table in what regrets are taken in."""
        return float(self.facts["optimum"])

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a folder that `study` wrote.

        Raises
        ------
        FileNotFoundError
            If it is no folder of a study.
        BenchmarkFormatError
            If the study was not finished, or a file is damaged.
        """
        path = Path(folder)
        facts = read_facts(path)
        frames, plan = read_frames(path)
        there = {(entry["objective"], entry["algorithm"]): entry["trials"] for entry in plan}
        finished = all(there.get((e["objective"], e["algorithm"]), 0) >= e["trials"] for e in facts["plan"])
        return cls(path, {**facts, "finished": finished}, **frames)

    def trajectory(self, objective: str, algorithm: str, trial: int) -> Trajectory:
        """The true queries of one trial, in order."""
        group = read_group(sorted((self.folder / "trials" / f"{objective}-{algorithm}").glob("trials-*.parquet")))
        known = [fact["trial"] for fact in group.facts]
        if trial not in known:
            raise unknown_name(f"trial of {algorithm!r} with the objective {objective!r}", trial, map(str, known))
        place = known.index(trial)
        part = slice(group.bounds[place], group.bounds[place + 1])
        fact, settings = group.facts[place], self.facts["settings"]
        return Trajectory(
            self.facts["space"], group.genotypes[part], group.index[part], group.value[part], group.seconds[part],
            algorithm=algorithm, objective=objective, seed=trial, budget=settings["budget"] or 0,
            seconds_budget=settings["seconds"], stopped=fact["stopped"], repeats=fact["repeats"],
            wall_seconds=fact["wall"], epochs=group.epochs[part],
        )  # fmt: skip

    def summary(self) -> pd.DataFrame:
        """One row per objective and algorithm: mean, std and quantiles of the final figures over trials."""
        import pandas as pd

        rows = []
        for (objective, algorithm), some in self.trials.groupby(["objective", "algorithm"], sort=False):
            regret, test = some["regret"].to_numpy(), some["test_accuracy"].to_numpy()
            rows.append(
                {
                    "objective": objective,
                    "algorithm": algorithm,
                    "trials": len(some),
                    "regret_mean": regret.mean(),
                    "regret_std": regret.std(ddof=1) if len(regret) > 1 else 0.0,
                    **{f"regret_q{q:02d}": np.quantile(regret, q / 100) for q in (10, 25)},
                    "regret_median": np.median(regret),
                    **{f"regret_q{q:02d}": np.quantile(regret, q / 100) for q in (75, 90)},
                    "found_optimum": int((regret <= 1e-9).sum()),
                    "validation_mean": some["validation_accuracy"].to_numpy().mean(),
                    "test_mean": test.mean(),
                    "test_std": test.std(ddof=1) if len(test) > 1 else 0.0,
                    "true_queries": some["true_queries"].mean(),
                    "queries": some["queries"].mean(),
                    "simulated_s": some["simulated_s"].mean(),
                    "wall_s": some["wall_s"].mean(),
                }
            )
        return pd.DataFrame(rows)

    def winners(self) -> dict[str, dict[str, Any]]:
        """For each objective the algorithm of the lowest mean regret, the next one, and the test between them."""
        found = {}
        for objective, some in self.summary().groupby("objective", sort=False):
            ranked = some.sort_values("regret_mean", kind="stable")["algorithm"].tolist()
            second = ranked[1] if len(ranked) > 1 else None
            rows = self.tests[
                (self.tests["objective"] == objective)
                & self.tests["algorithm_a"].isin(ranked[:2])
                & self.tests["algorithm_b"].isin(ranked[:2])
            ]
            p = float(rows["p_adjusted"].iloc[0]) if second is not None and len(rows) else None
            found[str(objective)] = {"algorithm": ranked[0], "runner_up": second, "p_adjusted": p}
        return found
