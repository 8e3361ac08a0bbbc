"""Input and classes of a model, by the JSON files of transformers and timm beside it.

Source: transformers/image_processing_utils.py and timm/models/_pretrained.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from agent.core.frames.pixels import PixelPreset
from agent.core.setup.facts import ModelFacts

_MOST_CLASSES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """One description of a model's input.

    Attributes:
        origin: The file or the metadata, and the keys that were read.
        size: Height and width, px; None if it is not written.
        cropped: Whether the middle of the picture is cut out.
    """

    origin: str
    pixels: PixelPreset
    size: tuple[int, int] | None
    cropped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The outputs by config.json.

    Attributes:
        architecture: Class of transformers, such as "ViTForImageClassification"; "" in timm's.
        names: Of the classes; () if there are none.
        count: Of the classes; 0 if it is not known.
    """

    origin: str
    architecture: str
    names: tuple[str, ...]
    count: int


def preprocessing_of(facts: ModelFacts) -> Preprocessing | None:
    """Return the first description of the input; None if there is none that can be used."""
    for origin, found in _objects(facts):
        if "image_mean" in found or "do_rescale" in found or "do_normalize" in found:
            read = _transformers(found, origin)
        else:
            nested = found.get("pretrained_cfg", found)
            read = _timm(nested, origin) if isinstance(nested, dict) else None
        if read is not None:
            return read
    return None


def classes_of(facts: ModelFacts) -> Classes | None:
    """Return the classes that config.json names; None if it names none."""
    for origin, found in _objects(facts):
        architectures = found.get("architectures")
        names = _names(found.get("id2label"), found.get("label_names"))
        count = found.get("num_classes")
        listed = architectures if isinstance(architectures, list) else []
        architecture = listed[0] if listed and isinstance(listed[0], str) else ""
        known = count if isinstance(count, int) and not isinstance(count, bool) else len(names)
        if names or architecture or known:
            return Classes(origin=origin, architecture=architecture, names=names, count=known)
    return None


def _objects(facts: ModelFacts) -> Iterator[tuple[str, dict[str, Any]]]:
    texts = [(f"{name} beside the model", text) for name, text in facts.beside.items()]
    texts += [
        (f"metadata of the file: {key}", facts.metadata[key])
        for key in ("preprocessor_config", "pretrained_cfg")
        if key in facts.metadata
    ]
    for origin, text in texts:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield origin, found


def _transformers(found: Mapping[str, Any], origin: str) -> Preprocessing | None:
    rescaled = found.get("do_rescale", True)  # processors of earlier versions always did
    factor = found.get("rescale_factor", 1 / 255)
    mean, std = (_channels(found.get(key)) for key in ("image_mean", "image_std"))
    normalized = found.get("do_normalize", mean is not None)
    if not isinstance(rescaled, bool) or not isinstance(normalized, bool) or not _number(factor):
        return None
    if normalized and (mean is None or std is None or 0 in std):
        return None
    color = "BGR" if found.get("do_flip_channel_order") is True else "RGB"
    return Preprocessing(
        origin=f"{origin}: rescale_factor" + (", image_mean, image_std" if normalized else ""),
        pixels=PixelPreset(
            scale=float(factor) if rescaled else 1.0,
            mean=mean if normalized and mean else (0.0, 0.0, 0.0),
            std=std if normalized and std else (1.0, 1.0, 1.0),
            color=color,
        ),
        size=_size(found.get("crop_size") if _crops(found) else found.get("size")),
        cropped=_crops(found),
    )


def _timm(found: Mapping[str, Any], origin: str) -> Preprocessing | None:
    mean, std = _channels(found.get("mean")), _channels(found.get("std"))
    if mean is None or std is None or 0 in std:
        return None
    sides = found.get("input_size")
    ratio = found.get("crop_pct", 1.0)
    return Preprocessing(
        origin=f"{origin}: mean, std",
        pixels=PixelPreset(scale=1 / 255, mean=mean, std=std, color="RGB"),
        size=_size(sides[1:] if isinstance(sides, list) else None),
        cropped=_number(ratio) and ratio < 1,
    )


def _crops(found: Mapping[str, Any]) -> bool:
    return found.get("do_center_crop") is True


def _channels(found: Any) -> tuple[float, ...] | None:
    """Return three numbers; None if these are none."""
    if not isinstance(found, list) or len(found) not in {1, 3} or not all(map(_number, found)):
        return None
    return tuple(float(one) for one in (found if len(found) == 3 else found * 3))


def _number(found: Any) -> bool:
    return isinstance(found, (int, float)) and not isinstance(found, bool) and isfinite(found)


def _size(found: Any) -> tuple[int, int] | None:
    sides: list[Any]
    if isinstance(found, dict):
        sides = [found.get("height"), found.get("width")]
    elif isinstance(found, list):
        sides = found
    else:
        sides = [found, found]
    if len(sides) != 2:
        return None
    height, width = sides
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 1:
        return height, width
    return None


def _names(labels: Any, listed: Any) -> tuple[str, ...]:
    if isinstance(labels, dict) and len(labels) <= _MOST_CLASSES:
        found = [labels.get(str(index)) for index in range(len(labels))]
    else:
        found = listed if isinstance(listed, list) else []
    names = [one for one in found if isinstance(one, str)]
    return tuple(names) if len(names) == len(found) else ()
