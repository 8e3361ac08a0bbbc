"""The metadata of Ultralytics' exports. Source: ultralytics/engine/exporter.py, 8.4."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.core.fidelity.decoding import Decoding, Shape
from agent.core.setup.facts import ModelFacts
from agent.core.setup.settings import Setting

_ENTRY = re.compile(r"""(\d{1,6})\s*:\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_KINDS = {
    "classify": "classification", "semantic": "segmentation", "depth": "generic",
    "detect": "detection", "segment": "detection", "pose": "detection", "obb": "detection",
}  # fmt: skip
_BOX = 4
_ROW = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The metadata of one export.

    Attributes:
        task: As Ultralytics calls it; "" for the exports of YOLOv5's own repository.
        size: Height and width of the input, px; None if it is not written.
        names: Of the classes, from 0 on.
        finished: Whether NMS or its equivalent is in the graph.
        keypoints: Points of a pose, and numbers of each.
        queries: Whether it is RT-DETR, which is fed stretched pictures.
        fractions: Whether boxes are fractions of the input's size.
    """

    task: str
    size: tuple[int, int] | None
    names: tuple[str, ...]
    finished: bool
    keypoints: tuple[int, int]
    queries: bool
    fractions: bool


def read_export(metadata: Mapping[str, str]) -> Export | None:
    """Return the export that the metadata describes; None if it is not that of such an export."""
    if not {"stride", "names"} <= metadata.keys():
        return None
    if "task" in metadata and metadata["task"] not in _KINDS:
        return None
    numbers = [int(one) for one in re.findall(r"\b\d{1,5}\b", metadata.get("imgsz", "")[:100])]
    points = re.findall(r"\d{1,4}", metadata.get("kpt_shape", "")[:100])
    arguments = metadata.get("args", "")
    queries = metadata.get("head") == "RTDETRDecoder" or "rtdetr" in (
        metadata.get("description", "").lower()
    )
    finished = metadata.get("end2end") == "True" or "'nms': True" in arguments
    return Export(
        task=metadata.get("task", ""),
        size=(numbers[0], numbers[-1]) if 1 <= len(numbers) <= 2 and all(numbers) else None,
        names=_names(metadata["names"]),
        finished=finished,
        keypoints=(int(points[0]), int(points[1])) if len(points) == 2 else (0, 0),
        queries=queries,
        fractions=queries or ("'quantize': 8" in arguments and not finished),
    )


def settings_of(export: Export, facts: ModelFacts) -> Iterator[Setting]:
    """Yield the values that an export implies; its input is 0..1 RGB by convention."""
    by = "Ultralytics' metadata"
    convention = f"the convention of Ultralytics' exports ({by}: "
    convention += f"task {export.task})" if export.task else "stride, names)"
    if export.size:
        height, width = export.size
        yield Setting(key="model.input.width", value=width, origin=f"{by}: imgsz")
        yield Setting(key="model.input.height", value=height, origin=f"{by}: imgsz")
    (image, *_) = facts.inputs
    if 1 not in image.shape[1::2]:
        yield Setting(key="model.input.color", value="RGB", origin=convention)
    yield Setting(key="model.input.pixels", value="0..1", origin=convention)
    stretched = export.task == "classify" or export.queries
    yield Setting(
        key="model.input.resize",
        value="stretch" if stretched else "letterbox",
        origin=f"{by}: task classify; Ultralytics crops to the centre, quantd keeps all of it"
        if export.task == "classify"
        else convention,
    )
    kind = _KINDS.get(export.task, "detection")
    yield Setting(
        key="model.task.kind",
        value=kind,
        origin=f"{by}: task {export.task}" if export.task else f"{by}: stride, names",
    )
    if export.names and kind != "generic":
        yield Setting(key="model.task.names", value=export.names, origin=f"{by}: names")


def decoding_of(export: Export, outputs: Mapping[str, Shape]) -> Decoding | None:
    """Return how the outputs of a detector become boxes; None if they are not as expected.

    Args:
        export: Of the detector.
        outputs: Shapes with the batch axis, 0 for a free dimension.
    """
    if _KINDS.get(export.task, "detection") != "detection" or not outputs:
        return None
    (_, head), *others = outputs.items()
    if len(head) != 3:
        return None
    prototypes = next(((name, shape) for name, shape in others if len(shape) == 4), None)
    if export.task == "segment" and prototypes is None:
        return None
    masks = prototypes[0] if prototypes and export.task == "segment" else ""
    extras = _extras(export, prototypes[1] if prototypes else ())
    rows = head[2] == _ROW + extras and head[1] != _BOX + len(export.names) + extras
    finished = rows if all(head[1:]) or export.queries else export.finished
    return Decoding(
        kind="nms" if finished else "yolo",
        masks=masks,
        keypoints=export.keypoints[0] if export.task == "pose" else 0,
        rotated=export.task == "obb",
        unit="fractions" if export.fractions else "pixels",
        objectness=not export.task and not finished,
        format="cxcywh" if export.queries and finished else "xyxy",
        overlap=1.0 if export.queries and not finished else Decoding(kind="").overlap,
    )


def _extras(export: Export, prototypes: Shape) -> int:
    if export.task == "segment":
        return prototypes[1] if len(prototypes) == 4 else 0
    if export.task == "pose":
        return export.keypoints[0] * export.keypoints[1]
    return int(export.task == "obb")


def _names(text: str) -> tuple[str, ...]:
    """Return the names in a dict or a list of Python, in order of their numbers; () if there is none.

    The text is never evaluated, except for string literals by themselves.
    """
    try:
        found = {int(key): ast.literal_eval(name) for key, name in _ENTRY.findall(text)}
        if not found and text.startswith("["):
            literals = re.findall(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", text)
            found = dict(enumerate(map(ast.literal_eval, literals)))
    except (ValueError, SyntaxError):
        return ()
    if sorted(found) != list(range(len(found))):
        return ()
    return tuple(found[index] for index in range(len(found)))
