"""Comparison of an engine's outputs with the baseline's, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.fidelity.accuracy import Accuracy, figures_of, require_single
from agent.core.fidelity.agreement import UserMetric, make_agreement
from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.channel_groups import GroupSums, OutputSums
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.resampling import (
    LEAST_FRAMES,
    Counts,
    agreement_ci95,
    bootstrap_ci95,
    resampled,
)
from agent.core.fidelity.rows import match_rows
from agent.core.records import Fidelity, RankedRows, SqnrGroup

_FEW = 4  # frames judged; an engine that fails on every other frame passes fewer by luck
_SAME = "identical to the baseline"
_TOO_LITTLE = "differs too little to be squared"


class Comparison:
    """Accumulates over frames, keeping a few numbers of each.

    Args:
        task: generic, classification, segmentation, detection or module:function.
        user_metric: The function that `module:function` named.
        decoding: Of a detector's outputs into boxes; None if not configured.
        accuracy: Empty; against the labels of the frames, in the order of `add`. None without.
        ranked: Outputs with rows that are matched first.

    Attributes:
        identical: True while every output is bit for bit the baseline's.
    """

    def __init__(
        self,
        task: str,
        user_metric: UserMetric | None = None,
        decoding: Decoding | None = None,
        accuracy: Accuracy | None = None,
        ranked: Sequence[RankedRows] = (),
    ) -> None:
        self._agreement, self._reason = make_agreement(task, user_metric, decoding)
        self._accuracy = accuracy
        self._ranked = ranked
        self._axes = {name: axis for rows in ranked for name, axis in rows.axes.items()}
        self._sums: dict[str, OutputSums] = {}
        self.identical = True
        self._frames = 0
        self._parts = 0

    @property
    def has_metric(self) -> bool:
        """Return True if the task has an agreement metric, which a limit can be set on."""
        return self._agreement is not None

    def add(self, baseline: Outputs, engine: Outputs, frames: int = 1) -> None:
        """Compare the outputs of one inference.

        Args:
            baseline: The FP32 outputs by name, numbers of any shape and dtype.
            engine: The engine's outputs, of the same names and shapes but for the number of ranked
                rows, and perhaps none of these.
            frames: The batch. Frames count one by one if they are the first axis of every output,
                else together as one.

        Raises:
            RunnerError: "not_finite" if outputs contain NaN or infinity; "baseline_not_finite" if
                the baseline's do; "outputs" if names or shapes differ, or outputs are empty.
            ConfigError: "decode" if the outputs don't match the decoding; "labels" if the labels
                don't fit them.
        """
        if not baseline:
            raise RunnerError("the model has no output to compare", code="outputs")
        for name, expected in baseline.items():
            seen = engine.get(name)
            if seen is None:
                raise RunnerError(f"the engine has no output {name}", code="outputs")
            _check(name, expected, seen, self._axes.get(name))
            if not np.array_equal(expected, seen):
                self.identical = False
        apart = 0 not in self._axes.values() and all(
            values.ndim and len(values) == frames for values in baseline.values()
        )
        if self._accuracy is not None and not apart:
            require_single(frames)
        for index in range(frames if apart else 1):
            part = slice(index, index + 1) if apart else ...
            self._add({name: values[part] for name, values in baseline.items()},
                      {name: engine[name][part] for name in baseline})  # fmt: skip
        self._frames += frames

    def _add(self, expected: Outputs, seen: Outputs) -> None:
        matched, paired = match_rows(expected, seen, self._ranked)
        for name, values in matched.items():
            sums = self._sums.setdefault(name, OutputSums(name, rows_first=name in self._axes))
            sums.add(values, paired[name])
        if self._agreement is not None:
            self._agreement.add(expected, seen)
        if self._accuracy is not None:
            self._accuracy.add(expected, seen)
        self._parts += 1

    def agreement_by_frame(self) -> tuple[float, ...]:
        """Return the metric on each frame alone, NaN where FP32 sees nothing; empty without one."""
        if self._agreement is None:
            return ()
        return tuple(self._agreement.value(np.eye(self._parts)).tolist())

    def sqnr_db(self) -> float | None:
        """Return the SQNR of the worst group; None if nothing differs enough to be squared."""
        return self._groups()[1][0].sqnr_db

    def resampled_db(self) -> tuple[float, ...]:
        """Return the SQNR of the worst group, dB, over resamples of the frames.

        It is empty with fewer frames than intervals need, and if nothing differs.
        """
        if self.identical or self._parts < LEAST_FRAMES:
            return ()
        sums, _ = self._groups()
        return tuple(resampled(lambda counts: _worst_db(sums, counts), self._parts).tolist())

    def _groups(self) -> tuple[list[GroupSums], list[SqnrGroup]]:
        """Return the groups of channels, and their records with the worst first."""
        sums = [group for output in self._sums.values() for group in output.groups()]
        return sums, sorted((one.record() for one in sums), key=_order_db)

    def result(self) -> Fidelity:
        """Return the fidelity over the frames so far.

        Raises:
            RunnerError: "no_frames" before the first frame.
        """
        if not self._frames:
            raise RunnerError("no held-out frame to compare on", code="no_frames")
        sums, groups = self._groups()
        judged = self._agreement.judged if self._agreement is not None else 0
        enough = self._agreement is not None and judged >= _FEW
        task = self._agreement.metrics() if self._agreement is not None and enough else {}
        value = next(iter(task.values()), None)
        reason = "" if enough else self._unjudged(judged)
        accuracy = figures_of(self._accuracy)
        sqnr = groups[0].sqnr_db
        sqnr_ci95 = (
            None
            if self.identical
            else bootstrap_ci95(lambda counts: _worst_db(sums, counts), self._parts)
        )
        agreement_ci95 = self._agreement_ci95(value)
        unknown = (sqnr is not None and not sqnr_ci95) or (value is not None and not agreement_ci95)
        few = f"{self._frames} held-out frames give no interval: too few, or hardly any of them differs"
        return Fidelity(
            sqnr_db=sqnr,
            sqnr_db_ci95=sqnr_ci95,
            sqnr_reason="" if sqnr is not None else _SAME if self.identical else _TOO_LITTLE,
            sqnr_groups=tuple(groups),
            cosine=min(output.cosine() for output in self._sums.values()),
            per_output_sqnr_db={
                name: next(one.sqnr_db for one in groups if one.output == name)
                for name in self._sums
            },
            task={**task, **accuracy.metrics},
            agreement=value,
            agreement_ci95=agreement_ci95,
            agreement_reason=reason,
            summary=self._summary(groups[0], reason),
            ci95_reason=(_SAME if self.identical else few) if unknown else "",
            accuracy_ci95=accuracy.ci95,
            accuracy_reason=accuracy.reason,
            labelled=accuracy.frames,
            frames=self._frames,
            threshold=self._agreement.threshold if self._agreement is not None else None,
            judged_frames=None if self._agreement is None else judged * self._frames // self._parts,
        )

    def _unjudged(self, judged: int) -> str:
        """Return why there is no agreement."""
        if self._agreement is None:
            return self._reason
        return (
            f"not enough seen to judge: FP32 sees something ({self._agreement.seen}) on {judged} of "
            f"{self._parts} held-out frames, and {_FEW} are needed"
        )

    def _summary(self, worst: SqnrGroup, reason: str) -> str:
        if self.identical:
            return "gives the baseline's very outputs"
        if self._agreement is not None:
            return f"can't be judged: {reason}" if reason else self._agreement.summary()
        if worst.sqnr_db is None:
            return "gives FP32's outputs but for rounding"
        return f"gives FP32's outputs at {worst.sqnr_db:.1f} dB SQNR"

    def _agreement_ci95(self, value: float | None) -> tuple[float, float] | None:
        if self._agreement is None or value is None or self.identical:
            return None
        return agreement_ci95(self._agreement.value, value, self._parts, self._agreement.judged)


def _worst_db(groups: Sequence[GroupSums], counts: Counts) -> NDArray[np.float64]:
    """Return the SQNR of the worst group in each resample, dB."""
    found: NDArray[np.float64] = np.min([group.sqnr_db(counts) for group in groups], axis=0)
    return found


def _order_db(group: SqnrGroup) -> float:
    return np.inf if group.sqnr_db is None else group.sqnr_db


def _check(name: str, expected: NDArray[Any], seen: NDArray[Any], rows: int | None) -> None:
    """Check that an output can be compared.

    Args:
        name: Its name.
        expected: The baseline's.
        seen: The engine's.
        rows: The axis of ranked rows, of any length; None if there is none.
    """
    if expected.dtype.kind not in "fiub" or seen.dtype.kind not in "fiub":
        raise RunnerError(f"output {name} is not of numbers ({expected.dtype})", code="outputs")
    shapes = [list(values.shape) for values in (expected, seen)]
    if rows is not None and rows < min(expected.ndim, seen.ndim):
        for shape in shapes:
            shape[rows] = 1
    if shapes[0] != shapes[1] or 0 in shapes[0]:
        raise RunnerError(
            f"output {name} has shape {list(seen.shape)}, the baseline's {list(expected.shape)}",
            code="outputs",
            hint="outputs of a varying size can't be compared element by element, unless their rows "
            "come from TopK or NonMaxSuppression; export the model without that step",
        )
    if not np.isfinite(expected).all():
        raise RunnerError(
            f"output {name} of the FP32 baseline contains NaN or infinity",
            code="baseline_not_finite",
            hint="the model or its preprocessing is wrong: check model.input",
        )
    if not np.isfinite(seen).all():
        raise RunnerError(f"output {name} contains NaN or infinity", code="not_finite")
