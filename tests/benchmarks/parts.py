"""The command line of a benchmark in parts: some or all of them, a table, the figures as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.rows import Row, aligned, cells, markdown
from tests.benchmarks.run import machine


def arguments_of(doc: str | None, names: Iterable[str], output: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all have.

    Args:
        doc: Of the benchmark; its first line is the description.
        names: Of its parts.
        output: Default name of the file of figures.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--only", default="", help=f"some of {', '.join(names)}")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser


def run_parts(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    parts: Mapping[str, Callable[[], list[Row]]],
) -> None:
    """Run the parts asked for, write the figures after each, print the table at the end."""
    wanted = [name for name in arguments.only.split(",") if name] or [*parts]
    unknown = set(wanted) - set(parts)
    if unknown:
        parser.error(f"no part called {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    took_s: dict[str, float] = {}
    for name in wanted:
        sys.stderr.write(f"{name} ...\n")
        begin = time.monotonic()
        rows += parts[name]()
        took_s[name] = round(time.monotonic() - begin, 1)
        result = {"machine": machine(), "took_s": took_s, "rows": [asdict(row) for row in rows]}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write((markdown if arguments.markdown else aligned)(cells(rows)))
