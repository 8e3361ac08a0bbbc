"""What a configuration may mean by mistake, to be questioned before a run."""

from __future__ import annotations

from collections.abc import Iterable

from agent.config.tables import Config
from agent.core.frames.pixel_doubts import pixel_doubts

_PIXELS = frozenset(f"model.input.{key}" for key in ("pixels", "scale", "mean", "std"))


def doubts(config: Config, set_keys: Iterable[str]) -> tuple[str, ...]:
    """Return what is to be questioned, each in a sentence; empty if nothing is.

    Args:
        config: The configuration.
        set_keys: The dotted keys that are not defaults, as `load_with_origin` returns them.
    """
    if not config.model.path:
        return ()
    return pixel_doubts(config.model.input.spec, stated=not _PIXELS.isdisjoint(set_keys))
