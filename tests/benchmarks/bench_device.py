"""Whether a device survives what happens to devices, and what it costs idle: `make bench-device`.

    python -m tests.benchmarks.bench_device [--only cuts,idle] [--count N] [--seed N] [--markdown]
        [--output bench-device.json]

Nothing here passes or fails. A violation is printed in full, with the seed and the round that
draw the same commands again; when exactly a cut hits is up to the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from tests.benchmarks.rows import Row, aligned, cells, markdown
from tests.benchmarks.run import machine

PARTS = ("cuts", "idle")
_CUTS = 200


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--count", type=int, default=_CUTS, help="power cuts")
    parser.add_argument("--seed", type=int, default=0, help="of the power cuts; 0: a new one")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("bench-device.json"))
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
        part = import_module(f"tests.benchmarks.device.{name}")
        with tempfile.TemporaryDirectory() as folder:
            rows += part.rows(Path(folder), arguments.count, arguments.seed)
        took_s[name] = round(time.monotonic() - begin, 1)
        result = {"machine": machine(), "took_s": took_s, "rows": [asdict(row) for row in rows]}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write((markdown if arguments.markdown else aligned)(cells(rows)))


if __name__ == "__main__":
    main()
