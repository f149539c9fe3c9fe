"""The graph network that pretrained encoders share, and the loop that trains it. Importing this imports torch."""

from __future__ import annotations

__all__ = [
    "CellBatch",
    "CellEncoder",
    "Pretraining",
    "batch_of",
    "edge_logits",
    "mlp",
    "operation_head",
    "pooled",
    "train",
]

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero.spaces import OPERATIONS, CellGraphs

#: Code of a vertex whose operation is hidden; it follows those of `OPERATIONS`.
MASKED = len(OPERATIONS)
_VOCABULARY = 64  # codes that there is an embedding for: operations are appended, weights stay readable
_DRAWN, _IMPROBABLE = 31, -4.0  # operations whose weights are drawn (see `operation_head`), first logit of the others
_BATCH = 256
_RATE = 2e-3


class CellBatch(NamedTuple):
    """A batch of b cells of V vertices.

    ``adjacency`` float[b, V, V] (number of edges u → v), ``ops`` int64[b, V] (0 where no vertex is), ``output``
    int64[b] (the vertex of the cell's output), ``hidden`` float[b, V, V] (1 for pairs, in both orders, whose
    edge is hidden from the network) or None.
    """

    adjacency: Tensor
    ops: Tensor
    output: Tensor
    hidden: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """``bool[b, V]``."""
        return self.ops > 0

    def pairs(self) -> Tensor:
        """Pairs u < v of vertices that are there, ``bool[b, V, V]``: an edge may go from u to v."""
        both = self.present[:, :, None] & self.present[:, None, :]
        return both.triu(1)

    def take(self, rows: Tensor) -> CellBatch:
        """Select cells."""
        hidden = None if self.hidden is None else self.hidden[rows]
        return CellBatch(self.adjacency[rows], self.ops[rows], self.output[rows], hidden)


def batch_of(graphs: CellGraphs, dtype: torch.dtype, device: torch.device) -> CellBatch:
    """Cells as tensors."""
    return CellBatch(
        torch.from_numpy(graphs.adjacency.astype("uint8")).to(device=device, dtype=dtype),
        torch.from_numpy(graphs.ops.astype("int64")).to(device),
        torch.from_numpy(graphs.num_nodes.astype("int64") - 1).to(device),
    )


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A perceptron with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def operation_head(inputs: int) -> nn.Linear:
    """A map to a logit for each operation; those that were appended to the vocabulary start as improbable.

    So what the others are initialised with, and what is drawn after them, does not depend on what is appended.
    """
    drawn = nn.Linear(inputs, _DRAWN)
    head: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, len(OPERATIONS))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(_IMPROBABLE)
        head.weight[:_DRAWN], head.bias[:_DRAWN] = drawn.weight, drawn.bias
    return head


def pooled(h: Tensor, batch: CellBatch) -> Tensor:
    """Mean over the vertices of each cell, ``[b, V, w]`` → ``[b, w]``."""
    weight = batch.present.to(h.dtype).unsqueeze(-1)
    return (h * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)


def edge_logits(h: Tensor, form: Tensor) -> Tensor:
    """Bilinear scores of edges u → v, ``[b, V, w]`` and ``[w, w]`` → ``[b, V, V]``."""
    return (h @ form) @ h.transpose(1, 2) / h.shape[-1] ** 0.5


class CellEncoder(nn.Module):
    """Rounds of graph isomorphism convolution with residuals, along and against the edges.

    ``h_v ← h_v + MLP(LN(h)_v, Σ_{u→v} LN(h)_u, Σ_{v→u} LN(h)_u)`` (Xu et al., ICLR 2019, eq. 4.1, with the two
    directions apart); pairs whose edge is hidden make a third sum. Permuting a cell's vertices permutes the
    states.

    Parameters
    ----------
    width
        Size of vertex states.
    layers
        Rounds.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_VOCABULARY, width)
        self.updates = nn.ModuleList(mlp(3 * width, width, width) for _ in range(layers))
        self.unknown = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))

    def forward(self, batch: CellBatch) -> Tensor:
        """Vertex states ``[b, V, width]``."""
        h = self.embedding(batch.ops)
        against = batch.adjacency
        along = against.transpose(1, 2)
        for update, unknown in zip(self.updates, self.unknown, strict=True):
            x = functional.layer_norm(h, h.shape[-1:])
            change = update(torch.cat([x, along @ x, against @ x], dim=-1))
            if batch.hidden is not None:
                change = change + unknown(batch.hidden @ x)
            h = h + change
        return functional.layer_norm(h, h.shape[-1:])


class Pretraining(nn.Module):
    """A model that is trained without labels, of which `embed` is kept."""

    #: Names of the submodules that only `loss` uses; their weights are not kept.
    heads: tuple[str, ...] = ()

    @abstractmethod
    def loss(self, batch: CellBatch, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of a batch, a scalar; `targets` ``[b, t]`` are what is regressed, if anything."""

    @abstractmethod
    def embed(self, batch: CellBatch) -> Tensor:
        """Embeddings ``[b, dimension]``."""

    def kept(self) -> dict[str, Tensor]:
        """The weights that `embed` needs."""
        return {k: v for k, v in self.state_dict().items() if k.split(".")[0] not in self.heads}


def train(
    make: Callable[[], Pretraining],
    batch: CellBatch,
    targets: Tensor,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Train a model on unlabelled cells with Adam and a cosine schedule; returns the weights to keep, on the CPU.

    torch's global random state is left as it was.
    """
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    model = model.to(device).train()
    count = len(batch.ops)
    steps = max(1, epochs * -(-count // _BATCH))
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=steps + 1, pct_start=0.1)
    for _ in range(epochs):
        shuffled = torch.randperm(count, generator=order).to(device)
        for first in range(0, count, _BATCH):
            rows = shuffled[first : first + _BATCH]
            optimiser.zero_grad(set_to_none=True)
            loss = model.loss(batch.take(rows), targets[rows], generator)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    return {k: v.detach().cpu().contiguous() for k, v in model.kept().items()}
