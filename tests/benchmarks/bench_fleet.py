"""What a fleet costs the operator's machine, measured: `make bench-fleet`.

    python -m tests.benchmarks.bench_fleet [--only NAME,...] [--messages N] [--duration-s S]
        [--seed N] [--markdown] [--output bench-fleet.json]

Nothing here passes or fails. A quiet machine with mosquitto and PostgreSQL is assumed; all devices
are simulated.
"""

from __future__ import annotations

from tests.benchmarks.fleet import ingest, live
from tests.benchmarks.parts import arguments_of, run_parts


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""
    parser = arguments_of(__doc__, ("ingest", "live"), "bench-fleet.json")
    parser.add_argument("--messages", type=int, default=100_000, help="stored in each database")
    parser.add_argument("--duration-s", type=float, default=60.0, help="of the live devices")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    parts = {
        "ingest": lambda: ingest.rows(arguments.messages, arguments.seed),
        "live": lambda: live.rows(arguments.duration_s),
    }
    run_parts(parser, arguments, parts)


if __name__ == "__main__":
    main()
