"""Whether quantd's numbers can be trusted, measured: `make bench-measure`.

    python -m tests.benchmarks.bench_measure [--only NAME,...] [--markdown]
        [--output bench-measure.json]

Nothing here passes or fails. What this machine can't measure is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from tests.benchmarks.rows import Row, aligned, cells, markdown
from tests.benchmarks.run import machine

PARTS = ("power", "harness", "intervals", "prediction", "search")


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("bench-measure.json"))
    arguments = parser.parse_args()
    wanted = [name for name in arguments.only.split(",") if name] or PARTS
    unknown = set(wanted) - set(PARTS)
    if unknown:
        parser.error(f"no part called {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    took_s: dict[str, float] = {}
    for name in wanted:
        sys.stderr.write(f"{name} ...\n")
        begin = time.monotonic()
        rows += import_module(f"tests.benchmarks.measuring.{name}").rows()
        took_s[name] = round(time.monotonic() - begin, 1)
        result = {"machine": machine(), "took_s": took_s, "rows": [asdict(row) for row in rows]}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write((markdown if arguments.markdown else aligned)(cells(rows)))


if __name__ == "__main__":
    main()
