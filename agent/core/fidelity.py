"""How near an engine's outputs are to the baseline's: streamed, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.agreement import Outputs, UserMetric, agreement
from agent.core.errors import RunnerError
from agent.core.lineage import Fidelity

_SILENT_DB = -300.0  # stands for minus infinity: the baseline is all zero and the engine is not


@dataclass(slots=True)
class _Sums:
    """Over all elements of one output on all frames."""

    signal: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    other: float = 0.0

    def add(self, reference: NDArray[np.float64], found: NDArray[np.float64]) -> None:
        difference = reference - found
        self.signal += float(reference @ reference)
        self.noise += float(difference @ difference)
        self.dot += float(reference @ found)
        self.other += float(found @ found)

    def sqnr_db(self) -> float | None:
        """Return 10 log10(signal / noise); None without any noise."""
        if self.noise == 0.0:
            return None
        if self.signal == 0.0:
            return _SILENT_DB
        return float(10.0 * np.log10(self.signal / self.noise))

    def cosine(self) -> float:
        """Return the cosine of the angle between the outputs; 1 without any noise."""
        if self.noise == 0.0:
            return 1.0
        lengths = float(np.sqrt(self.signal) * np.sqrt(self.other))
        return min(1.0, max(-1.0, self.dot / lengths)) if lengths else 0.0


class Comparison:
    """Accumulates over frames; memory does not depend on their number.

    Args:
        task: generic, classification, segmentation, detection or module:function.
        user_metric: The function that `module:function` named.
    """

    def __init__(self, task: str, user_metric: UserMetric | None = None) -> None:
        self._agreement, self._reason = agreement(task, user_metric)
        self._sums: dict[str, _Sums] = {}
        self._identical = True
        self._frames = 0

    def add(self, baseline: Outputs, engine: Outputs, frames: int = 1) -> None:
        """Compare the outputs of one inference.

        Args:
            baseline: The FP32 outputs by name, numbers of any shape and dtype.
            engine: The judged engine's, of the same names and shapes.
            frames: Frames in the inference: its batch.

        Raises:
            RunnerError: "not_finite" if outputs hold NaN or infinity; "baseline_not_finite" if
                the baseline's do; "outputs" if names or shapes differ, or nothing is in them.
        """
        if not baseline:
            raise RunnerError("the model has no output to compare", code="outputs")
        for name, expected in baseline.items():
            seen = engine.get(name)
            if seen is None:
                raise RunnerError(f"the engine has no output {name}", code="outputs")
            _check(name, expected, seen)
            if not np.array_equal(expected, seen):
                self._identical = False
            self._sums.setdefault(name, _Sums()).add(_flat(expected), _flat(seen))
        if self._agreement is not None:
            self._agreement.add(baseline, engine)
        self._frames += frames

    def result(self) -> Fidelity:
        """Return what the frames so far say.

        Raises:
            RunnerError: "no_frames" before the first frame.
        """
        if not self._frames:
            raise RunnerError("no held-out frame to compare on", code="no_frames")
        sqnr_db = {name: sums.sqnr_db() for name, sums in self._sums.items()}
        task = self._agreement.result() if self._agreement is not None else {}
        return Fidelity(
            sqnr_db=_worst(sqnr_db),
            identical=self._identical,
            cosine=min(sums.cosine() for sums in self._sums.values()),
            per_output_sqnr_db=sqnr_db,
            task=task,
            agreement=next(iter(task.values()), None),
            agreement_reason=self._reason,
            frames=self._frames,
        )


def _worst(sqnr_db: Mapping[str, float | None]) -> float | None:
    return min((value for value in sqnr_db.values() if value is not None), default=None)


def _flat(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.astype(np.float64).ravel()


def _check(name: str, expected: NDArray[Any], seen: NDArray[Any]) -> None:
    if expected.dtype.kind not in "fiub" or seen.dtype.kind not in "fiub":
        raise RunnerError(f"output {name} is not of numbers ({expected.dtype})", code="outputs")
    if expected.shape != seen.shape or expected.size == 0:
        raise RunnerError(
            f"output {name} has shape {list(seen.shape)}, the baseline's {list(expected.shape)}",
            code="outputs",
            hint="outputs of a varying number, such as boxes after suppression, can't be compared "
            "element by element; export the model without that step",
        )
    if not np.isfinite(expected).all():
        raise RunnerError(
            f"output {name} of the FP32 baseline holds NaN or infinity",
            code="baseline_not_finite",
            hint="the model or its preprocessing is wrong: check model.input",
        )
    if not np.isfinite(seen).all():
        raise RunnerError(f"output {name} holds NaN or infinity", code="not_finite")
