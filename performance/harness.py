"""What all benchmark scripts share: where figures were taken, fresh processes, one form of output."""

from __future__ import annotations

__all__ = ["fresh_process", "machine", "report"]

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tauzero import __version__
from tauzero.benchmarks import atomic_path


def machine(*packages: str) -> dict[str, Any]:
    """Versions, commit, processor and the load of other processes (above the number of cores, times are too long)."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "python": platform.python_version(),
        **{p: version(p) for p in ("numpy", *packages)},
        "tauzero": __version__,
        "commit": commit or "unknown",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def fresh_process(program: str, *arguments: object) -> dict[str, float]:
    """Run a program in a new interpreter; its last line of output is a JSON object of figures."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(where: dict[str, Any], figures: dict[str, list[float]], out: Path | None) -> None:
    """Print every figure as mean ± standard deviation, and keep all repeats in a JSON file."""
    print(", ".join(f"{k} {v}" for k, v in where.items()))
    for label, values in figures.items():
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{label:<74}{fmean(values):>10.3f}{spread}")
    if out:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n", encoding="utf-8")
