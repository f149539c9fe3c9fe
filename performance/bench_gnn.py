"""How long graph networks take to fit and to predict, beside the same network written with sparse PyG layers.

    python performance/bench_gnn.py [--train 469] [--cells 50000] [--repeats 3] [--threads 1] [--out FILE.json]

The baseline is written as PyG's tutorials do: a `Data` object for each cell, `DataLoader` batches, `GINConv` along and
against the edges with `LayerNorm` and residuals, `AdamW`, one network after the other. Members, width, layers, batch
size, epochs and rows per member are those of ours. Each repeat is a fresh process that times both; tables are not
needed: times do not depend on the accuracies, which are made up. Ratios above 1 are times that ours is faster.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness import fresh_process, machine, report

MEASURE = """
import json, sys, time
import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINConv, global_add_pool, global_mean_pool
from tauzero import spaces, surrogates

n, count, members, width, layers, threads = map(int, sys.argv[1:7])
share, figures = float(sys.argv[7]), {}
torch.set_num_threads(threads)
torch.manual_seed(0)
space, large = spaces.get("nasbench201"), spaces.get("nasbench101")
everything, cells = space.enumerate(), large.sample(count, 0, unique=True)
train = space.distinct(space.sample(2 * n, 0, unique=True))[0][:n]
y = 90 + np.log1p(space.graphs(train).adjacency.sum(axis=(1, 2))) + np.random.default_rng(0).normal(0, 0.3, len(train))

def mlp():
    return torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, width))

class Sparse(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(64, width)
        self.ahead = torch.nn.ModuleList(GINConv(mlp(), train_eps=True) for _ in range(layers))
        self.back = torch.nn.ModuleList(GINConv(mlp(), train_eps=True) for _ in range(layers))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(layers))
        self.out = torch.nn.Sequential(
            torch.nn.Linear(2 * width, 2 * width), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(2 * width, 1)
        )

    def forward(self, data):
        h = self.embedding(data.x)
        for ahead, back, norm in zip(self.ahead, self.back, self.norms):
            x = norm(h)
            h = h + ahead(x, data.edge_index) + back(x, data.edge_index.flip(0))
        pooled = torch.cat([global_add_pool(h, data.batch), global_mean_pool(h, data.batch)], dim=1)
        return self.out(pooled).squeeze(-1)

def dataset(the_space, rows, values=None):
    graphs = the_space.graphs(the_space.canonical(rows))
    found = []
    for i in range(len(rows)):
        k = int(graphs.num_nodes[i])
        edges = torch.from_numpy(np.stack(np.nonzero(graphs.adjacency[i, :k, :k])))
        data = Data(x=torch.from_numpy(graphs.ops[i, :k].astype(np.int64)), edge_index=edges)
        if values is not None:
            data.y = torch.tensor([values[i]], dtype=torch.float32)
        found.append(data)
    return found

def predict(networks, the_space, rows):
    # Equal networks are computed once, as ours does.
    loader = DataLoader(dataset(the_space, the_space.distinct(rows)[0]), batch_size=512)
    with torch.no_grad():
        return [network.eval()(batch) for batch in loader for network in networks]

def timed(label, action):
    start = time.perf_counter()
    answer = action()
    figures[label] = time.perf_counter() - start
    return answer

# What a process does once belongs to neither: features of the spaces, kernels of torch.
surrogates.create("gnn", space, members=1, epochs=1, device="cpu").fit(train[:20], y[:20]).predict(train[:20])
surrogates.create("gnn", large, members=1, epochs=1, device="cpu").fit(cells[:20], y[:20]).predict(cells[:20])
steps = []
ours = surrogates.create(
    "gnn", space, members=members, width=width, layers=layers, device="cpu",
    progress=lambda done, total: steps.append(done),
)
timed(f"fit {n} rows, s", lambda: ours.fit(train, y))
timed("predict all of nasbench201, s", lambda: ours.predict(everything))
batch, epochs = ours._schedule(int(share * len(train)))

def fit():
    made = []
    for _ in range(members):
        network = Sparse().train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        seen = dataset(space, train[: int(share * len(train))], y - y.mean())
        loader = DataLoader(seen, batch_size=batch, shuffle=True)
        for _ in range(epochs):
            for part in loader:
                optimiser.zero_grad()
                torch.nn.functional.mse_loss(network(part), part.y).backward()
                optimiser.step()
        made.append(network)
    return made

sparse = timed(f"PyG sparse: fit {n} rows, s", fit)
timed("PyG sparse: predict all of nasbench201, s", lambda: predict(sparse, space, everything))
model = surrogates.create("gnn", large, members=members, width=width, layers=layers, epochs=1, device="cpu")
model.fit(cells[: n], y[: n])
timed(f"predict {count} cells of nasbench101, s", lambda: model.predict(cells))
timed(f"PyG sparse: predict {count} cells of nasbench101, s", lambda: predict(sparse, large, cells))
for label in [k for k in figures if not k.startswith("PyG")]:
    ratio = figures["PyG sparse: " + label] / figures[label]
    figures["times faster than PyG sparse: " + label.removesuffix(", s")] = ratio
print(json.dumps(figures | {"steps of ours": len(steps), "epochs of both": epochs}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=int, default=469)
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it
    where = machine("torch", "torch-geometric")
    shape = (options.members, options.width, options.layers, options.threads)
    figures: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        for label, value in fresh_process(MEASURE, options.train, options.cells, *shape, 0.9).items():
            figures.setdefault(f"gnn, {options.threads} thread(s): {label}", []).append(value)
    report(where, figures, options.out)


if __name__ == "__main__":
    main()
