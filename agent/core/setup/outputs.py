"""The task and the decoding that the outputs of a model show, where no metadata names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.core.fidelity.decoders import suggestions
from agent.core.fidelity.decoding import Decoding, Shape
from agent.core.setup.facts import TensorFacts
from agent.core.setup.preprocessing import Classes

_STRIDES = (4, 8, 16, 32, 64)
_ANCHORS = 3  # of YOLOv5 and YOLOv7 per cell
_ROW = 6
_MOST_ROWS = 1000  # of finished boxes
_COARSEST = 8  # a map of classes has at least an eighth of the input's height and width
_TENSORFLOW = ("detection_boxes", "detection_scores", "detection_classes")
_COUNT = "num_detections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What outputs mean.

    Attributes:
        kind: "generic" if it is not known.
        decoding: Of a detector; None if it is not known.
        note: What is not certain, with the option that states it; "" if nothing.
    """

    kind: str
    origin: str
    decoding: Decoding | None = None
    note: str = ""


_NOT_KNOWN = (
    "the task is not known: fidelity is then SQNR by groups of channels. If the outputs are classes, "
    "a map of classes or boxes: --task classification | segmentation | detection (with --decode)"
)


def task_of(
    outputs: Sequence[TensorFacts], batch: int, side: tuple[int, int], classes: Classes | None
) -> Task:
    """Return the task that the outputs show.

    Args:
        outputs: Of the model, in order.
        batch: First dimension of the input; 0 if it is free.
        side: Height and width of the input, px; 0 if not known.
        classes: From config.json beside the model.
    """
    named = {one.name: one.shape for one in outputs}
    found = _detector(named, classes) or _head(outputs, side)
    if found is None and len(outputs) == 1:
        found = _map(outputs[0], side, classes) or _classifier(outputs[0], batch, classes)
    return found or _unknown(named)


def _unknown(outputs: Mapping[str, Shape]) -> Task:
    """Return that the task is not known, with what would decode outputs named like boxes."""
    shapes = {name: (1, *shape[1:]) if shape else shape for name, shape in outputs.items()}
    fits = suggestions(shapes) if all(all(shape) for shape in shapes.values()) else ()
    note = _NOT_KNOWN + (f", e.g. --decode '{fits[0]}'" if fits else "")
    return Task(kind="generic", origin="no source names the task", note=note)


def is_tensorflow(outputs: Sequence[TensorFacts]) -> bool:
    """Return whether the outputs have the names of TensorFlow's object detection API."""
    plain = {_plain(one.name) for one in outputs}
    return plain.issuperset(_TENSORFLOW[:2])


def _detector(outputs: Mapping[str, Shape], classes: Classes | None) -> Task | None:
    """Return the decoding of boxes and scores in outputs with usual names."""
    by_plain = {_plain(name): name for name in outputs}
    names = ", ".join(by_plain)
    if by_plain.keys() >= set(_TENSORFLOW[:2]):
        boxes, scores, labels = (by_plain.get(key, "") for key in _TENSORFLOW)
        how = Decoding(kind="nms", boxes=boxes, scores=scores, labels=labels,
                       count=by_plain.get(_COUNT, ""), format="yxyx", unit="fractions")  # fmt: skip
        return Task(kind="detection", origin="TensorFlow's names of the outputs", decoding=how)
    if by_plain.keys() == {"dets", "labels"}:
        how = Decoding(kind="nms", boxes=by_plain["dets"], labels=by_plain["labels"])
        return Task(kind="detection", origin="MMDeploy's names of the outputs", decoding=how)
    if by_plain.keys() == {"boxes", "scores", "labels"}:
        boxes, scores, labels = (by_plain[key] for key in ("boxes", "scores", "labels"))
        how = Decoding(kind="nms", boxes=boxes, scores=scores, labels=labels)
        return Task(kind="detection", origin=f"names of the outputs: {names}", decoding=how)
    if by_plain.keys() >= {"pred_boxes", "logits"}:
        return _queries(by_plain["pred_boxes"], by_plain["logits"], outputs, classes)
    return None


def _queries(
    boxes: str, logits: str, outputs: Mapping[str, Shape], classes: Classes | None
) -> Task:
    """Return the task of a DETR: its scores are a softmax if there is a class for no object."""
    origin = "names of the outputs: pred_boxes, logits"
    scores = outputs[logits][-1] if outputs[logits] else 0
    if not classes or scores not in {classes.count, classes.count + 1} or not scores:
        note = (
            "whether the scores are logits of a sigmoid or of a softmax is not known: "
            f"""--decode 'kind = "boxes", boxes = "{boxes}", scores = "{logits}", """
            """format = "cxcywh", unit = "fractions", overlap = 1.0, logits = true' (RT-DETR, """
            "D-FINE), or with softmax = true, no_object = true instead of logits (DETR)"
        )
        return Task(kind="detection", origin=origin, note=note)
    softmax = scores == classes.count + 1
    how = Decoding(kind="boxes", boxes=boxes, scores=logits, format="cxcywh", unit="fractions",
                   softmax=softmax, no_object=softmax, logits=not softmax, overlap=1.0)  # fmt: skip
    counted = f"{scores} scores for {classes.count} classes in {classes.origin}"
    return Task(kind="detection", origin=f"{origin}; {counted}", decoding=how)


