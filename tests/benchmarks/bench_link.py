"""Whether the link to the broker keeps its promises, measured: `make bench-link`.

    python -m tests.benchmarks.bench_link [--only NAME,...] [--messages N] [--cases N] [--seed N]
        [--markdown] [--output bench-link.json]

Nothing here passes or fails. A quiet machine with mosquitto is assumed.
"""

from __future__ import annotations

import logging

from tests.benchmarks.link import faults, floods, fuzz, idle, throughput
from tests.benchmarks.parts import arguments_of, run_parts


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""
    names = ("faults", "floods", "throughput", "idle", "fuzz")
    parser = arguments_of(__doc__, names, "bench-link.json")
    parser.add_argument("--messages", type=int, default=100_000, help="of the run with faults")
    parser.add_argument("--cases", type=int, default=10_000, help="hostile inputs")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a line for each hostile command
    parts = {
        "faults": lambda: faults.rows(arguments.messages, arguments.seed),
        "floods": floods.rows,
        "throughput": throughput.rows,
        "idle": idle.rows,
        "fuzz": lambda: fuzz.rows(arguments.cases, arguments.seed),
    }
    run_parts(parser, arguments, parts)


if __name__ == "__main__":
    main()
