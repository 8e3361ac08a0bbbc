"""The accuracy against the file that `model.task.labels` names, in a job's process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.errors import ConfigError
from agent.core.frames.input_spec import resolved
from agent.core.records import CalibrationSet, CleanModel
from agent.jobs.coco import CocoLabels, ImageLabels, parse_coco

if TYPE_CHECKING:
    from agent.core.fidelity.accuracy import Accuracy
    from agent.core.fidelity.box_accuracy import TrueBoxes
    from agent.core.frames.input_spec import InputSpec

_MOST_BYTES = 64 * 2**20  # of labels; those of COCO's validation images have 20 MB


def check(config: Config, frames: CalibrationSet, folder: Path) -> None:
    """Check the labels, if there are any, before engines are built for hours.

    Args:
        config: The effective configuration.
        frames: The set, of which the holdout is judged.
        folder: Where they lie.

    Raises:
        ConfigError: "bad_labels" if the labels can't be read, "labels" if they don't fit the frames.
    """
    if not config.model.task.labels:
        return
    if config.model.task.decoding:
        _annotated(config, frames, folder)
    else:
        _classes(config, frames)


def accuracy(
    config: Config, model: CleanModel, frames: CalibrationSet, folder: Path
) -> Accuracy | None:
    """Return a fresh accuracy against the labels of the holdout; None without labels.

    Args:
        config: The effective configuration.
        model: The clean model.
        frames: As for `check`, like the next.
        folder: Where they lie.

    Raises:
        ConfigError: As for `check`.
    """
    from agent.core.fidelity.box_accuracy import BoxAccuracy, Categories
    from agent.core.fidelity.class_accuracy import ClassAccuracy

    task = config.model.task
    if not task.labels:
        return None
    if task.decoding is None:
        return ClassAccuracy(_classes(config, frames))
    found, images = _annotated(config, frames, folder)
    ordered = task.categories == "order"
    classes = {one: index if ordered else one for index, one in enumerate(found.categories)}
    spec = resolved(config.model.input.spec, model.inputs[0].shape)
    return BoxAccuracy(
        [image and _true_boxes(*image, spec, classes) for image in images],
        Categories(
            names={classes[one]: name for one, name in found.categories.items()}, ordered=ordered
        ),
        task.decoding,
        (spec.width, spec.height),
    )


def _classes(config: Config, frames: CalibrationSet) -> tuple[int | None, ...]:
    """Return the true class of each frame of the holdout, None where it is not known."""
    from agent.core.fidelity.accuracy import labels_of
    from agent.core.fidelity.class_accuracy import parse_labels

    file = config.model.task.labels
    lines = io.TextIOWrapper(io.BytesIO(_read(file)), encoding="utf-8-sig", newline="")
    try:
        labels = parse_labels(lines)
    except UnicodeDecodeError as e:
        raise _unreadable(file, "is not UTF-8 text") from e
    return labels_of(_names(frames), labels, labels)


def _annotated(
    config: Config, frames: CalibrationSet, folder: Path
) -> tuple[CocoLabels, list[tuple[ImageLabels, tuple[int, int]] | None]]:
    """Return the file, and the annotations and the size of each frame of the holdout; None if unknown."""
    from agent.adapters.storage.frames import OpencvFrames
    from agent.core.fidelity.accuracy import labels_of

    names = _names(frames)
    found = parse_coco(_read(config.model.task.labels), {*names} - {""})
    images: list[tuple[ImageLabels, tuple[int, int]] | None] = []
    of_frames = labels_of(names, found.images, found.known)
    for name, file, labels in zip(names, frames.holdout, of_frames, strict=True):
        if labels is None:
            images.append(None)
            continue
        size = OpencvFrames().size(str(folder / "frames" / file))
        if labels.size and labels.size != size:
            raise ConfigError(
                f"model.task.labels: {name} has {_px(labels.size)} px there, but the frame has "
                f"{_px(size)}",
                code="labels",
                hint="label the frames as the camera shows them, upright and in that size",
            )
        images.append((labels, size))
    return found, images


def _names(frames: CalibrationSet) -> list[str]:
    """Return what the camera calls the frames of the holdout; "" for a frame without a name."""
    return [frames.origins.get(name, "") for name in frames.holdout]


def _true_boxes(
    labels: ImageLabels, size: tuple[int, int], spec: InputSpec, classes: Mapping[int, int]
) -> TrueBoxes:
    """Return the true boxes of a frame of this size in pixels of the model's input.

    Args:
        labels: Of the frame.
        size: Its width and height, px.
        spec: The model's input.
        classes: Classes of the model by category id.
    """
    import numpy as np

    from agent.core.fidelity.box_accuracy import TrueBoxes
    from agent.core.frames.preprocess import placed

    boxes = np.array(labels.boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return TrueBoxes(
        boxes=placed(boxes, spec, *size),
        labels=np.array([classes[one] for one in labels.categories], np.int64),
        crowd=np.array(labels.crowd, np.bool_),
    )


def _px(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _read(file: str) -> bytes:
    """Return the bytes of a file of moderate size."""
    try:
        if not Path(file).is_file() and Path(file).exists():
            raise _unreadable(file, "is not a regular file")
        with Path(file).open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as e:
        raise _unreadable(file, e.strerror or str(e)) from e
    if len(content) > _MOST_BYTES:
        raise ConfigError(
            f"model.task.labels: {file} is larger than {_MOST_BYTES // 2**20} MB",
            code="bad_labels",
            hint="keep only the labels of the pictures that the camera shows",
        )
    return content


def _unreadable(file: str, reason: str) -> ConfigError:
    return ConfigError(f"model.task.labels: {file}: {reason}", code="bad_labels")
