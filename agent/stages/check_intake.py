"""The check that the clean graph computes what the user's own file does, and something plausible."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.errors import ModelError
from agent.core.fidelity.plausibility import Plausibility
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
    plausibility: Plausibility,
    others: Sequence[str] = (),
    fed: str = "",
) -> CheckedIntake:
    """Compare the clean graph with the user's file on frames of the camera, and judge what it finds.

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
        plausibility: Of what the graph computes; empty.
        others: Further frames, on which the graph alone runs as long as what it finds is suspicious.
        fed: The input in words, for errors.

    Returns:
        The record, with the reason if ONNX Runtime can't run the file, or the file itself gives
        other outputs at each run.

    Raises:
        ModelError: "intake_differs", naming the output and the frame; "not_run" if the clean graph
            does not run; "not_finite" if its outputs are on no frame.
        ConfigError: "decode" if the graph's numbers can't be boxes and scores.
    """
    progress(0, 3, "the file as it is written")
    expected, reason = [], ""
    try:
        expected = list(file(names))
    except ModelError as e:
        reason = f"the file does not run as it is written: {e.message}"
    progress(1, 3, "the clean graph")
    computed = _seen(graph(names), plausibility)
    if reason:
        deque(computed, maxlen=0)
        found = replace(blank, reason=reason)
    else:
        found = _compared(blank, names, expected, computed, file=file, ranked=ranked, coarse=coarse)
    progress(2, 3, "what it finds")
    for _ in () if plausibility.sound else _seen(graph(others), plausibility):
        if plausibility.sound:
            break
    if plausibility.hopeless:
        raise ModelError(
            f"{'; '.join(plausibility.doubts())}: nothing can be judged",
            code="not_finite",
            hint=f"is the input right? The model is fed {fed}",
        )
    return replace(found, doubts=plausibility.doubts())


def _compared(
    blank: CheckedIntake,
    names: Sequence[str],
    expected: Sequence[Outputs],
    computed: Iterable[Outputs],
    *,
    file: Run,
    ranked: Sequence[RankedRows],
    coarse: bool,
) -> CheckedIntake:
    """Return the record with the largest difference; see `check_intake`."""
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


def _seen(computed: Iterable[Outputs], plausibility: Plausibility) -> Iterator[Outputs]:
    """Yield outputs that were added to what is plausible."""
    for outputs in computed:
        plausibility.add(outputs)
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
