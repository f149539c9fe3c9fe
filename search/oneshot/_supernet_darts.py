"""The supernet of DARTS cells.

Liu, Simonyan and Yang, ICLR 2019 (arXiv 1806.09055), section 3; details after ``cnn/model_search.py`` of the authors'
quark0/darts. Unlike there, all norms use the statistics of the batch unless the option says otherwise.
"""

from __future__ import annotations

__all__ = ["DARTSSupernet", "DARTSSupernetOptions"]

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.networks._darts_operations import AuxiliaryHead, FactorizedReduce, ReLUConvNorm, norm, operation
from tauzero.search.oneshot._gates import Gates, Plan
from tauzero.search.oneshot._operations import BorderPooling, GatedOperation, MixedEdge, Norms, replace_norms
from tauzero.search.oneshot._supernet import Supernet, SupernetOptions, at_least
from tauzero.spaces import Genotypes

_NODES, _STEM = 4, 3
#: Edge from each state to each node, by node and then by state.
_EDGES = tuple((source, node + 2) for node in range(_NODES) for source in range(node + 2))
_FIRST = (0, 2, 5, 9)


@dataclass(frozen=True, slots=True)
class DARTSSupernetOptions(SupernetOptions):
    """Shape of the supernet of DARTS cells; a norm without scale follows pooling, as in the authors' ``MixedOp``."""

    layers: int = at_least(1, 8, "Number of cells.")
    pool_norm: bool = field(default=True, metadata={"help": "A norm follows pooling."})
    none: bool = field(default=True, metadata={"help": "Edges have the candidate 'none'."})
    auxiliary: bool = field(default=False, metadata={"help": "A second classifier is trained (32×32 images)."})


