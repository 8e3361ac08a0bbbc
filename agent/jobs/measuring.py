"""Measurements and profiles with their runners, power sensor and power mode; in a job's process."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config, Measure
from agent.core.choice.limits import keeps_so_far
from agent.core.errors import PowerError
from agent.core.quantization.division import Division, divide
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    Engine,
    LayerSpeeds,
    Measurements,
    Profiles,
    Timing,
)
from agent.jobs import engines as running
from agent.jobs import frames, sensors
from agent.jobs.sensors import Sensor
from agent.jobs.trials import trial_of
from agent.stages.measuring.duration import stretched
from agent.wire.jobs import MeasureEngines, ProfileEngines, TimeLayers
from agent.wiring import storage
from agent.wiring.boards import power_modes

if TYPE_CHECKING:
    from agent.core.measurement.elimination import RoundsNs
    from agent.core.measurement.layer_times import EngineProfile
    from agent.ports import PowerMeter, PowerModes, Progress, Tensors
    from agent.stages.measuring.measure import Selection

_BIND_FRAMES = 4  # held-out frames that measuring cycles through


def measure(
    spec: MeasureEngines,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> Measurements:
    """Run the measure stage on a few held-out frames of a calibration set in its folder."""
    from agent.adapters.host.clock import SystemClock
    from agent.adapters.host.conditions import read_conditions
    from agent.stages.measuring.measure import measure as stage

    config = spec.config
    modes = power_modes(config)
    with ExitStack() as stack:
        if spec.power_mode:
            stack.enter_context(modes.set_temporarily(spec.power_mode))
        mode = _present(modes)
        sensor = _sensor(spec, stack)
        meter = sensor.meter
        found = stage(
            spec.engines,
            _protocol(config, meter),
            make_runner=partial(running.stored_runner, config, timed=True),
            tensors=lambda engine: _inputs(config, model, calibration, engine.batch),
            power=[meter, *sensors.checks(config, meter, stack)] if meter else sensor.reason,
            clock=SystemClock(),
            conditions=read_conditions,
            seed=spec.seed,
            progress=progress,
            selection=_selection(spec),
        )
        found = _with_mode(found, mode, _present(modes))
    return sensors.with_scope(found, config, sensor.passed_over)


def profile(
    spec: ProfileEngines,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> Profiles:
    """Run the profile stage on the frames that measuring uses."""
    from agent.stages.measuring.profile import profile as stage

    config = spec.config
    kept = storage.store(config)

    def graph(engine: Engine) -> str:
        return str(Path(kept.directory(engine.quantized), "model.onnx"))

    return stage(
        spec.engines,
        spec.baselines,
        profiler=lambda engine: running.profiler(config, engine, graph(engine), spec.work),
        path=lambda engine: str(Path(kept.directory(engine.digest), engine.file)),
        tensors=lambda engine: _inputs(config, model, calibration, engine.batch),
        progress=progress,
    )


def time_layers(
    spec: TimeLayers,
    model: CleanModel,
    conditioned: Path,
    statistics: Path,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> LayerSpeeds:
    """Profile an engine in INT8 and one in float, on the frames that measuring uses."""
    from agent.core.quantization.calibrator_names import CALIBRATORS
    from agent.core.quantization.mixed_search import Placement
    from agent.stages.measuring.layer_speeds import time_layers as stage

    config = spec.config
    kept = storage.store(config)
    no_frames: Division[Tensors] = Division(
        parts=((), ()), folds=divide(calibration[0].frames).folds
    )
    trial = trial_of(config, conditioned, statistics, spec.scheme, no_frames)

    def profiled(engine: Engine, name: str, done: int) -> EngineProfile:
        progress(done, 3, f"profiling {name}")
        source = str(Path(kept.directory(engine.quantized), "model.onnx"))
        path = str(Path(kept.directory(engine.digest), engine.file))
        inputs = _inputs(config, model, calibration, engine.batch)
        return running.profiler(config, engine, source, spec.work).profile(path, inputs)

    def alternating(layers: frozenset[str]) -> EngineProfile:
        progress(2, 3, "profiling every other layer in float")
        path, any_calibrator = Path(spec.work, "alternating.onnx"), next(iter(CALIBRATORS))
        trial.write(Placement(calibrator=any_calibrator, kept=layers), str(path))
        try:
            inputs = _inputs(config, model, calibration, 1)
            return running.profiler(config, spec.int8, "", spec.work).profile(str(path), inputs)
        finally:
            path.unlink()

    return stage(
        profiled(spec.int8, "int8", 0),
        profiled(spec.floating, spec.precision, 1),
        digest=spec.digest,
        precision=spec.precision,
        trial=trial,
        alternating=None if spec.int8.runtime == running.TENSORRT else alternating,
    )


def _inputs(
    config: Config, model: CleanModel, calibration: tuple[CalibrationSet, Path], batch: int
) -> list[Tensors]:
    """Return a few inputs; their frames repeat where there are too few."""
    names = calibration[0].holdout
    wanted = tuple(names[i % len(names)] for i in range(_BIND_FRAMES * batch))
    return list(frames.tensors(config, model, calibration[1], wanted, batch=batch))


def _sensor(spec: MeasureEngines, stack: ExitStack) -> Sensor:
    """Return the sensor, entered; without it, everything but the power is still measured."""
    try:
        return sensors.opened(spec.config, gpu=sensors.on_gpu(spec.engines.values()), stack=stack)
    except PowerError as error:
        return Sensor(meter=None, reason=error.message)


def _present(modes: PowerModes) -> str:
    """Return the power mode, "" on a machine without any."""
    try:
        return modes.current()
    except PowerError:
        return ""


def _with_mode(found: Measurements, before: str, after: str) -> Measurements:
    """Note with every measurement that another process changed the power mode meanwhile."""
    if before == after or not (before and after):
        return found
    change = f"the power mode changed from {before} to {after} meanwhile"
    measured = {name: replace(one, mode_change=change) for name, one in found.measured.items()}
    return replace(found, measured=measured)


def _protocol(config: Config, meter: PowerMeter | None) -> Measure:
    """Return the protocol, its windows long enough for the sensor where power decides."""
    if meter is None or not config.requirements.power_decides:
        return config.measure
    return stretched(config.measure, meter.period_s)


def _selection(spec: MeasureEngines) -> Selection | None:
    """Return which candidates a fast search measures on; None for all, as where power decides."""
    requirements = spec.config.requirements
    count = requirements.objective.frames
    if not spec.fast or not requirements.latency_decides or count is None:
        return None
    from agent.core.measurement.elimination import survivors, within_limits

    batches = {name: one.batch for name, one in spec.engines.items()}
    frames = {name: count(batch) for name, batch in batches.items()}

    def keeps(timing: Timing) -> bool:
        return keeps_so_far(timing, requirements.limits)

    def select(rounds_ns: RoundsNs) -> frozenset[str]:
        kept = within_limits(rounds_ns, batches, keeps)
        return survivors(rounds_ns, frames, spec.baselines, spec.same_graph_alternatives, kept)

    return select
