"""Every benchmark, one after another, into one JSON file: what `make bench` runs.

    python -m tests.benchmarks.run [--output bench.json] [NAME ...]

Each runs in a process of its own and prints one JSON object; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime

_BENCHMARKS = ("calibration", "harness", "daemon", "stages")


def main() -> None:
    """Run the named benchmarks (all of them unless told) and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_BENCHMARKS))
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(_BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}")
    result: dict[str, object] = {"machine": machine()}
    for name in arguments.names or _BENCHMARKS:
        sys.stderr.write(f"{name} ...\n")
        begin = time.monotonic()
        argv = [sys.executable, "-m", f"tests.benchmarks.bench_{name}"]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout)
        result[name] = {**found, "took_s": round(time.monotonic() - begin, 1)}
    text = json.dumps(result, indent=2) + "\n"
    arguments.output.write_text(text)
    sys.stdout.write(text)


def machine() -> dict[str, object]:
    """Say where the figures were taken."""
    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "load_1min": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    main()
