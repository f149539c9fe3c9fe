"""The supernet of NAS-Bench-201's cells, of any number of nodes and operations.

Dong and Yang, ICLR 2020 (arXiv 2001.00326), section 4; details after ``GenericNAS201Model`` and ``NAS201SearchCell`` of
the authors' AutoDL-Projects. Unlike there, all norms use the statistics of the batch, those of reductions too: running
statistics are gathered under all cells and fit none.
"""

from __future__ import annotations

__all__ = ["CellSupernet", "CellSupernetOptions"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.networks.nasbench201 import Reduction, norm, operation
from tauzero.search.oneshot._gates import Gates, Plan
from tauzero.search.oneshot._operations import BorderPooling, GatedOperation, MixedEdge, Norms, replace_norms
from tauzero.search.oneshot._supernet import Supernet, SupernetOptions, at_least
from tauzero.spaces import Genotypes
from tauzero.spaces._edge_cells import EdgeCellSpace

_STAGES = 3


@dataclass(frozen=True, slots=True)
class CellSupernetOptions(SupernetOptions):
    """Shape of the supernet of NAS-Bench-201's cells."""

    cells_per_stage: int = at_least(1, 5, "Cells in each of the three stages.")
    stages: int = at_least(1, _STAGES, "Stages; each halves the image and doubles the channels.")


class _Cell(nn.Module):
    """One cell: a node is the sum of the edges that enter it."""

    def __init__(self, edges: tuple[tuple[int, int], ...], mixed: list[MixedEdge]) -> None:
        super().__init__()
        self.mixed = nn.ModuleList(mixed)
        self._edges = edges

    def forward(self, x: Tensor, plan: Plan, used: frozenset[int], keep: Tensor | None) -> Tensor:
        nodes: dict[int, Tensor] = {0: x}
        for e, (source, target) in enumerate(self._edges):
            if target not in used or source not in nodes or not plan.present[e]:
                continue
            scale = None if plan.scales is None else plan.scales[e]
            term = self.mixed[e](nodes[source], plan.terms[e], scale, None if keep is None else keep[e])
            if term is not None:
                nodes[target] = nodes[target] + term if target in nodes else term
        last = self._edges[-1][1]
        # Nothing reaches the output: zero, to which gradients are defined.
        return nodes[last] if last in nodes else x.mul(0.0)


class CellSupernet(Supernet):
    """Stem, stages of cells with C, 2C, 4C channels and reductions between, and a linear classifier.

    Edges whose target reaches the output by no active operation other than ``none`` are not computed.
    """

    spaces = ("nasbench201", "nasbench201x")
    Options = CellSupernetOptions
    options: CellSupernetOptions

    def _make(self, num_classes: int) -> None:
        space, options = self.space, self.options
        if not isinstance(space, EdgeCellSpace):  # pragma: no cover - for the type checker
            raise TypeError(f"{space!r} has no cells with operations on edges.")
        self._home = space
        self.kinds = ("cell",)
        self.operations = space.operations
        self.none = space._none if space._none >= 0 else None
        self.edges = space._edges
        last = space._nodes
        self.nodes = tuple(tuple(e for e, (_, t) in enumerate(self.edges) if t == node) for node in range(1, last))
        self.columns = tuple((0, c) for c in space.cardinalities)
        self._codes = space._shared_names
        width, norms = options.channels, options.norms
        # The stem does not depend on gates.
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), norm(width, True))
        self.blocks = nn.ModuleList()
        for stage in range(options.stages):
            if stage:
                self.blocks.append(Reduction(width, 2 * width, True))
                width *= 2
            for _ in range(options.cells_per_stage):
                mixed = [self._edge(width, norms) for _ in self.edges]
                self.blocks.append(_Cell(self.edges, mixed))
        self.lastact = nn.Sequential(norm(width, True), nn.ReLU())
        for fixed in (self.stem, *(b for b in self.blocks if isinstance(b, Reduction))):
            replace_norms(fixed, affine=True, running=norms.running)
        replace_norms(self.lastact, affine=norms.affine, running=norms.running)
        self.classifier = nn.Linear(width, num_classes)

    def _edge(self, width: int, norms: Norms) -> MixedEdge:
        channels = width // self.options.partial
        found: list[GatedOperation | None] = []
        for name in self._codes:
            if name == "none":
                found.append(None)
                continue
            follows = norms.skip if name == "skip_connect" else norms.pool and "pool" in name
            made = BorderPooling() if name == "avg_pool_3x3" else operation(name, channels, True)
            found.append(GatedOperation(made, channels, norms, norm=follows))
        return MixedEdge(found, partial=self.options.partial)

    def _logits(self, images: Tensor, gates: Gates, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        (plan,) = gates.plans(self.none)
        used = self._used(plan)
        x: Tensor = self.stem(images)
        for k, block in enumerate(self.blocks):
            x = block(x, plan, used, None if keep is None else keep[k]) if isinstance(block, _Cell) else block(x)
        x = self.lastact(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits, None

    def _used(self, plan: Plan) -> frozenset[int]:
        """Nodes that the output depends on."""
        found = {self.edges[-1][1]}
        for e in range(len(self.edges) - 1, -1, -1):
            source, target = self.edges[e]
            # With partial channels even ``none`` passes something on.
            if target in found and (plan.terms[e] or (self.options.partial > 1 and plan.present[e])):
                found.add(source)
        return frozenset(found)

    def mixed_edges(self, kind: int, edge: int) -> list[MixedEdge]:
        """The modules of one edge in all cells."""
        del kind
        cells = [block for block in self.blocks if isinstance(block, _Cell)]
        return [m for m in (cell.mixed[edge] for cell in cells) if isinstance(m, MixedEdge)]

    def one_hot(self, row: Genotypes) -> Gates:
        """Gates of one cell."""
        active = np.zeros(self.shape, dtype=np.bool_)
        active[0, np.arange(len(row)), row] = True
        return Gates(None, active)

    def genotype(self, strengths: npt.NDArray[np.floating[Any]]) -> Genotypes:
        """The strongest operation of each edge, ``none`` among them (``GenericNAS201Model.genotype``)."""
        return strengths[0].argmax(axis=-1).astype(np.int8)

    def sample(self, n: int, generator: torch.Generator, logits: Tensor | None = None) -> Genotypes:
        """Cells drawn edge by edge; those whose output does not depend on the input are drawn again."""
        probability = torch.ones(self.shape[1:]) if logits is None else logits.detach().cpu().float().softmax(-1)[0]
        rows = np.empty((0, len(self.edges)), dtype=np.int8)
        for _ in range(1000):
            drawn = torch.multinomial(probability, max(1, n - len(rows)), replacement=True, generator=generator)
            more = drawn.T.numpy().astype(np.int8)
            rows = np.concatenate([rows, more[self._home.is_connected(more)]])
            if len(rows) >= n:
                return np.ascontiguousarray(rows[:n])
        raise RuntimeError(
            f"No connected cell of {self._home.name} in 1000 draws: the operation 'none' has taken over."
        )

    def log_probability(self, rows: Genotypes, logits: Tensor) -> npt.NDArray[np.float64]:
        """Sum over the edges."""
        logs = logits.detach().cpu().double().log_softmax(-1)[0].numpy()
        found: npt.NDArray[np.float64] = logs[np.arange(len(self.edges)), rows].sum(axis=1)
        return found
