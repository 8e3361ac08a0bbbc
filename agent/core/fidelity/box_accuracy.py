"""Accuracy of a detector, if the true boxes of frames are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import ConfigError
from agent.core.fidelity.average_precision import AveragePrecision
from agent.core.fidelity.box_decoding import Outputs, decode
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection import Detections
from agent.core.fidelity.resampling import agreement_ci95

_PIXELS_FROM = 2.0  # fractions of the picture reach little beyond 1
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueBoxes:
    """The true boxes of one frame.

    Attributes:
        boxes: Shape (n, 4), float64: left, top, right, bottom, px of the model's input.
        labels: Shape (n,), int64: classes of the model.
        crowd: Shape (n,): True for a crowd; a detection inside it is neither right nor wrong.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories:
    """The categories of the labels.

    Attributes:
        names: By the class of the model.
        ordered: True if the classes are the places in the order of category ids, so that every
            class needs a category; False if they are the ids.
    """

    names: Mapping[int, str]
    ordered: bool

    def check(self, found: Detections) -> None:
        """Check that the classes of the model are among these.

        Raises:
            ConfigError: "labels", with the categories and the classes.
        """
        if found.classes is None:
            most = int(found.labels.max(initial=-1))
            fits, seen = not self.ordered or most < len(self.names), f"finds class {most}"
        elif self.ordered:
            fits, seen = found.classes == len(self.names), f"has {found.classes} classes"
        else:
            fits, seen = max(self.names) < found.classes, f"has {found.classes} classes"
        if not fits:
            raise ConfigError(
                f"model.task.labels has {len(self.names)} categories ({self._shown()}), but the "
                f"model {seen}",
                code="labels",
                hint="categories in the order of their ids are the model's classes, counted from 0,"
                " so list all of them, with or without boxes"
                if self.ordered
                else 'with model.task.categories = "id" ids are the classes; "order": their order',
            )

    def _shown(self) -> str:
        shown = [f"{number} {name}" for number, name in list(self.names.items())[:_SHOWN]]
        return ", ".join(shown) + ", ..." * (len(self.names) > _SHOWN)


class BoxAccuracy:
    """Average precision of the baseline and the engine against true boxes, as COCO.

    Boxes with a score below the threshold of the decoding are not counted, so the figures are lower
    than those that are published for a threshold of almost 0.

    Args:
        truths: The true boxes of each frame in the order of `add`; None if not known.
        categories: Their classes.
        decoding: Of the outputs into boxes.
        size: Width and height of the model's input, px.
    """

    def __init__(
        self,
        truths: Sequence[TrueBoxes | None],
        categories: Categories,
        decoding: Decoding,
        size: tuple[int, int],
    ) -> None:
        self._truths = truths
        self._categories = categories
        self._decoding = decoding
        self._size = size
        self._frame = 0
        self._engine = AveragePrecision(pooled=False)
        self._baseline = AveragePrecision(pooled=False)

    @property
    def frames(self) -> int:
        """See `Accuracy`."""
        return self._engine.frames

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """See `Accuracy`.

        Raises:
            ConfigError: "labels" if the categories are not the model's classes, or the baseline's
                boxes have another unit than the decoding.
        """
        truth = self._truths[self._frame] if self._frame < len(self._truths) else None
        self._frame += 1
        if truth is None:
            return
        reference = decode(expected, self._decoding, trusted=True)
        self._categories.check(reference)
        self._check_unit(reference)
        wanted = Detections(truth.boxes, np.ones(len(truth.labels)), truth.labels)
        for precision, found in (
            (self._baseline, reference),
            (self._engine, decode(seen, self._decoding)),
        ):
            precision.add(self._in_pixels(found), wanted, truth.crowd)

    def metrics(self) -> dict[str, float]:
        """Return the AP50 and the AP50-95 of both; empty without true boxes."""
        found = {}
        for name, precision in (("", self._engine), ("baseline_", self._baseline)):
            figures = precision.metrics()
            if figures:
                found[f"{name}accuracy"] = figures["ap50"]
                found[f"{name}accuracy_ap50_95"] = figures["ap50_95"]
        return found

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the engine's AP50; None with few frames that show an object."""
        value = self._engine.metrics().get("ap50")
        if value is None:
            return None
        return agreement_ci95(self._engine.value, value, self.frames, self._engine.judged)

    def _in_pixels(self, found: Detections) -> Detections:
        """Return boxes in pixels of the model's input."""
        if found.extent is None:
            return found
        scale = np.array(self._size) / found.extent
        return Detections(found.boxes * np.tile(scale, 2), found.scores, found.labels)

    def _check_unit(self, found: Detections) -> None:
        unit = self._decoding.unit
        if not len(found) or self._decoding.kind == "centers":
            return
        reach = float(np.median(np.abs(found.boxes).max(axis=1)))
        if (reach < _PIXELS_FROM) != (unit == "fractions"):
            other = "fractions" if unit == "pixels" else "pixels"
            raise ConfigError(
                f'model.task.decode.unit = "{unit}", but the baseline\'s boxes reach to {reach:.4g}',
                code="labels",
                hint=f'set model.task.decode.unit = "{other}"',
            )
