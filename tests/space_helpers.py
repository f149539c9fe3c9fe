"""What tests of several folders need to know of the spaces."""

from __future__ import annotations

import numpy as np

from tauzero import spaces


def renumbered(rows: spaces.Genotypes, seed: int) -> spaces.Genotypes:
    """DARTS cells with their inner nodes in another order and with swapped inputs, which are the same networks."""
    rng = np.random.default_rng(seed)
    changed = []
    for cell in rows.reshape(-1, 4, 4).tolist():
        order: list[int] = []  # order[k]: the node that comes to place k
        while len(order) < 4:
            ready = [
                node
                for node in range(4)
                if node not in order and all(source - 2 in order for source in cell[node][:2] if source >= 2)
            ]
            order.append(int(rng.choice(ready)))
        place = {0: 0, 1: 1} | {2 + node: 2 + k for k, node in enumerate(order)}
        for node in order:
            a, b, x, y = cell[node]
            changed += [place[a], place[b], x, y] if rng.random() < 0.5 else [place[b], place[a], y, x]
    return np.array(changed, dtype=np.int8).reshape(len(rows), 32)
