"""The pictures of the page, and what engines find on them; in a job's process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.records import CalibrationSet, CleanModel, Scenes
from agent.jobs.comparison import comparison
from agent.jobs.engines import stored_runner
from agent.jobs.frames import tensors
from agent.wire.jobs import ShowScenes

if TYPE_CHECKING:
    from agent.core.fidelity.results import FrameSize
    from agent.ports import Progress, Tensors

_MOST_FRAMES = 32  # to choose from
_SCENE_PX, _SCENE_BYTES = 480, 14_000  # four are less than 80 kB in base64
_SMALL_PX, _SMALL_BYTES = 160, 4_000
_SMALL = 12


def show(
    spec: ShowScenes,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> Scenes:
    """Run the engines on holdout frames and choose those that are shown."""
    from agent.core.fidelity.scenes import Gallery
    from agent.core.frames.input_spec import resolved
    from agent.stages.show import show as stage

    config = spec.config
    baseline, *others = spec.engines
    gallery = Gallery(
        spec.task,
        resolved(config.model.input.spec, model.inputs[0].shape),
        baseline,
        others[0] if others else None,
        lambda: comparison(config, model),
    )
    scenes = stage(
        gallery,
        _batches(config, model, calibration, spec.engines[baseline].batch),
        make_runners=[partial(stored_runner, config, engine) for engine in spec.engines.values()],
        progress=progress,
    )
    return Scenes(scenes=scenes)


def _batches(
    config: Config, model: CleanModel, calibration: tuple[CalibrationSet, Path], batch: int
) -> Iterator[tuple[list[tuple[str, FrameSize]], Tensors]]:
    """Yield the names and sizes of each batch of frames, and the input made of them."""
    from agent.adapters.storage.frames import OpencvFrames
    from agent.core.fidelity.results import FrameSize

    frames, folder = calibration
    names = sorted(frames.holdout)
    spread = names[:: -(-len(names) // _MOST_FRAMES)] if names else []
    inputs = tensors(config, model, folder, tuple(spread), batch)
    for index, one in enumerate(inputs):
        group = spread[index * batch : (index + 1) * batch]
        sizes = (OpencvFrames().size(str(folder / "frames" / name)) for name in group)
        yield (
            [
                (name, FrameSize(width=width, height=height))
                for name, (width, height) in zip(group, sizes, strict=True)
            ],
            one,
        )


def pictures(
    config: Config, scenes: Scenes, calibration: tuple[CalibrationSet, Path]
) -> tuple[dict[str, bytes], list[bytes]]:
    """Return JPEGs of the scenes' frames by name, and small ones of some calibration frames.

    Both are empty where the page may contain no pictures.
    """
    if not config.shows_pictures:
        return {}, []
    from agent.adapters.storage.frames import OpencvFrames

    frames, folder = calibration

    def jpeg(name: str, side_px: int, most_bytes: int) -> bytes:
        return OpencvFrames().jpeg(str(folder / "frames" / name), side_px, most_bytes)

    large = {one.frame: jpeg(one.frame, _SCENE_PX, _SCENE_BYTES) for one in scenes.scenes}
    small = [jpeg(name, _SMALL_PX, _SMALL_BYTES) for name in frames.frames[:_SMALL]]
    return large, small