def _head(outputs: Sequence[TensorFacts], side: tuple[int, int]) -> Task | None:
    """Return the task of a YOLO head or of finished rows, by their shapes."""
    first, others = outputs[0], outputs[1:]
    if len(first.shape) != 3 or len(others) > 1:
        return None
    _, rows, columns = first.shape
    cells = _cells(side, more=first.made_by != "Concat")
    masks = others[0].name if others and len(others[0].shape) == 4 else ""
    if others and not masks:
        return None
    origin = f"shape of {first.spelled}: "
    if columns in cells and rows > 4:
        how = Decoding(kind="yolo", masks=masks)
        note = (
            "the head of a pose or of rotated boxes has the same shape as one of more classes: "
            """if it is one, --decode 'kind = "yolo", keypoints = 17' or --decode 'kind = "yolo", """
            "rotated = true'"
        )
        return Task(kind="detection", origin=f"{origin}a column for each of {columns} cells",
                    decoding=how, note="" if masks else note)  # fmt: skip
    if rows in {_ANCHORS * one for one in cells} and columns > 5:
        how = Decoding(kind="yolo", masks=masks, objectness=True)
        return Task(kind="detection", origin=f"{origin}{_ANCHORS} rows for each of {rows // _ANCHORS} cells",
                    decoding=how)  # fmt: skip
    if 0 < rows <= _MOST_ROWS and columns == _ROW and not masks:
        how = Decoding(kind="nms")
        return Task(kind="detection", origin=f"{origin}rows of corners, score and class",
                    decoding=how)  # fmt: skip
    return None


def _cells(side: tuple[int, int], *, more: bool) -> set[int]:
    """Return how many cells the heads of neighbouring strides may have together.

    Args:
        side: Height and width of the input, px.
        more: Whether one stride by itself does not count.
    """
    each = [(side[0] // one) * (side[1] // one) for one in _STRIDES]
    least = 1 + more
    return {
        sum(each[begin:end])
        for begin in range(len(each))
        for end in range(begin + least, len(each) + 1)
    } - {0}


def _map(output: TensorFacts, side: tuple[int, int], classes: Classes | None) -> Task | None:
    """Return the task of an output that is a picture of classes."""
    architecture = classes.architecture if classes else ""
    if "SemanticSegmentation" in architecture and classes:
        return Task(kind="segmentation", origin=f"{classes.origin}: {architecture}")
    if classes and classes.count > 1 and classes.count in output.shape[1::2] and _is_map(output):
        counted = f"{output.spelled}, for {classes.count} classes in {classes.origin}"
        return Task(kind="segmentation", origin=f"shape of {counted}")
    integers = output.dtype.startswith(("int", "uint", "bool"))
    shapes = _pictures(output.shape, integers=integers)
    found = next((one for one in shapes if _covers(one[1:], side)), None)
    if found is None or "Depth" in architecture:
        return None
    channels = found[0]
    named = any(word in output.name.lower() for word in ("seg", "mask"))
    certain = channels > 3 or channels == 2 or integers or named or output.made_by == "Sigmoid"
    if certain and (channels != 3 or named or integers):
        by = f", made by {output.made_by}" if output.made_by == "Sigmoid" else ""
        return Task(kind="segmentation", origin=f"shape of {output.spelled}{by}")
    note = (
        f"{output.spelled} is a picture; whether it is a map of classes is not known, so fidelity "
        "is SQNR: --task segmentation if it is"
    )
    return Task(kind="generic", origin="no source names the task", note=note)


def _pictures(shape: Shape, *, integers: bool) -> Iterator[tuple[int, int, int]]:
    """Yield channels, height and width as they may be."""
    if len(shape) == 4:
        yield shape[1], shape[2], shape[3]
        yield shape[3], shape[1], shape[2]
    elif len(shape) == 3 and integers:
        yield 1, shape[1], shape[2]


def _covers(size: tuple[int, ...], side: tuple[int, int]) -> bool:
    return all(
        own and whole and own * _COARSEST >= whole for own, whole in zip(size, side, strict=True)
    )


def _is_map(output: TensorFacts) -> bool:
    return len(output.shape) == 4 and sum(side != 1 for side in output.shape[1:]) > 1


def _classifier(output: TensorFacts, batch: int, classes: Classes | None) -> Task | None:
    """Return the task of one row of scores."""
    scores = [one for one in output.shape[1:] if one != 1]
    if output.shape[:1] != (batch,) or len(output.shape) not in {2, 4}:
        return None
    if len(scores) != 1 or scores[0] < 2:
        return None
    origin = f"shape of {output.spelled}: one row of {scores[0]} scores"
    if classes and classes.count == scores[0]:
        return Task(kind="classification", origin=f"{origin}, as many as in {classes.origin}")
    note = "if that row is a vector of features, not of classes: --task generic"
    return Task(kind="classification", origin=origin, note=note)


def _plain(name: str) -> str:
    """Return the name of an output without TensorFlow's scope and index."""
    return name.rpartition("/")[2].partition(":")[0]
