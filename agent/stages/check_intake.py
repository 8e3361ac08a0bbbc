"""The check that the clean graph computes what the user's own file does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from agent.core.errors import ModelError
from agent.core.fidelity.box_decoding import decode
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.sameness import Difference, difference
from agent.core.records import CheckedIntake, RankedRows

if TYPE_CHECKING:
    from agent.core.fidelity.rows import Outputs
    from agent.ports import Progress

Run = Callable[[Sequence[str]], Iterator["Outputs"]]
"""Yields the outputs of a model for each of some frames, by their names."""


def check_intake(
    blank: CheckedIntake,
    names: Sequence[str],
    *,
    file: Run,
    graph: Run,
    ranked: Sequence[RankedRows],
    coarse: bool,
    progress: Progress,
    decoding: Decoding | None = None,
) -> CheckedIntake:
    """Compare the clean graph with the user's file on frames of the camera.

    The outputs of the file are kept in memory, so that one of the two is loaded at a time.

    Args:
        blank: The record with its parents and tolerance.
        names: Of the frames.
        file: Runs the user's file as it is written.
        graph: Runs the clean graph.
        ranked: Outputs with rows that are matched first.
        coarse: True if the file rounds between its layers, being in half precision or of integers.
            Rounding then decides single rows too, so the median of the frames is judged.
        progress: Called before each of the two.
        decoding: Of a detector's outputs, which is tried on those of the graph.

    Returns:
        The record, with the reason if ONNX Runtime can't run the file, or the file itself gives
        other outputs at each run.

    Raises:
        ModelError: "intake_differs", naming the output and the frame; "not_run" if the clean graph
            does not run.
        ConfigError: "decode" if the graph's numbers can't be boxes and scores.
    """
    progress(0, 2, "the file as it is written")
    try:
        expected = list(file(names))
    except ModelError as e:
        return replace(blank, reason=f"the file does not run as it is written: {e.message}")
    progress(1, 2, "the clean graph")
    computed = graph(names) if decoding is None else _decoded(graph(names), decoding)
    found = sorted(
        (
            (difference(wanted, seen, ranked, coarse=coarse), index)
            for index, (wanted, seen) in enumerate(zip(expected, computed, strict=True))
        ),
        key=lambda one: one[0].relative,
    )
    if not found:
        return replace(blank, reason="there is no frame to compare on")
    judged, index = found[(len(found) - 1) // 2 if coarse else -1]
    if judged.relative > blank.tolerance:
        (again,) = file(names[index : index + 1])
        own = difference(expected[index], again, ranked, coarse=coarse)
        if own.relative <= blank.tolerance:
            raise _differs(judged, names[index], blank.tolerance)
        return replace(
            blank, reason=f"the file gives other outputs at each run (output {own.output})"
        )
    return replace(
        blank,
        frames=len(found),
        output=judged.output,
        max_difference=judged.largest,
        relative=judged.relative,
    )


def _decoded(computed: Iterable[Outputs], decoding: Decoding) -> Iterator[Outputs]:
    """Yield outputs that can be decoded; those that are not finite have an error of their own."""
    for outputs in computed:
        if all(np.isfinite(values).all() for values in outputs.values()):
            decode(outputs, decoding, trusted=True)
        yield outputs


def _differs(found: Difference, frame: str, tolerance: float) -> ModelError:
    seen = found.words or (
        f"differs by up to {found.largest:.3g}, {found.relative:.2g} of the magnitude of its "
        f"channels, and rounding explains {tolerance:.2g}"
    )
    return ModelError(
        f"the clean graph does not compute what the model file does: output {found.output} {seen} "
        f"(frame {frame})",
        code="intake_differs",
        hint="nothing was changed; please report this with the model file. An export with fixed "
        "shapes, batch 1 and opset 17 leaves less to change",
    )
