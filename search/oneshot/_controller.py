"""ENAS' controller: an LSTM that writes architectures column by column."""

from __future__ import annotations

__all__ = ["Controller"]

import numpy as np
import torch
from torch import Tensor, nn

from tauzero.networks._initialise import without_draws
from tauzero.search.oneshot._supernet import Supernet
from tauzero.spaces import Genotypes

_INITIAL = 0.1


class Controller(nn.Module):
    """Draws each genotype column from a distribution that depends on the columns before it.

    After ``Controller`` of AutoDL-Projects' ``generic_model.py``: logits are c·tanh(l / T). Columns that mean different
    things (inputs and operations of DARTS cells) have embeddings and output layers of their own. It lives on the CPU.

    Parameters
    ----------
    supernet
        Says which columns there are, and which values exclude each other.
    hidden, layers
        Size of the LSTM.
    tanh, temperature
        c and T.
    generator
        Draws the initial weights, uniform in ±0.1.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        hidden: int,
        layers: int,
        tanh: float,
        temperature: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._columns, self._excluded = supernet.columns, supernet.excluded
        self._tanh, self._temperature = tanh, temperature
        widest: dict[int, int] = {}
        for kind, values in self._columns:
            widest[kind] = max(values, widest.get(kind, 0))
        with without_draws():
            self.first = nn.Parameter(torch.empty(hidden))
            self.lstm = nn.LSTM(hidden, hidden, layers)
            self.embeddings = nn.ModuleList(nn.Embedding(widest[kind], hidden) for kind in sorted(widest))
            self.outputs = nn.ModuleList(nn.Linear(hidden, widest[kind]) for kind in sorted(widest))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -_INITIAL, _INITIAL, generator=generator)

    def forward(self, n: int, generator: torch.Generator) -> tuple[Genotypes, Tensor, Tensor]:
        """Draw architectures.

        Returns
        -------
        rows
            ``int8[n, L]``.
        log_probability
            ``[n]``, with a graph unless gradients are off.
        entropy
            Sum of the entropies of the columns' distributions in nats, ``[n]``.
        """
        rows = np.zeros((n, len(self._columns)), dtype=np.int8)
        read = self.first.expand(1, n, -1)
        state: tuple[Tensor, Tensor] | None = None
        logs, entropies = [], []
        for column, (kind, values) in enumerate(self._columns):
            out, state = self.lstm(read, state)
            logits = self._tanh * torch.tanh(self.outputs[kind](out[0])[:, :values] / self._temperature)
            excluded = torch.from_numpy(self._excluded(rows[:, :column]))
            log = logits.masked_fill(excluded, -torch.inf).log_softmax(-1)
            drawn = torch.multinomial(log.detach().exp(), 1, generator=generator)
            logs.append(log.gather(1, drawn)[:, 0])
            finite = log.masked_fill(excluded, 0.0)
            entropies.append(-(finite.exp() * finite).sum(-1))
            rows[:, column] = drawn[:, 0].numpy()
            read = self.embeddings[kind](drawn[:, 0])[None]
        return rows, torch.stack(logs).sum(0), torch.stack(entropies).sum(0)