class _Cell(nn.Module):
    """Four nodes that each add all earlier states through mixed edges; the output concatenates them."""

    def __init__(self, before: nn.Module, last: nn.Module, mixed: list[MixedEdge], kind: int) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = before, last
        self.mixed = nn.ModuleList(mixed)
        self.kind = kind

    def forward(self, s0: Tensor, s1: Tensor, plan: Plan, keep: Tensor | None) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        shape = list(states[0].shape)
        if self.kind:
            shape[2:] = [(side + 1) // 2 for side in shape[2:]]
        for node in range(_NODES):
            total: Tensor | None = None
            for source in range(node + 2):
                e = _FIRST[node] + source
                if not plan.present[e]:
                    continue
                scale = None if plan.scales is None else plan.scales[e]
                term = self.mixed[e](states[source], plan.terms[e], scale, None if keep is None else keep[e])
                if term is not None:
                    total = term if total is None else total + term
            # A node that reads nothing is zero.
            states.append(states[0].new_zeros(shape) if total is None else total)
        return torch.cat(states[2:], dim=1)


class DARTSSupernet(Supernet):
    """A stem of 3C channels and a stack of cells with C, 2C, 4C channels to a node; kinds ``normal`` and ``reduce``."""

    spaces = ("darts",)
    Options = DARTSSupernetOptions
    options: DARTSSupernetOptions

    def _make(self, num_classes: int) -> None:
        options, norms = self.options, self.options.norms
        self.kinds = ("normal", "reduce")
        self.operations = (*(("none",) if options.none else ()), *self.space.operations)
        self.none = 0 if options.none else None
        self.edges = _EDGES
        self.nodes = tuple(tuple(range(first, first + node + 2)) for node, first in enumerate(_FIRST))
        self.columns = tuple(
            (kind, self.space.cardinalities[k]) for k, kind in enumerate((0, 0, 1, 1) * (2 * _NODES))
        )  # two inputs, two operations
        self._tap = 2 * options.layers // 3
        self.auxiliary = options.auxiliary
        if options.auxiliary and options.layers < 2:
            raise ValueError("The 'auxiliary' option needs both reductions: layers ≥ 2. Got layers=1.")
        width = options.channels
        before_last = last = _STEM * width
        self.stem = nn.Sequential(nn.Conv2d(3, last, 3, padding=1, bias=False), norm(last, True))
        replace_norms(self.stem, affine=True, running=norms.running)
        self.blocks = nn.ModuleList()
        reduction_before, read_by_auxiliary = False, last
        for layer in range(options.layers):
            reduction = layer in {options.layers // 3, self._tap}
            width *= 2 if reduction else 1
            bring = FactorizedReduce if reduction_before else ReLUConvNorm
            both = bring(before_last, width, True), ReLUConvNorm(last, width, True)
            for module in both:
                replace_norms(module, affine=norms.affine, running=norms.running)
            mixed = [self._edge(width, 2 if reduction and source < 2 else 1, norms) for source, _ in _EDGES]
            self.blocks.append(_Cell(*both, mixed, int(reduction)))
            before_last, last, reduction_before = last, _NODES * width, reduction
            if layer == self._tap:
                read_by_auxiliary = last
        if options.auxiliary:
            self.auxiliary_head = AuxiliaryHead(read_by_auxiliary, num_classes, True)
            replace_norms(self.auxiliary_head, affine=True, running=norms.running)
        self.classifier = nn.Linear(last, num_classes)

    def _edge(self, width: int, stride: int, norms: Norms) -> MixedEdge:
        channels = width // self.options.partial
        found: list[GatedOperation | None] = [None] if self.options.none else []
        for code, name in enumerate(self.space.operations):
            follows = norms.skip if name == "skip_connect" else norms.pool and "pool" in name
            fast = name == "avg_pool_3x3" and stride == 1
            made = BorderPooling() if fast else operation(code, channels, stride, True)
            found.append(GatedOperation(made, channels, norms, norm=follows))
        return MixedEdge(found, partial=self.options.partial, stride=stride)

    def _logits(self, images: Tensor, gates: Gates, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        plans = gates.plans(self.none)
        second: Tensor | None = None
        s0 = s1 = self.stem(images)
        for k, cell in enumerate(block for block in self.blocks if isinstance(block, _Cell)):
            s0, s1 = s1, cell(s0, s1, plans[cell.kind], None if keep is None else keep[k])
            if k == self._tap and self.auxiliary and self.training:
                second = self.auxiliary_head(s1)
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits, second

    def mixed_edges(self, kind: int, edge: int) -> list[MixedEdge]:
        """The modules of one edge in all cells of a kind."""
        cells = [cell for cell in self.blocks if isinstance(cell, _Cell) and cell.kind == kind]
        return [m for m in (cell.mixed[edge] for cell in cells) if isinstance(m, MixedEdge)]

    def _chosen(self, rows: Genotypes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Kinds, edges and operations of each row's eight pairs in both cells, ``int64[n, 2, 8]`` each."""
        cells = rows.astype(np.int64).reshape(-1, 2, _NODES, 4)
        edges = cells[..., :2] + np.array(_FIRST)[:, None]
        kinds = np.broadcast_to(np.arange(2)[:, None, None], edges.shape)
        shape = (len(cells), 2, 2 * _NODES)
        return kinds.reshape(shape), edges.reshape(shape), (cells[..., 2:] + int(self.options.none)).reshape(shape)

    def one_hot(self, row: Genotypes) -> Gates:
        """Gates of the two cells: two edges to a node, with one operation each."""
        active = np.zeros(self.shape, dtype=np.bool_)
        active[self._chosen(row[None])] = True
        return Gates(None, active)

    def genotype(self, strengths: npt.NDArray[np.floating[Any]]) -> Genotypes:
        """For each node the two edges whose best operation other than ``none`` is strongest (section 2.4 of DARTS)."""
        strong = np.asarray(strengths, dtype=np.float64)[:, :, int(self.options.none) :]
        row = np.zeros((2, _NODES, 4), dtype=np.int8)
        for kind, node in np.ndindex(2, _NODES):
            candidates = strong[kind, _FIRST[node] : _FIRST[node] + node + 2]
            inputs = np.sort(np.argsort(-candidates.max(axis=1), kind="stable")[:2])
            row[kind, node, :2], row[kind, node, 2:] = inputs, candidates[inputs].argmax(axis=1)
        return row.ravel()

    def sample(self, n: int, generator: torch.Generator, logits: Tensor | None = None) -> Genotypes:
        """Uniform as `DARTS.sample`; with logits two inputs in proportion to 1 − p(none), operations from the rest."""
        if logits is None:
            return self.space.sample(n, int(torch.randint(2**62, (), generator=generator)))
        probability = logits.detach().cpu().float().softmax(-1)[:, :, int(self.options.none) :]
        rows = np.zeros((n, 2, _NODES, 4), dtype=np.int8)
        for kind, node in np.ndindex(2, _NODES):
            here = probability[kind, _FIRST[node] : _FIRST[node] + node + 2]
            inputs = torch.multinomial(here.sum(-1).expand(n, -1), 2, generator=generator).sort(dim=1).values
            operations = torch.multinomial(here[inputs].reshape(2 * n, -1), 1, generator=generator).reshape(n, 2)
            rows[:, kind, node] = torch.cat([inputs, operations], dim=1).numpy().astype(np.int8)
        return rows.reshape(n, -1)

    def log_probability(self, rows: Genotypes, logits: Tensor) -> npt.NDArray[np.float64]:
        """Sum over the chosen edges, among operations other than ``none``."""
        first = int(self.options.none)
        logs = logits.detach().cpu().double()[:, :, first:].log_softmax(-1).numpy()
        kinds, edges, operations = self._chosen(rows)
        found: npt.NDArray[np.float64] = logs[kinds, edges, operations - first].sum(axis=(1, 2))
        return found

    def excluded(self, rows: Genotypes) -> npt.NDArray[np.bool_]:
        """A node's second input may not be the first one again."""
        found = super().excluded(rows)
        if rows.shape[1] % 4 == 1:
            found[np.arange(len(rows)), rows[:, -1]] = True
        return found
