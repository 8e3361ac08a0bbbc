"""A look into a model file and through a camera, by jobs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from agent.adapters.host.jobs import SubprocessJobs
from agent.config import CameraTable, Config, Model
from agent.core.frames.pixels import PixelPreset
from agent.core.setup.facts import CameraFacts, ModelFacts
from agent.wire.jobs import LookAtCamera, LookIntoModel, LookUnderPresets


def look_into(model: str, cancelled: threading.Event) -> ModelFacts:
    """Return what a model file and the files beside it state.

    Raises:
        ModelError: if it can't be read, or is no valid ONNX model.
    """
    config = Config(model=Model(path=str(Path(model).absolute())))
    return SubprocessJobs().run(LookIntoModel(config=config), progress=_silent, cancelled=cancelled)


def look_at(camera: str, cancelled: threading.Event) -> CameraFacts:
    """Return the size of a camera's frames and their rate.

    Raises:
        ConfigError: if there is no such camera.
        CameraError: if it gives no frame.
    """
    config = Config(camera=CameraTable(uri=camera))
    return SubprocessJobs().run(LookAtCamera(config=config), progress=_silent, cancelled=cancelled)


def look_under(
    config: Config, choices: Mapping[str, PixelPreset], cancelled: threading.Event
) -> str:
    """Return a page of what a model finds on one frame under each choice of pixels.

    Args:
        config: With the camera, the model, its input but for the pixels, and its task.
        choices: By their names.
        cancelled: Ends the job.

    Raises:
        CameraError: if the camera gives no frame.
        ModelError: if ONNX Runtime does not run the model.
    """
    spec = LookUnderPresets(config=config, choices=choices)
    return SubprocessJobs().run(spec, progress=_silent, cancelled=cancelled)


def _silent(_done: int, _total: int, _note: str, _candidate: str = "") -> None:
    """Take a report of progress: both jobs are short."""
