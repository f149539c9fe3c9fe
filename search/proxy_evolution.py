"""Evolution helped by zero-cost proxies (Abdelfattah et al., "Zero-cost proxies for lightweight NAS", ICLR 2021)."""

from __future__ import annotations

__all__ = ["ProxyEvolution", "ProxyScore"]

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tauzero.search.regularized_evolution import RegularizedEvolution
from tauzero.spaces import Genotypes, SearchSpace, Seed, get

_Floats = npt.NDArray[np.float64]
_DEFAULT = ("synflow", "nwot")


class ProxyScore:
    """Scores of `tauzero.proxies` as one number for each architecture, ranked among those of one call.

    What was scored is remembered, by copies too: give one instance to all searches of a study.

    Parameters
    ----------
    space
        A search space that has networks, or its name.
    names
        Proxies or aggregates of `tauzero.proxies`; the mean of their ranks is the score.
    **options
        Of `tauzero.proxies.score`: ``batch``, ``device``, ``seed``, ``dataset``, …
    """

    def __init__(self, space: SearchSpace | str, names: str | Sequence[str] = _DEFAULT, **options: Any) -> None:
        self.space = get(space)
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.options = options
        self._known: dict[bytes, tuple[float, ...]] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __call__(self, genotypes: Genotypes) -> _Floats:
        """Mean of r/n over the proxies, r being the rank from 1 for the worst of n, ``float64[n]``."""
        from tauzero import proxies

        parts = [
            p
            for name in self.names
            for p in (proxies.AGGREGATES[name].parts if name in proxies.AGGREGATES else (name,))
        ]
        parts = list(dict.fromkeys(parts))
        keys = [row.tobytes() for row in genotypes]
        fresh = [k for k, key in enumerate(keys) if key not in self._known]
        if fresh:
            frame = proxies.score(self.space, genotypes[fresh], parts, **self.options)
            found = frame[parts].to_numpy(dtype=np.float64)
            self._known.update((keys[k], tuple(values)) for k, values in zip(fresh, found.tolist(), strict=True))
        values = np.array([self._known[key] for key in keys]).reshape(len(keys), len(parts))
        higher = {name: proxies.get(name).higher_is_better for name in parts}
        columns = {name: values[:, k] for k, name in enumerate(parts)}
        return proxies.combine(columns, "rank", higher)


class _ArrayScore:
    """Scores of all architectures of a space that were computed beforehand."""

    def __init__(self, space: SearchSpace, values: npt.ArrayLike) -> None:
        self.space = space
        self.values = np.array(values, dtype=np.float64)
        if not space.enumerable or self.values.shape != (space.size,):
            wanted = f"an array of shape ({space.size},) or " if space.enumerable else ""
            raise ValueError(
                f"The 'score' parameter of ProxyEvolution must be {wanted}a function of genotypes on {space.name}, or "
                f"names of proxies. Got an array of shape {self.values.shape}."
            )

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __call__(self, genotypes: Genotypes) -> _Floats:
        return np.asarray(self.values[self.space.index(genotypes)], dtype=np.float64)


