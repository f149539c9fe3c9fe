"""The package SMAC3 as a search algorithm (Lindauer et al., JMLR 23, 2022); importing this file needs it."""

from __future__ import annotations

__all__ = ["SMAC3"]

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search._model_based import check_count, check_real
from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, MissingExtraError, SearchSpace, Seed

try:
    import ConfigSpace
    import smac
    from smac.runhistory import TrialInfo, TrialValue
except ImportError as error:
    raise MissingExtraError(
        'tauzero.search.smac3 needs the package SMAC3, which is not installed: `pip install "tauzero[smac]"`. '
        'The algorithm "smac" (tauzero.search.create) is our own implementation and needs nothing.'
    ) from error

_TRIES = 20  # proposals that are no members of the space, before a random member takes their place
_MANY = 1_000_000  # trials that the package plans for; whoever drives the search decides


class SMAC3(Algorithm):
    """`smac.HyperparameterOptimizationFacade` by ask and tell, one categorical parameter for each genotype column.

    It is not in the registry, as it exists only where the package is installed: give an instance to
    `tauzero.search.run`. The package minimises a cost, here the negative value. A proposal that is no member of the
    space (NAS-Bench-101, DARTS) is told the worst cost so far and replaced, after 20 such by a random member; in a
    space where few rows are members that is slow, and the algorithm ``"smac"`` is the better choice. Instances do not
    pickle reliably, since the package does not promise it.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    initial
        Points of the Sobol design at the start, ≥ 1.
    random_share
        Probability that a query is a random architecture (0.2 in the package).
    challengers, local_searches
        Of the maximisation of the acquisition (10,000 and 10 in the package).
    retrain_after
        Queries chosen by one forest; 8 in the package. With 1, as in the paper, a query costs several times as much.
    """

    name = "smac3"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        initial: int = 10,
        random_share: float = 0.2,
        challengers: int = 10_000,
        local_searches: int = 10,
        retrain_after: int = 8,
    ) -> None:
        super().__init__(space, seed)
        self.initial = check_count(self, "initial", initial)
        self.random_share = check_real(self, "random_share", random_share, 0, 1)
        self.challengers = check_count(self, "challengers", challengers)
        self.local_searches = check_count(self, "local_searches", local_searches)
        self.retrain_after = check_count(self, "retrain_after", retrain_after)
        self._columns = [f"gene_{k}" for k in range(self.space.length)]
        self._asked: dict[bytes, list[Any]] = {}  # by row: the package's trials that wait
        self._worst = 0.0  # cost told so far; what comes before the first value is a tie
        number = int(self._rng.integers(2**31))
        self._configurations = ConfigSpace.ConfigurationSpace(seed=number)
        self._configurations.add(
            [
                ConfigSpace.CategoricalHyperparameter(name, range(choices))
                for name, choices in zip(self._columns, self.space.cardinalities, strict=True)
            ]
        )
        self._package = self._facade(number)

    def _facade(self, number: int) -> Any:
        facade = smac.HyperparameterOptimizationFacade
        # The package writes its settings to a folder when it starts, and nothing afterwards unless it is told to.
        with TemporaryDirectory() as folder:
            scenario = smac.Scenario(
                self._configurations, deterministic=True, n_trials=_MANY, seed=number, output_directory=folder
            )
            return facade(
                scenario,
                _never_called,
                initial_design=facade.get_initial_design(scenario, n_configs=self.initial),
                random_design=facade.get_random_design(scenario, probability=self.random_share),
                acquisition_maximizer=facade.get_acquisition_maximizer(
                    scenario, challengers=self.challengers, local_search_iterations=self.local_searches
                ),
                config_selector=facade.get_config_selector(scenario, retrain_after=self.retrain_after),
                overwrite=True,
                logging_level=False,  # logging is the application's
            )

    def _propose(self, n: int) -> Genotypes:
        return np.array([self._next() for _ in range(n)], dtype=np.int8).reshape(-1, self.space.length)

    def _next(self) -> Genotypes:
        for _ in range(_TRIES):
            trial = self._package.ask()
            row = np.array([[int(trial.config[name]) for name in self._columns]], dtype=np.int8)
            if self.space.is_valid(row)[0]:
                break
            self._tell_package(trial, self._worst)
        else:
            row = self.space.sample(1, self._rng)
            values = {name: int(gene) for name, gene in zip(self._columns, row[0], strict=True)}
            # Deterministic objectives have the one seed 0 in the package.
            trial = TrialInfo(ConfigSpace.Configuration(self._configurations, values=values), seed=0)
        self._asked.setdefault(row.tobytes(), []).append(trial)
        return np.asarray(row[0])

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        for row, value in zip(genotypes, values.tolist(), strict=True):
            key = row.tobytes()
            self._worst = max(self._worst, -value) if len(self._package.runhistory) else -value
            self._tell_package(self._asked[key].pop(0), -value)
            if not self._asked[key]:
                del self._asked[key]

    def _tell_package(self, trial: Any, cost: float) -> None:
        self._package.tell(trial, TrialValue(cost=cost, time=0.0), save=False)


def _never_called(config: Any, seed: int = 0) -> float:
    raise NotImplementedError("SMAC3 is driven by ask and tell: nothing evaluates configurations here.")
