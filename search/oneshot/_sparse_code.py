"""The sparse code of an architecture: what both ISTA-NAS methods decide by.

Yang, Li, You, Wang, Qian and Lin, NeurIPS 2020 (arXiv 2010.06176), sections 3.1 to 3.3; details after the authors'
iboing/ISTA-NAS, ``ista_nas/trainer.py``. Their recovery needs a commercial solver; ours is `sparse_recovery`.
"""

from __future__ import annotations

__all__ = ["Group", "SparseCode", "SparseOptions", "groups_of"]

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._settings import number
from tauzero.search.oneshot._supernet import Supernet, at_least
from tauzero.search.oneshot.sparse_recovery import recover

_Floats = npt.NDArray[np.float64]
#: Operations that stay at a node of DARTS cells, which adds the outputs of two.
_NODE_INPUTS = 2


@dataclass(frozen=True, slots=True)
class SparseOptions:
    """Hyper-parameters of the sparse code."""

    measurements: int = at_least(1, 7, "Length m of the trained, compressed vector b of each choice.")
    penalty: float = number(1e-12, 1.0, 1e-5, "Weight λ of the ℓ₁ norm in the recovery.")
    initial: float = number(0, 10, 1e-3, "Standard deviation of b at the start.")
    matrix: str = field(
        default="uniform", metadata={"choices": ("uniform", "gaussian"), "help": "Distribution of A's entries."}
    )
    solver: str = field(default="fista", metadata={"choices": ("fista", "ista"), "help": "How z is recovered."})
    choose_none: bool = field(default=False, metadata={"help": "The operation 'none' is among the candidates."})


@dataclass(frozen=True, slots=True)
class Group:
    """One choice: the candidates of a node of DARTS cells, or of an edge of others.

    Attributes
    ----------
    places
        ``int64[n, 3]``: kind, edge and operation of each candidate.
    size
        How many of them stay, s.
    """

    places: npt.NDArray[np.int64]
    size: int


def groups_of(supernet: Supernet, *, choose_none: bool) -> list[Group]:
    """Choices of a supernet: by node where an architecture has two inputs to a node, else by edge."""
    operations = [o for o in range(len(supernet.operations)) if choose_none or o != supernet.none]
    by_node = len(supernet.kinds) > 1
    found = []
    for kind in range(len(supernet.kinds)):
        for edges in supernet.nodes if by_node else [(e,) for e in range(len(supernet.edges))]:
            places = np.array([(kind, e, o) for e in edges for o in operations], dtype=np.int64)
            found.append(Group(places, _NODE_INPUTS if by_node else 1))
    return found


