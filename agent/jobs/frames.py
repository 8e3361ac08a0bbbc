"""The camera, and the model's input made from stored frames, in a job's process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import Config
from agent.core.frames.camera_uri import camera_kind
from agent.core.frames.input_spec import resolved
from agent.core.records import CalibrationSet, CleanModel
from agent.wire.jobs import CaptureFrames

if TYPE_CHECKING:
    from agent.ports import Camera, Progress, Tensors

_FRAMES_BYTES = 96_000_000  # for inputs and FP32 outputs of the frames that try INT8 graphs
_FEWEST_FRAMES = 4


def open_camera(config: Config) -> Camera:
    """Return the camera that the URI names.

    Raises:
        ConfigError: if there is no such camera.
        CameraError: if its adapter can't be used here.
    """
    table = config.camera
    module, _, name = camera_kind(table.uri).adapter.partition(":")
    adapter = getattr(import_module(f"agent.adapters.cameras.{module}"), name)
    camera: Camera = adapter(table.uri, width=table.width, height=table.height, fps=table.fps)
    return camera


def capture(spec: CaptureFrames, progress: Progress) -> CalibrationSet:
    """Run the capture stage."""
    from agent.adapters.host.clock import SystemClock
    from agent.adapters.storage.frames import OpencvFrames
    from agent.stages.capture import capture as stage

    with open_camera(spec.config) as camera:
        return stage(
            spec.config.calibration,
            digest=spec.digest,
            work=spec.work,
            camera=camera,
            live=camera_kind(spec.config.camera.uri).live,
            frames=OpencvFrames(),
            clock=SystemClock(),
            seed=spec.seed,
            progress=progress,
        )


def tensors(
    config: Config, model: CleanModel, folder: Path, names: tuple[str, ...], batch: int = 1
) -> Iterator[Tensors]:
    """Yield the model's input for each frame, or for each group of `batch` frames."""
    import numpy as np

    from agent.adapters.storage.frames import OpencvFrames
    from agent.core.frames.preprocess import to_tensor

    (tensor,) = model.inputs
    spec = resolved(config.model.input.spec, tensor.shape)
    frames = OpencvFrames()
    group: list[Any] = []
    for name in names:
        group.append(to_tensor(frames.read(str(folder / "frames" / name), spec), spec))
        if len(group) == batch:
            yield {tensor.name: group[0] if batch == 1 else np.concatenate(group)}
            group = []


def every_level(config: Config, model: CleanModel) -> Tensors:
    """Return the model's input for a frame with all the levels that pixels have, at random.

    It is grey, so that a model of grey pictures sees their levels and no others.
    """
    import numpy as np

    from agent.core.frames.preprocess import to_tensor

    (tensor,) = model.inputs
    spec = resolved(config.model.input.spec, tensor.shape)
    grey = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 1), np.uint8)
    return {tensor.name: to_tensor(np.repeat(grey, 3, axis=2), spec)}


def some_frames(
    config: Config,
    model: CleanModel,
    folder: Path,
    names: Sequence[str],
    most: int,
    *,
    share: int = 1,
) -> list[Tensors]:
    """Return inputs spread over frames, as many as memory allows.

    Args:
        config: The effective configuration.
        model: What takes them.
        folder: Of the calibration set.
        names: Of the frames.
        most: At most this many.
        share: How many such lists are in memory.
    """
    outputs = 4 * sum(prod(tensor.shape) for tensor in model.outputs)
    inputs = 4 * sum(prod(tensor.shape) for tensor in model.inputs)
    count = max(_FEWEST_FRAMES, min(most, _FRAMES_BYTES // (share * (inputs + outputs))))
    step = max(len(names) // count, 1)
    return list(tensors(config, model, folder, tuple(names[::step][:count])))
