"""Accuracy of a classifier, if the true classes of frames are given."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from agent.core.errors import ConfigError
from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.resampling import share_ci95
from agent.core.fidelity.scores import first_output, score_rows

_MOST_ROWS = 1_000_000


def parse_labels(lines: Iterable[str]) -> dict[str, int]:
    """Return the class of each frame by its name.

    Args:
        lines: A CSV with the header `frame,label`; a label is the number of a class, from 0.

    Raises:
        ConfigError: "bad_labels", naming the line and what is wrong with it.
    """
    reader = csv.reader(lines, strict=True)
    found: dict[str, int] = {}
    try:
        if [cell.strip() for cell in next(reader, [])] != ["frame", "label"]:
            raise _bad(1, "is not the header frame,label")
        for cells in reader:
            if cells:
                name, label = _row(reader.line_num, cells)
                if found.setdefault(name, label) != label:
                    raise _bad(reader.line_num, f"gives {name} another label than before")
            if len(found) > _MOST_ROWS:
                raise _bad(reader.line_num, f"is beyond the limit of {_MOST_ROWS} frames")
    except csv.Error as e:
        raise _bad(reader.line_num, f"is not CSV: {e}") from e
    return found


class ClassAccuracy:
    """Counts how often the baseline and the engine predict the true class.

    Args:
        labels: The class of each frame in the order of `add`; None if not known.
    """

    def __init__(self, labels: Sequence[int | None]) -> None:
        self._labels = labels
        self._frame = 0
        self.frames = 0
        self._right = {"accuracy": 0, "baseline_accuracy": 0}

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame.

        Raises:
            ConfigError: "labels" if the first output is not one row of class scores or one class
                id, or lacks the true class.
        """
        label = self._labels[self._frame] if self._frame < len(self._labels) else None
        self._frame += 1
        if label is None:
            return
        self.frames += 1
        self._right["accuracy"] += _class(first_output(seen), label) == label
        self._right["baseline_accuracy"] += _class(first_output(expected), label) == label

    def metrics(self) -> dict[str, float]:
        """Return accuracy (the engine's) and baseline_accuracy; empty without labelled frames."""
        if not self.frames:
            return {}
        return {name: right / self.frames for name, right in self._right.items()}

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the engine's accuracy; None with few frames."""
        return (
            share_ci95(self._right["accuracy"] / self.frames, self.frames) if self.frames else None
        )


def _class(scores: NDArray[Any], label: int) -> int:
    row = score_rows(scores)
    if len(row) != 1 or (row.shape[1] == 1 and scores.dtype.kind not in "iu"):
        shape = "x".join(map(str, scores.shape))
        raise ConfigError(
            f"model.task.labels needs one row of class scores per frame, but the first output "
            f"has shape {shape}",
            code="labels",
            hint="remove model.task.labels",
        )
    if row.shape[1] == 1:
        return int(row[0, 0])
    if label >= row.shape[1]:
        raise ConfigError(
            f"model.task.labels contains class {label}, but the model has {row.shape[1]} classes",
            code="labels",
            hint="classes count from 0, in the order of the model's output",
        )
    return int(row[0].argmax())


def _row(line: int, cells: Sequence[str]) -> tuple[str, int]:
    if len(cells) != 2:
        raise _bad(line, f"has {len(cells)} cells, not frame,label")
    name, label = (cell.strip() for cell in cells)
    if not name:
        raise _bad(line, "names no frame")
    if not (label.isascii() and label.isdigit() and len(label) < 10):
        raise _bad(line, f"has the label {label!r}, not the number of a class")
    return name, int(label)


def _bad(line: int, message: str) -> ConfigError:
    return ConfigError(
        f"model.task.labels: line {line} {message}",
        code="bad_labels",
        hint="a CSV with the header frame,label and lines such as street/0001.jpg,7",
    )