class ProxyEvolution(RegularizedEvolution):
    """Regularised evolution whose first population and whose mutations are chosen by a score that costs no query.

    Section 5 of the paper, with the settings of its published notebook (``nas_examples.ipynb``):

    Warm-up
        The first population is the best of `warm_up` random architectures by the score.
    Move proposal
        A child is the best of `mutants` mutants of its parent by the score, or, with probability `random_share`,
        a random one.

    Otherwise it is `RegularizedEvolution`: the parent is the best of a sample, the oldest dies.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    score
        A function of ``int8[n, L]`` that returns ``float64[n]``, higher is better, NaN the worst, only compared within
        one call; or an array with a number for each architecture in the order of the space; or proxies of
        `tauzero.proxies` by name (`ProxyScore`). The paper's is ``"synflow"``, for which the first `ask` runs
        `warm_up` networks: minutes on a CPU. The default is ``"params"``, the number of parameters in closed form,
        which takes a second and does about as well on NAS-Bench-201. A function has to pickle if the search is to.
    population_size, sample_size
        As in regularised evolution; 64 and 10.
    warm_up
        Architectures scored at the start, at least `population_size`, or 0 for a random first population.
    mutants
        Different mutants that are scored for a child, ≥ 1; all neighbours of the parent if None. 1 is plain mutation.
    random_share
        In [0, 1]. Without it a parent would have the same child again and again if all neighbours are scored.
    """

    name = "proxy_evolution"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        score: Callable[[Genotypes], npt.ArrayLike] | npt.ArrayLike | str | Sequence[str] = "params",
        population_size: int = 64,
        sample_size: int = 10,
        warm_up: int = 3000,
        mutants: int | None = None,
        random_share: float = 0.25,
    ) -> None:
        super().__init__(space, seed, population_size=population_size, sample_size=sample_size)
        who = "parameter of ProxyEvolution must be"
        whole = isinstance(warm_up, int | np.integer) and not isinstance(warm_up, bool)
        if not whole or 0 != warm_up < self.population_size:
            raise ValueError(
                f"The 'warm_up' {who} 0 or an integer ≥ population_size = {self.population_size}. Got {warm_up!r}."
            )
        if mutants is not None and (
            isinstance(mutants, bool) or not isinstance(mutants, int | np.integer) or mutants < 1
        ):
            raise ValueError(f"The 'mutants' {who} an integer ≥ 1 or None. Got {mutants!r}.")
        if not 0 <= random_share <= 1:
            raise ValueError(f"The 'random_share' {who} in [0, 1]. Got {random_share!r}.")
        self.warm_up, self.random_share = int(warm_up), float(random_share)
        self.mutants = None if mutants is None else int(mutants)
        self.score = self._read_score(score)
        self._ranked: Genotypes | None = None
        self._served = 0
        self._favorite: dict[bytes, Genotypes] = {}

    def _read_score(self, score: Any) -> Callable[[Genotypes], npt.ArrayLike]:
        if callable(score):
            return score
        names = [score] if isinstance(score, str) else list(score)
        if names and all(isinstance(name, str) for name in names):
            return ProxyScore(self.space, names)
        return _ArrayScore(self.space, score)

    def _scores(self, rows: Genotypes) -> _Floats:
        """Checked scores; NaN becomes the worst."""
        values = np.asarray(self.score(rows), dtype=np.float64)
        if values.shape != (len(rows),):
            raise ValueError(
                f"The 'score' function of ProxyEvolution must return {len(rows)} numbers for {len(rows)} rows. "
                f"Got an array of shape {values.shape}."
            )
        return np.where(np.isnan(values), -np.inf, values)

    def _propose(self, n: int) -> Genotypes:
        alive = min(self._told, self.population_size)
        first = n if not alive else min(n, max(0, self.population_size - self._asked))
        self._asked += n
        rows = list(self._first(first)) if first else []
        for _ in range(n - first):
            entrants = self._rng.integers(alive, size=self.sample_size)
            rows.append(self._child(int(entrants[self._values[entrants].argmax()])))
        return np.array(rows, dtype=np.int8).reshape(-1, self.space.length)

    def _first(self, count: int) -> Genotypes:
        """The next best of the warm-up, random architectures after its end."""
        if self._ranked is None:
            rows = self.space.sample(self.warm_up, self._rng)
            rows = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
            order = np.argsort(-self._scores(rows), kind="stable") if len(rows) else np.arange(0)
            self._ranked = rows[order]
        best = self._ranked[self._served : self._served + count]
        self._served += len(best)
        return np.concatenate([best, self.space.sample(count - len(best), self._rng)])

    def _child(self, slot: int) -> Genotypes:
        around = self._neighborhood(slot)
        if self._rng.random() < self.random_share:
            chosen: Genotypes = around[int(self._rng.integers(len(around)))]
            return chosen
        if self.mutants is not None:
            some = around[self._rng.permutation(len(around))[: self.mutants]]
            return some[int(self._scores(some).argmax())]
        key = self._members[slot].tobytes()
        if key not in self._favorite:
            self._favorite[key] = around[int(self._scores(around).argmax())]
        return self._favorite[key]
