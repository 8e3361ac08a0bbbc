"""Frames with what engines find on them: SVG over a small JPEG."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.records import Finding, Point, Scene, View

TEMPLATE = "scenes.html.j2"
_NAMED = 5  # findings in a caption
_POINT = 120  # key points are as large as a frame's width divided by this


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One finding's lines: SVG path data, and key points, px of the frame."""

    outline: str
    points: tuple[Point, ...]


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
    views = tuple(
        ShownView(
            by=name,
            colour=colours.get(name, "currentColor"),
            shapes=tuple(
                Shape(outline=_outline(one), points=one.points)
                for one in view.findings
                if one.box or one.mask or one.points
            ),
            names=named(view),
        )
        for name, view in scene.views.items()
    )
    found = ". ".join(f"{view.by}: {view.names}" for view in views)
    return ShownScene(
        width=scene.width,
        height=scene.height,
        jpeg=base64.b64encode(jpeg).decode("ascii"),
        words=scene.words,
        alternative=f"A holdout frame. {scene.words}. {found}.",
        views=views,
        point_px=round(scene.width / _POINT, 1),
    )


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
