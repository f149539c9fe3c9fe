"""How long readers of official files take: full-size files are written from real cells, then imported.

    python performance/bench_readers.py --data ../shared/data [--shape only108|full] [--cells N] [--repeats 3]
        [--folder FOLDER] [--out FILE.json]

The genuine `nasbench_only108.tfrecord` and `nasbench_full.tfrecord` are not part of this: a file of the same records is
written by the fixture writer of the tests. Cells, operations, hashes and parameters are NAS-Bench-101's, the order is
that of the hashes, as in the genuine files; each test accuracy at 108 epochs is the published mean plus made-up noise,
all other figures are made up. The file stays in --folder for a second run. Each import is a fresh process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from harness import fresh_process, machine, report

from tauzero.benchmarks._crc32c import crc32c_of_parts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import fixtures_nasbench101_tfrecord as fixture

BUDGETS = {"only108": (108,), "full": (4, 12, 36, 108)}
CHUNK = 5_000  # cells written at a time

IMPORT = """
import json, resource, sys, time
from tauzero import benchmarks
start, processor = time.perf_counter(), time.process_time()
path = benchmarks.import_table("nasbench101", sys.argv[1], sys.argv[2])
out = {"wall, s": time.perf_counter() - start, "processor, s": time.process_time() - processor}
out["store, MB"] = path.stat().st_size / 1e6
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:  # resource.ru_maxrss counts the parent of this process too
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
except OSError:
    peak = peak / 1e3 if sys.platform == "darwin" else peak
out["peak memory, MB"] = peak / 1e3
table = benchmarks.load("nasbench101", path)
out["rows"] = table.info()["rows"]
out["columns"] = len(table.info()["columns"])
print(json.dumps(out))
"""


def fast_checksums(texts: list[bytes]) -> list[int]:
    lengths = np.array([len(t) for t in texts], dtype=np.int64)
    whole = np.frombuffer(b"".join(texts), dtype=np.uint8)
    return crc32c_of_parts(whole, np.cumsum(lengths) - lengths, lengths).tolist()


def written(path: Path, data: Path, cells: int, budgets: tuple[int, ...]) -> Path:
    """A file of the first cells in the order of their hashes."""
    from tauzero.benchmarks._nasbench101_parquet import genotypes_of_codes

    table = pq.read_table(data / "nb101" / "nb101.parquet")
    raw = {name: table[name].to_numpy() for name in table.column_names if name != "module_hash"}
    hashes = [h.hex() for h in table["module_hash"].slice(0, cells).to_pylist()]
    accuracy = raw["test_acc108_mean"].astype(np.float64)
    rows = genotypes_of_codes(*(raw[name][:cells] for name in ("n_vertices", "adj_bits", "ops_base3")))
    space = fixture.spaces.get("nasbench101")
    rng = np.random.default_rng(0)
    path.unlink(missing_ok=True)
    for begin in range(0, cells, CHUNK):
        chosen = slice(begin, min(begin + CHUNK, cells))
        strings = [text.split(":") for text in space.to_string(rows[chosen])]
        n = len(strings)
        values = {}
        for e in budgets:
            share = 1.0 if e == 108 else 0.9 * (e / 108) ** 0.1
            final = share * accuracy[chosen]
            values[e] = [fixture.made_up(n, e, np.clip(final + rng.normal(0, 2e-3, n), 0, 1), rng) for _ in range(3)]
        texts = []
        for i, (adjacency, operations) in enumerate(strings):
            for e in budgets:
                for run in values[e]:
                    metrics = fixture.message(run[i].tolist(), int(raw["params"][begin + i]))
                    texts.append(fixture.record(hashes[begin + i], e, adjacency, operations, metrics))
        fixture.write(path, texts, fast_checksums)
        print(f"\r{begin + n} of {cells} cells written", end="", file=sys.stderr)
    print(file=sys.stderr)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with nb101/")
    parser.add_argument("--shape", choices=sorted(BUDGETS), default="only108")
    parser.add_argument("--cells", type=int, default=423_624)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the file is kept; None for a temporary folder")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        file = folder / f"{options.shape}_{options.cells}.tfrecord"
        figures: dict[str, list[float]] = {}
        if not file.exists():
            start = time.perf_counter()
            part = file.with_suffix(".part")
            written(part, options.data, options.cells, BUDGETS[options.shape]).rename(file)
            figures["writing, s"] = [time.perf_counter() - start]
        label = f"{options.shape}, {options.cells} cells"
        figures[f"{label}: file, MB"] = [file.stat().st_size / 1e6]
        where = machine("pyarrow")
        for _ in range(options.repeats):
            for name, value in fresh_process(IMPORT, file, Path(temporary) / "t.arrow").items():
                figures.setdefault(f"{label}: {name}", []).append(value)
    report(where, figures, options.out)


if __name__ == "__main__":
    main()
