"""A look into the model file and through the camera, in a job's process."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.config import Config
from agent.core.errors import CameraError, ModelError
from agent.core.setup.facts import CameraFacts, ModelFacts
from agent.jobs.frames import open_camera
from agent.wire.jobs import LookUnderPresets

_FIRST_S = 30.0  # a network camera may have to be connected
_NEXT_S = 2.0
_MOST_FRAMES = 16
_FRAME = "frame.png"
_PICTURE_PX, _PICTURE_BYTES = 480, 20_000


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


def look(spec: LookUnderPresets) -> str:
    """Return the page of what the model finds on one frame under each choice of pixels.

    Raises:
        CameraError: if the camera gives no frame.
        ModelError: "not_run" if ONNX Runtime does not run the model.
    """
    from agent.adapters.graphs.as_written import outputs_as_written
    from agent.adapters.storage.frames import OpencvFrames
    from agent.core.fidelity.looks import looks
    from agent.core.fidelity.results import FrameSize
    from agent.core.fidelity.task import Task
    from agent.core.frames.preprocess import to_tensor
    from agent.page.look import render_look

    config, frames = spec.config, OpencvFrames()
    base, task = config.model.input.spec, config.model.task
    specs = {
        name: replace(base, **{key: value for key, value in asdict(one).items() if value != ""})
        for name, one in spec.choices.items()
    }
    with open_camera(config) as camera, TemporaryDirectory() as folder:
        image = camera.read(_FIRST_S).image
        frames.write(folder, _FRAME, image)
        path, source = str(Path(folder, _FRAME)), camera.source
        fitted = frames.read(path, base)
        inputs = ({"": to_tensor(fitted, one)} for one in specs.values())
        outputs = outputs_as_written(config.model.path, inputs, config.runtime.threads)
        height, width = image.shape[:2]
        scenes = looks(
            dict(zip(specs, outputs, strict=True)),
            Task(kind=task.kind, decoding=task.decoding, names=task.names),
            specs,
            FrameSize(width=width, height=height),
        )
        jpeg = frames.jpeg(path, _PICTURE_PX, _PICTURE_BYTES)
    model, named = Path(config.model.path).name, bool(task.names) or task.kind == "generic"
    return render_look(model, source, scenes, jpeg, named=named)
