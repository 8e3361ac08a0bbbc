"""Frames with what engines find on them: SVG over a small JPEG."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.records import Finding, Point, Scene, View

_NAMED = 5  # findings in a caption
_NAME = 24  # the width of a frame, in sizes of a name's letters: 12 px where it is 288 px wide
_MOST_CHARACTERS = 18  # of a name in the picture
_POINT = 120  # key points are as large as a frame's width divided by this


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One finding's lines: SVG path data, key points, and its name above its box; px of the frame."""

    outline: str
    points: tuple[Point, ...]
    name: str
    at: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownView:
    """One engine's results: the id of its candidate, its colour, its shapes, and their names."""

    by: str
    colour: str
    shapes: tuple[Shape, ...]
    names: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownScene:
    """One figure of the template; `alternative` is the text for readers without the picture."""

    width: int
    height: int
    jpeg: str
    words: str
    alternative: str
    views: tuple[ShownView, ...]
    point_px: float
    name_px: float


def shown_scenes(
    scenes: Sequence[Scene], pictures: Mapping[str, bytes], colours: Mapping[str, str]
) -> list[ShownScene]:
    """Return what the template draws: the scenes of which there is a picture.

    Args:
        scenes: With coordinates in px of the frame.
        pictures: JPEGs of any size, by the frame.
        colours: CSS colours by candidate.
    """
    return [
        _shown(scene, pictures[scene.frame], colours) for scene in scenes if scene.frame in pictures
    ]


def _shown(scene: Scene, jpeg: bytes, colours: Mapping[str, str]) -> ShownScene:
    name_px = scene.width / _NAME
    views = tuple(
        ShownView(
            by=name,
            colour=colours.get(name, "currentColor"),
            shapes=_shapes(view, name_px, labelled=place == 0),
            names=named(view),
        )
        for place, (name, view) in enumerate(scene.views.items())
    )
    found = ". ".join(f"{view.by}: {view.names}" for view in views)
    return ShownScene(
        width=scene.width,
        height=scene.height,
        jpeg=base64.b64encode(jpeg).decode("ascii"),
        words=scene.words,
        alternative=f"A frame of the camera. {scene.words}. {found}.",
        views=views,
        point_px=round(scene.width / _POINT, 1),
        name_px=round(name_px, 1),
    )


def _shapes(view: View, name_px: float, *, labelled: bool) -> tuple[Shape, ...]:
    """Return what is drawn of an engine's findings, with names only where they differ."""
    drawn = [one for one in view.findings if one.box or one.mask or one.points]
    labelled = labelled and len({one.name for one in drawn}) > 1
    shapes = []
    for one in drawn:
        left, top = (min(side) for side in zip(*one.box, strict=True)) if one.box else (0.0, 0.0)
        shapes.append(
            Shape(
                outline=_outline(one),
                points=one.points,
                name=_shortened(one.name) if labelled and one.box else "",
                at=(max(left, 0.0), max(top - name_px / 3, name_px)),
            )
        )
    return tuple(shapes)


def _shortened(name: str) -> str:
    return name if len(name) <= _MOST_CHARACTERS else f"{name[: _MOST_CHARACTERS - 1]}…"


def named(view: View) -> str:
    """Return the findings by name and score, as in "person (0.92), dog (0.71) and 3 more"."""
    shown = [_name(one) for one in view.findings[:_NAMED]]
    more = view.count - len(shown)
    return (", ".join(shown) or "nothing") + (f" and {more} more" if more > 0 else "")


def _name(finding: Finding) -> str:
    return finding.name if finding.score is None else f"{finding.name} ({finding.score:.2f})"


def _outline(finding: Finding) -> str:
    corners = " ".join(f"{x:g},{y:g}" for x, y in finding.box)
    return (f"M{corners}Z" if corners else "") + finding.mask