class SparseCode:
    """Compressed vectors b, measurement matrices A and the sparse vectors z that are recovered from them.

    The gates of the operations that stay are ``w = bᵀA − zᵀ(AᵀA − I)``, restricted to them. z is a constant there, so
    that gradients reach b through ``bᵀA`` (equation 10 of the paper and its text).

    At a node of DARTS cells the operations that stay are on different edges: the space has two different inputs to a
    node. (The authors' code allows two operations on one edge.)

    Parameters
    ----------
    supernet
        Whose operations are chosen from.
    options
        See `SparseOptions`.
    generator
        Draws A and b; on the CPU.

    Attributes
    ----------
    b : torch.nn.Parameter
        ``[groups, m]`` on the supernet's device.
    matrices : list of numpy.ndarray
        A of each group, ``float64[m, n]``.
    z : list of numpy.ndarray
        Recovered vectors before all but s entries are dropped, ``float64[n]``: where the next recovery starts.
    support : list of numpy.ndarray
        ``int64[s]``: candidates that stay, strongest first.
    """

    def __init__(self, supernet: Supernet, options: SparseOptions, generator: torch.Generator) -> None:
        self.options = options
        self.shape = supernet.shape
        self.groups = groups_of(supernet, choose_none=options.choose_none)
        like = next(supernet.parameters())
        self._like = like.device, like.dtype
        m = options.measurements
        self.matrices: list[_Floats] = []
        for group in self.groups:
            shape = (m, len(group.places))
            drawn = (
                torch.rand(shape, generator=generator, dtype=torch.float64)
                if options.matrix == "uniform"
                else torch.randn(shape, generator=generator, dtype=torch.float64) / m**0.5
            )
            self.matrices.append(drawn.numpy())
        b = options.initial * torch.randn((len(self.groups), m), generator=generator, dtype=torch.float64)
        self.b = nn.Parameter(b.to(device=like.device, dtype=like.dtype))
        self.z: list[_Floats] = [np.zeros(len(group.places)) for group in self.groups]
        self.support: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in self.groups]
        self.recover(range(len(self.groups)))

    def recover(self, which: Sequence[int]) -> _Floats:
        """Recover z of some groups from their b and choose anew what stays.

        Returns
        -------
        numpy.ndarray
            How far each z moved, its dropped entries counted as zero, ``float64[len(which)]``.
        """
        b = self.b.detach().cpu().double().numpy()
        moved = np.zeros(len(which))
        lengths = np.array([len(self.groups[g].places) for g in which], dtype=np.int64)
        for n in np.unique(lengths):  # those of one length at once
            places = np.flatnonzero(lengths == n).tolist()
            chosen = [which[p] for p in places]
            found = recover(
                np.stack([self.matrices[g] for g in chosen]),
                b[chosen],
                self.options.penalty,
                method=self.options.solver,
                start=np.stack([self.z[g] for g in chosen]),
                tolerance=1e-8,
                max_iterations=20_000,
            )
            for place, g, x in zip(places, chosen, found.x, strict=True):
                before = self._kept(g)
                self.z[g], self.support[g] = x, _strongest(x, self.groups[g])
                moved[place] = np.linalg.norm(self._kept(g) - before)
        return moved

    def _kept(self, group: int) -> _Floats:
        """Z with all but the entries of the support set to zero."""
        kept = np.zeros_like(self.z[group])
        kept[self.support[group]] = self.z[group][self.support[group]]
        return kept

    def active(self) -> npt.NDArray[np.bool_]:
        """Operations that stay, ``bool[kinds, edges, ops]``."""
        found = np.zeros(self.shape, dtype=np.bool_)
        for group, support in zip(self.groups, self.support, strict=True):
            found[tuple(group.places[support].T)] = True
        return found

    def strengths(self) -> _Floats:
        """|z| of the operations that stay, ``float64[kinds, edges, ops]``; less than 0 elsewhere."""
        found = np.full(self.shape, -1.0)
        for g, (group, support) in enumerate(zip(self.groups, self.support, strict=True)):
            found[tuple(group.places[support].T)] = np.abs(self.z[g][support])
        return found

    def gate_values(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Tensor]:
        """Gates of what stays: their groups ``int64[k]``, their places ``int64[k, 3]`` and values ``[k]``."""
        columns, constants, owners, places = [], [], [], []
        for g, (group, support) in enumerate(zip(self.groups, self.support, strict=True)):
            restricted = self.matrices[g][:, support]  # m × s
            kept = self.z[g][support]
            columns.append(restricted.T)
            constants.append(kept - restricted.T @ (restricted @ kept))
            owners.append(np.full(len(support), g))
            places.append(group.places[support])
        device, dtype = self._like
        rows = torch.from_numpy(np.concatenate(columns)).to(device=device, dtype=dtype)
        constant = torch.from_numpy(np.concatenate(constants)).to(device=device, dtype=dtype)
        owner = np.concatenate(owners)
        values = (rows * self.b[torch.from_numpy(owner).to(device)]).sum(dim=1) + constant
        return owner, np.concatenate(places), values

    def gates(self, fixed: Tensor | None = None) -> Gates:
        """Gates of the supernet; `fixed` ``[kinds, edges, ops]`` takes their place where it is not NaN."""
        _, places, values = self.gate_values()
        where = tuple(torch.from_numpy(np.ascontiguousarray(column)).to(values.device) for column in places.T)
        weights = torch.zeros(self.shape, device=values.device, dtype=values.dtype).index_put(where, values)
        if fixed is not None:
            weights = torch.where(fixed.isnan(), weights, fixed.nan_to_num())
        return Gates(weights, self.active())

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """b, A, all z and all supports."""
        return {
            "b": self.b.detach(),
            "z": torch.from_numpy(np.concatenate(self.z)),
            "support": torch.from_numpy(np.concatenate(self.support)),
            "matrices": torch.from_numpy(np.concatenate([a.ravel() for a in self.matrices])),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take a state back."""
        with torch.no_grad():
            self.b.copy_(state["b"])
        z, support, flat = (state[name].cpu().numpy() for name in ("z", "support", "matrices"))
        at = from_ = begin = 0
        for g, group in enumerate(self.groups):
            n, shape = len(group.places), self.matrices[g].shape
            self.z[g] = z[at : at + n].astype(np.float64)
            self.support[g] = support[from_ : from_ + group.size].astype(np.int64)
            self.matrices[g] = flat[begin : begin + shape[0] * n].astype(np.float64).reshape(shape)
            at, from_, begin = at + n, from_ + group.size, begin + shape[0] * n


def _strongest(x: _Floats, group: Group) -> npt.NDArray[np.int64]:
    """Candidates that stay: largest |x| first, no two on one edge; the first of equal ones."""
    found: list[int] = []
    taken: set[int] = set()
    for candidate in np.argsort(-np.abs(x), kind="stable").tolist():
        edge = int(group.places[candidate, 1])
        if edge not in taken:
            found.append(candidate)
            taken.add(edge)
        if len(found) == group.size:
            break
    return np.array(found, dtype=np.int64)
