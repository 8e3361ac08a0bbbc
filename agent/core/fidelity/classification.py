"""Agreement of a classifier: the class, and the five best classes."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.resampling import Counts, each_frame_once, percent, resampled_ratio
from agent.core.fidelity.scores import CUTS, first_output, rounding, score_rows, within_one

_TOP = 5


class ClassificationAgreement:
    """Share of rows with the baseline's top class, and share of its top 5 that is kept.

    Scores have shape (n, classes), with axes of length 1 anywhere after n; further axes before the
    last are positions of a sequence. One score per row is binary: probabilities (the baseline's are
    all in 0..1) have the threshold 0.5, logits 0. One integer per row is a class id. The top 5 of
    five classes or fewer is always equal and left out. A class agrees if its score is the baseline's
    best but for rounding; a frame with such a tie in all rows is not judged and does not count.
    """

    seen = "a class that is ahead"

    def __init__(self) -> None:
        self._rows = {cut: array("q") for cut in CUTS}  # per frame, 0 if not judged, as all below
        self._same = {cut: array("q") for cut in CUTS}
        self._kept = array("q")
        self._probabilities = True
        self._top = False
        self._single = False

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `Agreement`."""
        reference, found = (score_rows(first_output(outputs)) for outputs in (expected, seen))
        if reference.shape[1] == 1:
            self._add_single(reference[:, 0], found[:, 0])
            return
        reference, found = reference.astype(np.float64), found.astype(np.float64)
        second, best = np.partition(reference, (-2, -1), axis=1)[:, -2:].T
        taken = np.take_along_axis(reference, found.argmax(1)[:, None], axis=1)[:, 0]
        for cut in CUTS:
            self._count(cut, taken >= best - rounding(best), best - second > rounding(best))
        if reference.shape[1] > _TOP:
            self._top = True
            tops, others = (
                np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
                for scores in (reference, found)
            )
            kept = int((tops[:, :, None] == others[:, None, :]).sum())
            self._kept.append(kept if self._rows[CUTS[0]][-1] else 0)

    def _add_single(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        ids = reference.dtype.kind in "iub"
        self._single |= not ids
        self._probabilities &= within_one(reference)
        for cut in CUTS:
            decided = ids | (np.abs(reference - cut) > rounding(reference))
            same = reference == found if ids else (reference > cut) == (found > cut)
            self._count(cut, same | ~decided, decided)

    def _count(self, cut: float, same: NDArray[np.bool_], decided: NDArray[np.bool_]) -> None:
        judged = bool(decided.any())
        self._rows[cut].append(len(same) if judged else 0)
        self._same[cut].append(int(same.sum()) if judged else 0)

    @property
    def _cut(self) -> float:
        return CUTS[0] if self._probabilities else CUTS[1]

    @property
    def threshold(self) -> float | None:
        """Score above which a single class counts; None where classes compete or ids are given."""
        return self._cut if self._single else None

    @property
    def judged(self) -> int:
        """Number of frames with a class that is ahead by more than rounding."""
        return sum(rows > 0 for rows in self._rows[self._cut])

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the share of rows with the same top class."""
        return resampled_ratio(counts, self._same[self._cut], self._rows[self._cut])

    def metrics(self) -> dict[str, float]:
        """Return top1 and, with more than five classes, top5."""
        rows = self._rows[self._cut]
        all_once = each_frame_once(len(rows))
        found = {"top1": float(self.value(all_once)[0])}
        if self._top:
            found["top5"] = float(resampled_ratio(all_once, self._kept, rows)[0]) / _TOP
        return found

    def summary(self) -> str:
        """Return the share with the same class, in words."""
        return f"names FP32's class {percent(self.metrics()['top1'])} of the time"
