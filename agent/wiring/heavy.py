"""The heavy stages with their adapters; each function runs in a job's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from agent.config import Config
from agent.core.errors import ConfigError
from agent.core.lineage import (
    CalibrationSet,
    CleanModel,
    Digest,
    Engine,
    Evaluation,
    Platform,
    QuantizedModel,
    digest_of,
)
from agent.core.upgrade import conditions, foreign
from agent.live.memory import default_reserve, scratch_mb
from agent.wiring.boards import facts
from agent.wiring.comparison import comparison
from agent.wiring.places import releases, store

if TYPE_CHECKING:
    from agent.core.lineage import PowerTrace
    from agent.core.preprocess import InputSpec
    from agent.core.report import Report
    from agent.ports import Camera, EngineRunner, Progress, Tensors

_BUILDS_ON_TENSORRT = "tensorrt"
_BUILDS_BY_ITSELF = "TensorrtExecutionProvider"
_TIMED_UNDER = ("driver", "l4t", "power_mode")


def input_spec(config: Config) -> InputSpec:
    """Return how a frame becomes a tensor, as configured."""
    from agent.core.preprocess import InputSpec

    table = config.model.input
    return InputSpec(**{name: getattr(table, name) for name in table.__struct_fields__})


def open_camera(config: Config) -> Camera:
    """Return the camera that the URI names."""
    table = config.camera
    size: dict[str, Any] = {"width": table.width, "height": table.height, "fps": table.fps}
    scheme = urlsplit(table.uri).scheme
    if scheme in {"rtsp", "rtsps", "http", "https", "file", "v4l2"}:
        from agent.adapters.camera_opencv import OpencvCamera

        return OpencvCamera(table.uri, **size)
    if scheme == "csi":
        from agent.adapters.camera_gstreamer import GstreamerCamera

        return GstreamerCamera(table.uri, **size)
    if scheme == "images":
        from agent.adapters.camera_images import ImagesCamera

        return ImagesCamera(table.uri, **size)
    if scheme == "profile":
        from agent.adapters.camera_profile import ProfileCamera

        return ProfileCamera(table.uri, **size)
    if scheme == "synthetic":
        from agent.adapters.camera_synthetic import SyntheticCamera

        return SyntheticCamera(table.uri, **size)
    raise ConfigError(
        f'camera.uri = "{table.uri}" is not understood',
        hint="v4l2:///dev/video0, csi://0, rtsp://..., http://... (MJPEG), file:///clip.mp4, "
        "images:///dir, profile:///profiles.csv or synthetic://",
    )


def identify(config: Config) -> str:
    """Return the identity of the user's model file, external data included."""
    from agent.stages.intake import identify as identity

    return identity(config.model)


def platform(config: Config) -> Platform:
    """Return the machine and the runtime that will execute."""
    from agent.adapters.platform_local import find_platform

    runtime = config.runtime
    return find_platform(runtime.kind, facts(config), runtime.compute_capability, runtime.providers)


def with_runtime(config: Config, kind: str) -> Config:
    """Return the configuration with another runtime, for the machine it runs on."""
    table = msgspec.structs.replace(config.runtime, kind=kind, compute_capability="")
    return msgspec.structs.replace(config, runtime=table)


def intake(config: Config, digest: Digest, work: str) -> CleanModel:
    """Run the intake stage."""
    from agent.adapters.intake_onnx import OnnxIntake
    from agent.stages.intake import intake as stage

    return stage(config.model, input_spec(config), digest=digest, work=work, intake=OnnxIntake())


def capture(
    config: Config, digest: Digest, work: str, *, seed: int, progress: Progress
) -> CalibrationSet:
    """Run the capture stage."""
    from agent.adapters.clock_system import SystemClock
    from agent.adapters.frames_opencv import OpencvFrames
    from agent.stages.capture import capture as stage

    with open_camera(config) as camera:
        return stage(
            config.calibration,
            digest=digest,
            work=work,
            camera=camera,
            frames=OpencvFrames(),
            clock=SystemClock(),
            seed=seed,
            progress=progress,
        )


def tensors(
    config: Config, model: CleanModel, folder: Path, names: tuple[str, ...], batch: int = 1
) -> Iterator[Tensors]:
    """Yield the model's input for each frame, or for each group of `batch` frames."""
    import numpy as np

    from agent.adapters.frames_opencv import OpencvFrames
    from agent.core.preprocess import resolved, to_tensor

    (tensor,) = model.inputs
    spec = resolved(input_spec(config), tensor.shape)
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

    from agent.core.preprocess import resolved, to_tensor

    (tensor,) = model.inputs
    spec = resolved(input_spec(config), tensor.shape)
    grey = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 1), np.uint8)
    return {tensor.name: to_tensor(np.repeat(grey, 3, axis=2), spec)}


