"""A look into the model file and through the camera, in a job's process."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from agent.config import Config
from agent.core.errors import CameraError, ModelError
from agent.core.setup.facts import CameraFacts, ModelFacts
from agent.jobs.frames import open_camera

_FIRST_S = 30.0  # a network camera may have to be connected
_NEXT_S = 2.0
_MOST_FRAMES = 16


def model_facts(config: Config) -> ModelFacts:
    """Return what the model file and the files beside it state.

    Raises:
        ModelError: if it can't be read, or is no valid ONNX model.
    """
    from agent.adapters.graphs.looking import look_into

    path = Path(config.model.path)
    try:
        return look_into(path)
    except OSError as e:
        raise ModelError(
            f"{path}: {e.strerror}", code="no_model", hint="check the path of the model"
        ) from e


def camera_facts(config: Config) -> CameraFacts:
    """Return the size of the camera's frames and their rate.

    Raises:
        CameraError: if it gives no frame.
    """
    with open_camera(config) as camera:
        first = camera.read(_FIRST_S)
        times_ns = [first.captured_ns]
        while len(times_ns) < _MOST_FRAMES:
            try:
                times_ns.append(camera.read(_NEXT_S).captured_ns)
            except CameraError:
                break
        source = camera.source
    height, width = first.image.shape[:2]
    gaps_ns = sorted(after - before for before, after in pairwise(times_ns))
    middle = gaps_ns[len(gaps_ns) // 2] if len(gaps_ns) > 2 else 0
    return CameraFacts(
        source=source, width=width, height=height, rate_fps=1e9 / middle if middle else None
    )
