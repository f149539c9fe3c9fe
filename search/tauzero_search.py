"""The default search: Gaussian processes over graph features, asked about the whole space or a pool that grows."""

from __future__ import annotations

__all__ = ["TauZeroSearch"]

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.search._candidate_features import CandidateFeatures
from tauzero.search._model_based import ModelBased, check_count, check_real, expected_improvement
from tauzero.search._pool_process import PoolProcess
from tauzero.spaces import Genotypes, SearchSpace, Seed, unknown_name
from tauzero.surrogates import TARGETS, load

if TYPE_CHECKING:
    from tauzero.encoders.proxy_scores import Scores

Floats = npt.NDArray[np.float64]

_SIZE = "log_parameters"  # descriptor of spaces that know it
_WHOLE = 50_000  # spaces up to this size are candidates as a whole
_PARENTS = 8  # best architectures whose neighbours and crossings are candidates
_CROSSINGS = 200  # between the best, at each optimisation
_EXPANDED = 5  # candidates of the highest acquisition whose neighbours become candidates, per round
_ROUNDS = 2  # of this local search, per query
_GROWTH = 20  # new candidates per round: the pool's size divided by this, at most


class TauZeroSearch(ModelBased):
    """Bayesian optimisation that predicts every candidate at every query.

    The search starts with `initial` random architectures, of which two in three are the one with the most parameters
    among `large` draws (the published networks' parameters are known in closed form: that costs no query, and where
    a space is searched for accuracy, large networks are rarely the bad ones). Then each query is the candidate of the
    highest expected improvement (Jones, Schonlau and Welch 1998, eq. 15) under Gaussian processes, one per target
    transform, over the graph features, path counts, signal propagation and closed-form sizes of the space, each family
    with a relevance of its own. The noise variance belongs to the improvement: what the features do not explain of
    an architecture is part of the value that is looked for.

    Candidates are all architectures of spaces up to 50,000. In larger ones they are a pool: random architectures,
    neighbours and crossings of the best, and at every query the neighbours of what promises most, so that the
    acquisition is climbed; whenever the kernels are fitted anew the less promising half makes room.

    Two ways of writing one network share their features and so their prediction, but each is a candidate, since tables
    hold a training of its own for each; once two of them are told with exactly equal values they count as one.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    initial
        Random architectures at the start, ≥ 2; they are true queries like all others.
    large
        Draws of which two in three of these are the largest, ≥ 1; 1 makes all of them uniform, as they are in a
        space that does not know its networks' parameters.
    greedy
        Share of the queries that go, in regular turns, to the candidate of the highest posterior mean instead, once
        there are three times as many as `initial`: the best of a table is more often a good architecture with a
        lucky training than a daring one, and expected improvement under normal tails underrates luck. On eight tasks
        (two single runs each of CIFAR-10 and CIFAR-100 of NAS-Bench-201, four of TransNAS-Bench-101) 30 new seeds
        found the best within 64 queries in 65 % of the trials with a half and in 56 % without.
    targets
        Transforms of the values (`tauzero.surrogates.TARGETS`), one process for each; their expected improvements
        are added.
    refit
        The kernels' parameters are optimised when the number of values has grown by this many, ≥ 1, or by a tenth
        if that is more.
    pool
        Candidates, about, where the space is not enumerated, ≥ 100.
    max_rows
        Values, at most, that the processes are conditioned on (≥ 100): the better half and a random sample of
        the others.
    proxies
        Zero-cost scores of the space's architectures as further features: a table as the encoder ``proxy_scores``
        takes it. Scores are taken from untrained networks and are no queries.
    transfer
        A fitted surrogate of this space, or the name of a pretrained one, whose predictions are a further feature.
        It must have been trained on other spaces or data sets than the objective; results are to be reported as
        "with transfer". Two in three of the `initial` architectures are then those that it predicts to be best.
    """

    name = "tauzero"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        initial: int = 10,
        large: int = 10,
        greedy: float = 0.5,
        targets: Sequence[str] = ("mixed",),
        refit: int = 5,
        pool: int = 4_000,
        max_rows: int = 1_500,
        proxies: Scores | None = None,
        transfer: Any = None,
    ) -> None:
        check_count(self, "initial", initial, 2)
        super().__init__(space, seed, initial=initial, per_round=1)
        self.large = check_count(self, "large", large)
        self.greedy = check_real(self, "greedy", greedy, 0.0, 1.0)
        self.refit = check_count(self, "refit", refit)
        self.pool = check_count(self, "pool", pool, 100)
        self.max_rows = check_count(self, "max_rows", max_rows, 100)
        if isinstance(targets, str) or not len(targets):
            raise ValueError(
                f"The 'targets' parameter of TauZeroSearch must be names of transforms, such as ('mixed',). "
                f"Got {targets!r}."
            )
        for target in targets:
            if target not in TARGETS:
                raise unknown_name("target transform", target, TARGETS)
        given = load(transfer) if isinstance(transfer, str) else transfer
        if given is not None and not callable(getattr(given, "predict", None)):
            raise ValueError(
                "The 'transfer' parameter of TauZeroSearch must be a fitted surrogate or the name of a pretrained one. "
                f"Got {transfer!r}."
            )
        self.targets = tuple(targets)
        self._features = CandidateFeatures(self.space, proxies, given)
        self._models = [PoolProcess(self._features.groups, target) for target in self.targets]
        self._whole = self.space.enumerable and self.space.size <= _WHOLE
        self._used = np.empty(0, dtype=np.int64)  # values that the processes know, in their order
        self._learned = 0  # values seen by `_learn`
        self._optimised = 0  # values there were when the kernels were fitted
        # A pool's candidates: networks in canonical form.
        self._candidates = np.empty((0, self.space.length), dtype=np.int8)
        self._listed: set[bytes] = set()
        self._expanded: set[bytes] = set()

    # -- the start ----------------------------------------------------------------------------

    def _random(self, n: int, besides: Genotypes | None = None) -> Genotypes:
        told_apart = self._features.transfer is not None or (self.large > 1 and _SIZE in self.space.descriptor_names)
        if not told_apart or len(self._asked) >= self.initial:
            return super()._random(n, besides)
        parts = [np.empty((0, self.space.length), dtype=np.int8)]
        for k in range(len(self._asked), len(self._asked) + n):
            # Every third is any architecture: a process that has seen no bad ones cannot tell what makes them so.
            taken = np.concatenate(parts)
            parts.append(super()._random(1, taken) if k % 3 == 2 else self._promising(taken))
        return np.concatenate(parts)

    def _promising(self, taken: Genotypes) -> Genotypes:
        """One architecture to start from that was not asked for and is not in `taken`, ``int8[1 or 0, L]``.

        Of the whole space (elsewhere of `pool` draws) the one of the highest transferred prediction; without `transfer`
        the largest of `large` draws.
        """
        if self._features.transfer is None:
            draws = super()._random(self.large, taken)
            column = self.space.descriptor_names.index(_SIZE)
            best = draws[np.argsort(-self.space.descriptors(draws)[:, column], kind="stable")]
        elif self._whole:  # no row comes twice, so that at most these have been taken
            best = self._transferred[: len(self._asked) + len(taken) + 1]
        else:
            best = self._by_transfer(self.space.sample(self.pool, self._rng))
        return self._unseen(best, set(self._keys(taken)))[:1]

    def _by_transfer(self, rows: Genotypes) -> Genotypes:
        """Rows by falling transferred prediction, ``int8[n, L]``."""
        return rows[np.argsort(-self._features.predicted(rows), kind="stable")]

    @cached_property
    def _transferred(self) -> Genotypes:
        """The first of a whole space by transferred prediction, which is made once for all starts, ``int8[m, L]``."""
        return self._by_transfer(self._features.whole().rows)[: 2 * self.initial].copy()

    # -- what a query costs -------------------------------------------------------------------

    def _choose(self, n: int) -> Genotypes:
        self._learn()
        waiting = self._waiting()
        if len(waiting):
            self._believe(waiting)
        chosen: list[Genotypes] = []
        for k in range(n):
            taken = np.concatenate([self._rows, waiting, *chosen])
            row = self._next_of_all(taken) if self._whole else self._next_of_pool(taken)
            if not len(row):
                break
            chosen.append(row)
            if k + 1 < n:
                self._believe(row)
        for model in self._models:
            model.forget()
        return np.concatenate([np.empty((0, self.space.length), dtype=np.int8), *chosen])

    def _waiting(self) -> Genotypes:
        """Rows that were asked for and not told, ``int8[k, L]``."""
        rows = [np.frombuffer(key, dtype=np.int8) for key in self._pending]
        return np.array(rows, dtype=np.int8).reshape(-1, self.space.length)

    def _believe(self, rows: Genotypes) -> None:
        features = self._features(rows)
        for model in self._models:
            model.believe(features)

    def _learn(self) -> None:
        """Take in the values told since the last time; fit the kernels if it is time to."""
        count = len(self._values)
        if count == self._learned:
            return
        if self._optimised and count - self._optimised < max(self.refit, self._optimised // 10):
            fresh = np.arange(self._learned, count)
            features = self._features(self._rows[fresh])
            for model in self._models:
                model.add(features)
            self._used = np.concatenate([self._used, fresh])
        else:
            self._refit()
        self._learned = count

    def _refit(self) -> None:
        count = len(self._values)
        candidates = self._features.whole().features if self._whole else self._features(self._renewed_pool())
        used = np.arange(count)
        if count > self.max_rows:
            order = np.argsort(-self._values, kind="stable")
            half = self.max_rows // 2
            used = np.sort(np.r_[order[:half], self._rng.choice(order[half:], self.max_rows - half, replace=False)])
        features = self._features(self._rows[used])
        for model in self._models:
            model.optimise(features, self._values[used], self._rng)
            model.condition(features, candidates)
        self._used, self._optimised = used, count

    def _acquisition(self, query: int) -> Floats:
        """What each candidate network is worth as the given query (from 0), ``float64[m]``.

        Posterior means if it is a greedy one, else expected improvements, summed over the processes.
        """
        since = query - 3 * self.initial
        greedy = since >= 0 and int((since + 1) * self.greedy) > int(since * self.greedy)
        values = self._values[self._used]
        total: Floats = np.zeros(1)
        for model in self._models:
            mean, std, best = model.predict(values)
            worth = mean if greedy else expected_improvement(mean, np.sqrt(std**2 + model.noise), best)
            total = total + worth
        return total

    # -- candidates: a whole space ------------------------------------------------------------

    def _next_of_all(self, taken: Genotypes) -> Genotypes:
        """The architecture of the highest acquisition that is not among `taken`, ``int8[1 or 0, L]``."""
        whole = self._features.whole()
        gone = self.space.index(taken)
        open_ = np.ones(len(whole.rows), dtype=np.bool_)
        open_[gone] = False
        if self._equal_networks_agree():
            closed = np.zeros(len(whole.features), dtype=np.bool_)
            closed[whole.network[gone]] = True
            different = open_ & ~closed[whole.network]
            open_ = different if different.any() else open_
        if not open_.any():
            return whole.rows[:0]
        score = np.where(open_, self._acquisition(len(taken))[whole.network], -np.inf)
        best = np.flatnonzero(score == score.max())
        return whole.rows[best[self._rng.integers(len(best))]][None]

    def _equal_networks_agree(self) -> bool:
        """Whether equal networks were told, and always with exactly equal values."""
        networks = self._features.whole().network[self.space.index(self._rows)]
        _, label, count = np.unique(networks, return_inverse=True, return_counts=True)
        if count.max() == 1:
            return False
        low, high = np.full(len(count), np.inf), np.full(len(count), -np.inf)
        np.minimum.at(low, label, self._values)
        np.maximum.at(high, label, self._values)
        return bool((low == high).all())

    # -- candidates: a pool -------------------------------------------------------------------

    def _next_of_pool(self, taken: Genotypes) -> Genotypes:
        """The candidate of the highest acquisition that is not among `taken`, ``int8[1 or 0, L]``."""
        gone = {row.tobytes() for row in self.space.canonical(taken)}
        for left in range(_ROUNDS, -1, -1):
            order = np.argsort(-self._acquisition(len(taken)), kind="stable")
            best = [i for i in order[: _EXPANDED + len(gone)].tolist() if self._key(i) not in gone]
            fresh = [i for i in best[:_EXPANDED] if self._key(i) not in self._expanded]
            if not fresh or not left:
                break
            self._expanded.update(map(self._key, fresh))
            self._enlarge(np.concatenate([self.space.neighbors(self._candidates[i]) for i in fresh]))
        return self._candidates[best[:1]]

    def _key(self, position: int) -> bytes:
        return self._candidates[position].tobytes()

    def _enlarge(self, rows: Genotypes) -> None:
        """Add different new networks among `rows` to the candidates, at most a twentieth of the pool."""
        fresh = self._thinned(self._unlisted(rows), max(self.pool // _GROWTH, 20))
        if not len(fresh):
            return
        features = self._features(fresh)
        for model in self._models:
            model.extend(features)
        self._candidates = np.concatenate([self._candidates, fresh])
        self._listed.update(row.tobytes() for row in fresh)

    def _thinned(self, rows: Genotypes, most: int) -> Genotypes:
        if len(rows) <= most:
            return rows
        return rows[np.sort(self._rng.choice(len(rows), most, replace=False))]

    def _unlisted(self, rows: Genotypes) -> Genotypes:
        """Different networks among `rows` that are no candidates yet."""
        if not len(rows):
            return rows
        networks = self.space.distinct(rows)[0]
        return networks[[row.tobytes() not in self._listed for row in networks]]

    def _renewed_pool(self) -> Genotypes:
        """Candidates for new kernels: the more promising ones so far, relatives of the best, and random ones."""
        kept = self._candidates
        if len(kept) > self.pool // 2:
            kept = kept[np.sort(np.argsort(-self._acquisition(0), kind="stable")[: self.pool // 2])]
        parents = self._best(_PARENTS)
        pairs = self._rng.integers(len(parents), size=(2, _CROSSINGS))
        relatives = [
            *(self.space.neighbors(row) for row in parents),
            self.space.crossover(parents[pairs[0]], parents[pairs[1]], self._rng),
        ]
        luck = self.space.sample(self.pool // 4 if len(kept) else self.pool, self._rng)
        self._listed = {row.tobytes() for row in kept}
        self._expanded &= self._listed
        related = self._thinned(self._unlisted(np.concatenate(relatives)), self.pool // 4)
        self._listed.update(row.tobytes() for row in related)
        self._candidates = np.concatenate([kept, related, self._unlisted(luck)])
        self._listed = {row.tobytes() for row in self._candidates}
        return self._candidates

    # -- the answer ---------------------------------------------------------------------------

    def recommend(self) -> Genotypes:
        """Return the told architecture that is best once the noise of its value is taken out, ``int8[L]``.

        The highest posterior mean at the architectures told, on average over the processes: where values are very
        noisy the highest of them is the luckiest one. Before there is a model, the highest value. Where values are
        as exact as those of a table, or even as one training run of NAS-Bench-201, the highest value told
        (`Trajectory.best`) is the better answer: the mean takes what the features do not explain for noise too.

        Raises
        ------
        RuntimeError
            If nothing has been told.
        """
        if not len(self._values):
            raise RuntimeError("TauZeroSearch.recommend was called before any value was told.")
        if len(self._values) < 2:
            return self._best(1)[0]
        self._learn()
        values = self._values[self._used]
        smooth = np.mean([model.smooth(values) for model in self._models], axis=0)
        row: Genotypes = self._rows[self._used[int(smooth.argmax())]]
        return row
