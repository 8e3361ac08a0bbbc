"""The page of `quantd init --look`: one frame, with a model's answers under each choice of pixels."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.records import Scene
from agent.page.scenes import shown_scenes
from agent.page.templates import template


def render_look(
    model: str, source: str, scenes: Sequence[Scene], jpeg: bytes, *, named: bool
) -> str:
    """Return the page.

    Args:
        model: Name of the model file.
        source: URI of the camera, without credentials.
        scenes: The frame under each choice, named by it; its words are the choice and what it does.
        jpeg: The frame.
        named: Whether the classes have names.
    """
    shown = shown_scenes(
        scenes,
        {scene.frame: jpeg for scene in scenes},
        colours={name: "var(--c0)" for scene in scenes for name in scene.views},
    )
    return template("look.html.j2").render(model=model, source=source, scenes=shown, named=named)
