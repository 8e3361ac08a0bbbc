"""The kinds of detector outputs: their keys, their shapes, and which of them fit a model.

No numpy here: the outputs of a model are checked in the process that starts the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, permutations
from math import prod

from agent.core.errors import ConfigError
from agent.core.fidelity.decoding import Decoding, Shape

OUTPUT_KEYS = ("boxes", "scores", "labels", "count", "sizes", "offsets", "masks")
"""Keys of a decoding that name an output of the model."""
ROW = 6  # columns of a finished detection: a box, its score and its class
_USUAL = {
    "boxes": ("box",),
    "scores": ("score", "logit", "hm"),
    "labels": ("label", "class"),
    "count": ("num",),
    "sizes": ("wh", "size"),
    "offsets": ("reg", "offset"),
}  # words in the names of outputs
_MOST_SHOWN = 12  # outputs in an error
_MOST_TRIED = 2000  # assignments of outputs to keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """One kind.

    Attributes:
        needs: Keys that must be set.
        reads: Other keys that it reads.
        least: The outputs that make a decoding, by their keys, one or more ways.
        shapes: Of its outputs, in words.
        misfit: Returns the key of the first output with a shape that does not fit, "" if all do;
            its arguments are the decoding and shapes without the batch axis, by key.
    """

    needs: tuple[str, ...]
    reads: tuple[str, ...]
    least: tuple[tuple[str, ...], ...]
    shapes: str
    misfit: Callable[[Decoding, Mapping[str, Shape]], str]


def _boxes_misfit(how: Decoding, shapes: Mapping[str, Shape]) -> str:
    count = _boxes(shapes["boxes"])
    if count is None:
        return "boxes"
    size = prod(shapes["scores"])
    classes = size // max(count, 1)
    if size != classes * count or (count and classes < 1 + how.background + how.no_object):
        return "scores"
    if "labels" in shapes and (prod(shapes["labels"]) != count or size != count):
        return "labels"
    return ""


def _nms_misfit(how: Decoding, shapes: Mapping[str, Shape]) -> str:
    if "count" in shapes and prod(shapes["count"]) != 1:
        return "count"
    if "masks" in shapes and len(shapes["masks"]) != 3:
        return "masks"
    rows = shapes["boxes"]
    apart = [key for key in ("scores", "labels") if key in shapes]
    fixed = 4 if "scores" in shapes else ROW - len(apart)
    if len(rows) != 2 or rows[1] != fixed + how.extras(rows[1], fixed, shapes.get("masks")):
        return "boxes"
    return next((key for key in apart if prod(shapes[key]) != rows[0]), "")


def _yolo_misfit(how: Decoding, shapes: Mapping[str, Shape]) -> str:
    if "masks" in shapes and len(shapes["masks"]) != 3:
        return "masks"
    if len(shapes["boxes"]) != 2:
        return "boxes"
    channels, least = min(shapes["boxes"]), 5 + how.objectness
    return "" if channels >= least + how.extras(channels, least, shapes.get("masks")) else "boxes"


def _centers_misfit(_: Decoding, shapes: Mapping[str, Shape]) -> str:
    heat, sizes = shapes["scores"], shapes["sizes"]
    if len(heat) != 3:
        return "scores"
    if len(sizes) != 3:
        return "sizes"
    last = sizes[0] != 2 and sizes[2] == 2
    wanted = (*heat[:2], 2) if last else (2, *heat[1:])
    return next((key for key in ("sizes", "offsets") if shapes.get(key, wanted) != wanted), "")


def _boxes(shape: Shape) -> int | None:
    """Return the number of boxes in (n, 4), (n, 1, 4) or (4, n); None if it is neither."""
    if shape and shape[-1] == 4:
        return prod(shape) // 4
    return shape[1] if len(shape) == 2 and shape[0] == 4 else None


DECODERS = {
    "boxes": Decoder(
        needs=("boxes", "scores"),
        least=(("boxes", "scores"),),
        reads=(
            *("labels", "format", "unit", "logits", "softmax", "background", "no_object"),
            *("threshold", "overlap"),
        ),
        shapes="boxes (n, 4) and scores (n) or (n, classes) in separate outputs",
        misfit=_boxes_misfit,
    ),
    "nms": Decoder(
        needs=(),
        least=(("boxes",), ("boxes", "scores"), ("boxes", "labels")),
        reads=(
            *("boxes", "scores", "labels", "count", "masks", "keypoints", "rotated"),
            *("format", "unit", "stride", "threshold"),
        ),
        shapes="rows (n, 6) of box, score and class, of which score (n) and class (n) may be outputs "
        "of their own",
        misfit=_nms_misfit,
    ),
    "centers": Decoder(
        needs=("scores", "sizes"),
        least=(("scores", "sizes"),),
        reads=("offsets", "middle", "size", "order", "stride", "logits", "threshold", "overlap"),
        shapes="heat maps (classes, h, w) with sizes and offsets (2, h, w)",
        misfit=_centers_misfit,
    ),
    "yolo": Decoder(
        needs=(),
        least=(("boxes",),),
        reads=(
            *("boxes", "unit", "masks", "keypoints", "rotated", "stride", "logits", "objectness"),
            *("threshold", "overlap"),
        ),
        shapes="one output (4 + classes, n) or (n, 4 + classes)",
        misfit=_yolo_misfit,
    ),
}


def check_outputs(how: Decoding, outputs: Mapping[str, Shape]) -> None:
    """Check that a model has the outputs of a decoding, in shapes that it can read.

    Args:
        how: The decoding.
        outputs: Shapes by name with the batch axis, in the model's order.

    Raises:
        ConfigError: "decode", with the model's outputs and the kinds that fit them.
    """
    shapes: dict[str, Shape] = {}
    for key in _named(how):
        name = getattr(how, key) or next(iter(outputs), "")
        if name not in outputs:
            raise _misfit(f'model.task.decode.{key} = "{name}" is no output of the model', outputs)
        shapes[key] = _unbatched(outputs[name])
    wrong = DECODERS[how.kind].misfit(how, shapes)
    if wrong:
        name = getattr(how, wrong) or next(iter(outputs))
        raise _misfit(
            f"model.task.decode.{wrong}: output {name} of shape {_spelled(outputs[name])} is not "
            f'what kind = "{how.kind}" reads: {DECODERS[how.kind].shapes}',
            outputs,
        )


def suggestions(outputs: Mapping[str, Shape]) -> tuple[str, ...]:
    """Return decodings that fit outputs with usual names, as keys in quantd.toml.

    Args:
        outputs: As for `check_outputs`.
    """
    if not all(any(_alike(key, name) for name in outputs) for key in ("boxes", "scores")):
        return ()
    return tuple(found for kind in DECODERS if (found := _fitting(kind, outputs)))


def _named(how: Decoding) -> Iterator[str]:
    """Yield the keys of the outputs that are read; `boxes` is the first output if it is empty."""
    decoder = DECODERS[how.kind]
    for key in OUTPUT_KEYS:
        if key in decoder.needs or (key in decoder.reads and (getattr(how, key) or key == "boxes")):
            yield key


def _unbatched(shape: Shape) -> Shape:
    return shape[1:] if len(shape) > 2 and shape[0] == 1 else shape


def _spelled(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _misfit(message: str, outputs: Mapping[str, Shape]) -> ConfigError:
    shown = [f"{name} {_spelled(shape)}" for name, shape in islice(outputs.items(), _MOST_SHOWN)]
    if len(outputs) > len(shown):
        shown.append("...")
    kinds = [found for kind in DECODERS if (found := _fitting(kind, outputs))]
    fit = "; these fit: " + " or ".join(kinds) if kinds else "; no decode.kind fits them"
    return ConfigError(message, code="decode", hint=f"the model's outputs: {', '.join(shown)}{fit}")


def _fitting(kind: str, outputs: Mapping[str, Shape]) -> str:
    """Return the keys with which a kind fits the outputs, as in quantd.toml; "" if it does not."""
    for keys in DECODERS[kind].least:
        tried = (
            dict(zip(keys, names, strict=True))
            for names in islice(permutations(outputs, len(keys)), _MOST_TRIED)
        )
        fit = [named for named in tried if _fits(kind, named, outputs)]
        if fit:
            named = max(fit, key=lambda one: sum(_alike(*pair) for pair in one.items()))
            for key in OUTPUT_KEYS:
                if key in DECODERS[kind].reads and key not in named:
                    named = _with_usual(key, kind, named, outputs)
            return f'kind = "{kind}"' + "".join(
                f', {key} = "{named[key]}"' for key in OUTPUT_KEYS if key in named
            )
    return ""


def _with_usual(
    key: str, kind: str, named: Mapping[str, str], outputs: Mapping[str, Shape]
) -> dict[str, str]:
    """Return the keys with one more, if an output has a usual name for it and fits."""
    unused = (name for name in outputs if name not in named.values())
    more = ({**named, key: name} for name in unused if _alike(key, name))
    return next((one for one in more if _fits(kind, one, outputs)), dict(named))


def _fits(kind: str, named: Mapping[str, str], outputs: Mapping[str, Shape]) -> bool:
    shapes = {key: _unbatched(outputs[name]) for key, name in named.items()}
    return not DECODERS[kind].misfit(Decoding(kind=kind), shapes)


def _alike(key: str, name: str) -> bool:
    """Return whether the name of an output is usual for a key, as "num_detections" for the count."""
    return any(word in name.lower() for word in _USUAL.get(key, ()))
