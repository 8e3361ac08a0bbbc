"""True boxes of frames from a COCO JSON file, which anyone may have written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from agent.core.errors import ConfigError

_SHOWN = 3
_MOST_BOXES = 10_000  # of an image; each is compared with up to 100 detections of a class
_FARTHEST_PX = 1_000_000
_Place = Annotated[float, msgspec.Meta(ge=-_FARTHEST_PX, le=_FARTHEST_PX)]
_Size = Annotated[float, msgspec.Meta(ge=0, le=_FARTHEST_PX)]
_Pixels = Annotated[int, msgspec.Meta(gt=0, le=_FARTHEST_PX)]
_Id = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class _Category(msgspec.Struct, gc=False):
    id: _Id
    name: str


class _Image(msgspec.Struct, gc=False):
    id: _Id
    file_name: str
    width: _Pixels | None = None
    height: _Pixels | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: _Id
    category_id: _Id
    bbox: tuple[_Place, _Place, _Size, _Size]
    id: _Id | None = None
    iscrowd: bool | Annotated[int, msgspec.Meta(ge=0, le=1)] = 0


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(slots=True, kw_only=True)
class ImageLabels:
    """The annotations of one image.

    Attributes:
        size: Width and height, px; None if the file does not contain them.
        boxes: Left, top, width and height, px.
        categories: Category ids, one per box.
        crowd: True for a crowd, one per box.
    """

    size: tuple[int, int] | None
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoLabels:
    """What a COCO JSON file contains about some frames.

    Attributes:
        categories: Names by id, in the order of their ids.
        images: By the name of the frame; those of other images are left out.
        known: The first file names of all images.
    """

    categories: Mapping[int, str]
    images: Mapping[str, ImageLabels]
    known: Sequence[str]


def parse_coco(content: bytes, names: Collection[str]) -> CocoLabels:
    """Return the annotations of those images that are frames with these names.

    An image is the frame with its `file_name`, or with the part of it after the last slash. All
    images and annotations are checked; those of other frames are not kept.

    Args:
        content: The file.
        names: What the camera calls the frames.

    Raises:
        ConfigError: "bad_labels", naming the entry and what is wrong with it.
    """
    file = _decoded(content)
    categories = _categories(file.categories)
    found: dict[str, ImageLabels] = {}
    known: list[str] = []
    images: dict[int, ImageLabels | None] = {}
    for index, image in enumerate(file.images):
        place = f"images[{index}]"
        if image.id in images:
            raise _bad(f"{place} has the id {image.id} of another image")
        known += [image.file_name] * (len(known) < _SHOWN)
        images[image.id] = _labels(place, image, names, found)
    ids: set[int] = set()
    for index, one in enumerate(file.annotations):
        place = f"annotations[{index}]"
        if one.image_id not in images:
            raise _bad(f"{place} is of image {one.image_id}, which is not in images")
        if one.category_id not in categories:
            raise _bad(f"{place} is of category {one.category_id}, which is not in categories")
        if labels := images[one.image_id]:
            _keep(place, one, labels, ids)
    return CocoLabels(categories=categories, images=found, known=known)


def _decoded(content: bytes) -> _File:
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=_File)
    except RecursionError as e:
        raise _bad("lists are nested too deeply") from e
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise _bad(re.sub(r" - at `\$\.?(.*)`", r" at \1", str(e))) from e


def _labels(
    place: str, image: _Image, names: Collection[str], found: dict[str, ImageLabels]
) -> ImageLabels | None:
    """Return the new entry of `found` for an image that is a frame; None if it is none."""
    name = image.file_name if image.file_name in names else image.file_name.rpartition("/")[2]
    if name not in names:
        return None
    if name in found:
        raise _bad(f"{place} is {name!r} once more")
    size = (image.width, image.height) if image.width and image.height else None
    found[name] = ImageLabels(size=size)
    return found[name]


def _keep(place: str, one: _Annotation, labels: ImageLabels, ids: set[int]) -> None:
    """Add an annotation to those of its image."""
    if one.id is not None and one.id in ids:
        raise _bad(f"{place} has the id {one.id} of another annotation")
    if one.id is not None:
        ids.add(one.id)
    if len(labels.boxes) == _MOST_BOXES:
        raise _bad(f"image {one.image_id} has more than {_MOST_BOXES:,} annotations")
    labels.boxes.append(one.bbox)
    labels.categories.append(one.category_id)
    labels.crowd.append(bool(one.iscrowd))


def _categories(given: Sequence[_Category]) -> dict[int, str]:
    found = {one.id: one.name for one in sorted(given, key=lambda one: one.id)}
    if len(found) < len(given):
        raise _bad("two categories have the same id")
    if not found:
        raise _bad("categories is empty")
    return found


def _bad(message: str) -> ConfigError:
    return ConfigError(
        f"model.task.labels: {message}",
        code="bad_labels",
        hint="COCO JSON: images (id, file_name), annotations (image_id, category_id, bbox) and "
        "categories (id, name)",
    )
