"""What the harness adds to an inference: its p50 against a bare loop's, taking turns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.host.clock import SystemClock
from agent.core.frames.input_spec import InputSpec
from agent.demo.material import face_detector
from agent.stages.measuring.windows import overhead_ns
from tests.benchmarks.bench_harness import compare
from tests.benchmarks.rows import Row
from tests.support import quant_graphs

_GOAL = 0.01


def rows() -> list[Row]:
    """Return a row for a graph of some 0.1 ms, where overhead shows, and one of some ms."""
    with tempfile.TemporaryDirectory() as directory:
        small = compare(quant_graphs.detector(Path(directory) / "small.onnx"))
        large = compare(_detector(Path(directory)))
    return [_row("a graph of", small), _row("a network of", large)]


def _detector(folder: Path) -> str:
    """Return CenterFace at a small input."""
    OnnxIntake().clean(str(face_detector()), "faces", InputSpec(width=320, height=256), str(folder))
    return str(folder / "model.onnx")


def _row(what: str, found: dict[str, Any]) -> Row:
    ratio = found["harness_over_bound"]["median"]
    again = found["bound_again_over_bound"]["median"]
    plain = found["harness_over_bare"]["median"]
    own_ns = overhead_ns(SystemClock())
    return Row(
        what=f"p50 of the harness against a bare loop with bound buffers, {what} "
        f"{found['bare_p50_ms']:.2g} ms",
        goal="within 1 %",
        found=f"{ratio - 1:+.2%} (a second such loop {again - 1:+.2%}; against a loop of plain "
        f"session.run {plain - 1:+.2%}); {own_ns:.0f} ns of each time are its own",
        met=abs(ratio - 1) <= _GOAL,
        detail={**found, "own_ns": own_ns},
    )
