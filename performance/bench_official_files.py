"""How long the import of a whole folder of official pickles takes, and how much memory: NATS-Bench's topology space.

    python performance/bench_official_files.py --originals FOLDER [--count 15625] [--keep FOLDER] [--out FILE.json]

FOLDER holds a few genuine ``NNNNNN.pickle.pbz2`` and ``meta.pickle.pbz2``. The others are made of these: another
architecture's name, every accuracy and loss changed by a little noise, so that they are as large, and as hard to
decompress, as published ones. Also measured: an import that is killed half-way and goes on.
"""

from __future__ import annotations

import argparse
import bz2
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from harness import fresh_process, machine, report

from tauzero.benchmarks import _safe_pickle

IMPORT = """
import json, resource, sys, time
from tauzero import benchmarks
begin, cpu = time.perf_counter(), time.process_time()
path = benchmarks.import_table("nasbench201", sys.argv[1], sys.argv[2])
out = {"import, s": time.perf_counter() - begin, "import, CPU s": time.process_time() - cpu}
with open("/proc/self/status") as status:
    out["import, peak MB"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
table = benchmarks.load("nasbench201", path)
out["table, rows"], out["table, columns"] = len(table.architectures), len(table.info()["columns"])
out["table, MB"] = path.stat().st_size / 1e6
begin = time.perf_counter()
benchmarks.load("nasbench201", path).query_index([0])
out["first query of a table that is not loaded, s"] = time.perf_counter() - begin
print(json.dumps(out))
"""


def changed(value: Any, name: str, noise: np.random.Generator) -> Any:
    """Copy a state with another name and other accuracies and losses; of Python's own classes."""
    if not isinstance(value, dict):
        return value
    made: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
    for key, inner in value.items():
        if key == "arch_str":
            made[key] = name
        elif isinstance(inner, dict) and str(key).endswith(("acc1es", "acc5es", "losses")):
            given = np.array(list(inner.values()))
            other = given * noise.uniform(0.98, 1.0, len(given))
            short = np.round(given, 3) == given  # half of the published numbers have three digits
            made[key] = dict(zip(inner, np.where(short, np.round(other, 3), other).tolist(), strict=True))
        else:
            made[key] = changed(inner, name, noise)
    return made


def write_files(originals: Path, folder: Path, count: int) -> None:
    """Write the files that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = (originals / "meta.pickle.pbz2").read_bytes()
    (folder / "meta.pickle.pbz2").write_bytes(meta)
    names = _safe_pickle.loads(bz2.decompress(meta), "meta")["meta_archs"]
    genuine = [
        _safe_pickle.loads(bz2.decompress(p.read_bytes()), str(p)) for p in sorted(originals.glob("0*.pickle.pbz2"))
    ]
    for number in range(count):
        path = folder / f"{number:06d}.pickle.pbz2"
        if path.exists():
            continue
        state = changed(genuine[number % len(genuine)], names[number], np.random.default_rng(number))
        for schedule in state.values():
            schedule["arch_index"] = number
        partial = path.with_suffix(".part")
        partial.write_bytes(bz2.compress(pickle.dumps(state, 4)))
        partial.rename(path)


def killed_half_way(folder: Path, out: Path, after: float) -> float:
    """Kill an import after some seconds; seconds that the next one takes."""
    command = [sys.executable, "-c", IMPORT, str(folder), str(out)]
    with subprocess.Popen(command) as process:
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
    if (out / "nasbench201.arrow").exists():
        raise RuntimeError("the import was done before it was killed")
    return fresh_process(IMPORT, folder, out)["import, s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--originals", type=Path, required=True, help="folder with genuine files")
    parser.add_argument("--count", type=int, default=15_625, help="number of files")
    parser.add_argument("--keep", type=Path, help="folder for the files that are made; they are not deleted")
    parser.add_argument("--no-kill", action="store_true", help="leave the interrupted import out")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary) / "NATS-tss-made-simple"
        begin = time.perf_counter()
        write_files(arguments.originals, folder, arguments.count)
        sizes = [p.stat().st_size for p in folder.glob("0*.pickle.pbz2")]
        figures = {
            "files": [float(len(sizes))],
            "files, MB": [sum(sizes) / 1e6],
            "genuine files, mean KB": [
                sum(p.stat().st_size / 1e3 for p in arguments.originals.glob("0*.pbz2"))
                / len(list(arguments.originals.glob("0*.pbz2")))
            ],
            "files, mean KB": [sum(sizes) / len(sizes) / 1e3],
            "writing the files, s": [time.perf_counter() - begin],
        }
        os.environ["TAUZERO_DATA"] = temporary
        for label, value in fresh_process(IMPORT, folder, temporary).items():
            figures.setdefault(label, []).append(value)
        if not arguments.no_kill:
            other = Path(temporary) / "killed"
            other.mkdir()
            rest = killed_half_way(folder, other, figures["import, s"][0] / 2)
            figures["import after one that was killed half-way, s"] = [rest]
    report(machine("pyarrow"), figures, arguments.out)


if __name__ == "__main__":
    main()