def build(
    config: Config,
    quantized: tuple[QuantizedModel, Path],
    found: Platform,
    *,
    shape: tuple[int, int],
    digest: Digest,
    work: str,
    progress: Progress,
) -> Engine:
    """Run the build stage for a shape: (batch, accelerator, -1 for the GPU alone)."""
    from agent.adapters.clock_system import SystemClock
    from agent.stages.build import build as stage

    builder: Any
    if found.runtime == _BUILDS_ON_TENSORRT:
        from agent.adapters.builder_tensorrt import BuilderSettings, TensorrtBuilder

        settings = BuilderSettings(
            workspace_mb=_workspace_mb(config, found),
            level=config.runtime.builder_level,
            compute_capability=config.runtime.compute_capability,
            dla_core=shape[1],
            timings=str(Path(config.storage.dir, "timings")),
            device=found.device,
            conditions=" ".join(str(found.environment.get(fact)) for fact in _TIMED_UNDER),
        )
        builder = TensorrtBuilder(settings)
    else:
        from agent.adapters.builder_onnxruntime import OnnxruntimeBuilder

        table = config.runtime
        builder = OnnxruntimeBuilder(table.threads, found.device, table.providers, _cache(config))
    return stage(
        quantized[0],
        str(quantized[1] / "model.onnx"),
        shape[0],
        digest=digest,
        work=work,
        builder=builder,
        clock=SystemClock(),
        progress=progress,
    )


def _workspace_mb(config: Config, found: Platform) -> int:
    """Return the builder's limit: as configured, or what a GPU may take of everybody's memory."""
    if config.runtime.workspace_mb or found.environment.get("gpu_memory") != "shared":
        return config.runtime.workspace_mb
    return scratch_mb(default_reserve())


def runner(
    config: Config, runtime: str, path: Path, dla_core: int = -1, *, timed: bool = False
) -> EngineRunner:
    """Return the runner of an engine file, not yet entered; where it is timed, at its fastest."""
    if runtime == _BUILDS_ON_TENSORRT:
        from agent.adapters.runner_tensorrt import TensorrtRunner

        graphs = timed and config.runtime.cuda_graphs
        return TensorrtRunner(str(path), dla_core, graphs=graphs)
    from agent.adapters.runner_onnxruntime import OnnxruntimeRunner

    table = config.runtime
    return OnnxruntimeRunner(str(path), table.threads, table.providers, _cache(config))


def _cache(config: Config) -> str:
    """Return where TensorRT's provider keeps what it builds; under another driver it builds anew."""
    if _BUILDS_BY_ITSELF not in config.runtime.providers:
        return ""
    told = facts(config)
    key = digest_of("provider-cache-1", *(told.get(fact) for fact in _TIMED_UNDER))
    return str(Path(config.storage.dir, "provider-engines", key[:16]))


def evaluate(
    config: Config,
    engines: tuple[Engine, Engine],
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    *,
    digest: Digest,
    progress: Progress,
) -> Evaluation:
    """Run the evaluate stage for (engine, baseline)."""
    import psutil

    from agent.stages.evaluate import evaluate as stage

    engine, baseline = engines
    kept = store(config)
    process = psutil.Process()

    def make(which: Engine) -> Callable[[], EngineRunner]:
        path = Path(kept.directory(which.digest), which.file)
        return lambda: runner(config, which.runtime, path, which.dla_core)

    def held_out() -> Iterator[Tensors]:
        return tensors(config, model[0], calibration[1], calibration[0].holdout, batch=engine.batch)

    return stage(
        engine,
        digest=digest,
        make_runner=make(engine),
        make_baseline=make(baseline),
        tensors=held_out,
        comparison=comparison(
            config, [calibration[0].origins.get(name, "") for name in calibration[0].holdout]
        ),
        memory=lambda: int(process.memory_info().rss),
        progress=progress,
    )


def check_release(config: Config, release: str) -> None:
    """Load a release's engine as an application would, and run it once.

    Raises:
        RunnerError: if it doesn't load, run, or match its stated digest.
    """
    from agent.stages.evaluate import check_release as stage

    folder = Path(releases(config).path(release))
    stage(
        folder,
        lambda made_for, path: runner(
            config, str(made_for["kind"]), path, int(made_for.get("dla_core", -1))
        ),
        lambda made_for: _refusal(config, made_for),
    )


def _refusal(config: Config, made_for: Mapping[str, object]) -> str:
    """A TensorRT plan holds for the GPU it was built on; an ONNX file is portable."""
    if made_for.get("kind") != _BUILDS_ON_TENSORRT:
        return ""
    here = platform(with_runtime(config, _BUILDS_ON_TENSORRT))
    return ", ".join(foreign(made_for, conditions(here)))


def render(
    report: Report,
    frames: Path | None,
    sketches_ms: Mapping[str, Sequence[float]],
    traces: Sequence[PowerTrace],
) -> str:
    """Return report.html, with sample frames unless there is no folder to take them from."""
    from agent.adapters.report_html import render as page

    pictures = (
        [path.read_bytes() for path in sorted((frames / "thumbnails").glob("*.jpg"))]
        if frames
        else []
    )
    return page(report, pictures, sketches_ms, traces)
