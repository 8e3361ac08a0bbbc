"""Whether the link to the broker keeps its promises, measured: `make bench-link`.

    python -m tests.benchmarks.bench_link [--only NAME,...] [--messages N] [--cases N] [--seed N]
        [--markdown] [--output bench-link.json]

Nothing here passes or fails. A quiet machine with mosquitto is assumed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.link import faults, floods, fuzz, idle, throughput
from tests.benchmarks.rows import Row, aligned, cells, markdown
from tests.benchmarks.run import machine


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="some of faults, floods, throughput, idle, fuzz")
    parser.add_argument("--messages", type=int, default=100_000, help="of the run with faults")
    parser.add_argument("--cases", type=int, default=10_000, help="hostile inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("bench-link.json"))
    options = parser.parse_args()
    parts: dict[str, Callable[[], list[Row]]] = {
        "faults": lambda: faults.rows(options.messages, options.seed),
        "floods": floods.rows,
        "throughput": throughput.rows,
        "idle": idle.rows,
        "fuzz": lambda: fuzz.rows(options.cases, options.seed),
    }
    wanted = [name for name in options.only.split(",") if name] or [*parts]
    unknown = set(wanted) - set(parts)
    if unknown:
        parser.error(f"no part called {', '.join(sorted(unknown))}")
    logging.disable(logging.CRITICAL)  # a line for each hostile command
    rows: list[Row] = []
    took_s: dict[str, float] = {}
    for name in wanted:
        sys.stderr.write(f"{name} ...\n")
        begin = time.monotonic()
        rows += parts[name]()
        took_s[name] = round(time.monotonic() - begin, 1)
        result = {"machine": machine(), "took_s": took_s, "rows": [asdict(row) for row in rows]}
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write((markdown if options.markdown else aligned)(cells(rows)))


if __name__ == "__main__":
    main()
