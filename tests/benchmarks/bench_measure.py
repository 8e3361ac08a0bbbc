"""Whether quantd's numbers can be trusted, measured: `make bench-measure`.

    python -m tests.benchmarks.bench_measure [--only NAME,...] [--markdown]
        [--output bench-measure.json]

Nothing here passes or fails. What this machine can't measure is a row that says why.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from tests.benchmarks.parts import arguments_of, run_parts
from tests.benchmarks.rows import Row

PARTS = ("power", "harness", "intervals", "prediction", "search")


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""

    def part(name: str) -> list[Row]:
        found: list[Row] = import_module(f"tests.benchmarks.measuring.{name}").rows()
        return found

    parser = arguments_of(__doc__, PARTS, "bench-measure.json")
    run_parts(parser, parser.parse_args(), {name: partial(part, name) for name in PARTS})


if __name__ == "__main__":
    main()
