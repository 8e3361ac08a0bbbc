"""Whether a device survives what happens to devices, and what it costs idle: `make bench-device`.

    python -m tests.benchmarks.bench_device [--only cuts,idle] [--count N] [--seed N] [--markdown]
        [--output bench-device.json]

Nothing here passes or fails. A violation is printed in full, with the seed and the round that
draw the same commands again; when exactly a cut hits is up to the machine.
"""

from __future__ import annotations

from tests.benchmarks.device import cuts, idle
from tests.benchmarks.parts import arguments_of, run_parts

_CUTS = 200


def main() -> None:
    """Run the parts asked for, print the table and write the JSON."""
    parser = arguments_of(__doc__, ("cuts", "idle"), "bench-device.json")
    parser.add_argument("--count", type=int, default=_CUTS, help="power cuts")
    parser.add_argument("--seed", type=int, default=0, help="of the power cuts; 0: a new one")
    arguments = parser.parse_args()
    parts = {"cuts": lambda: cuts.rows(arguments.count, arguments.seed), "idle": idle.rows}
    run_parts(parser, arguments, parts)


if __name__ == "__main__":
    main()
