"""The measure stage with its runners, its power sensor and its power mode; in a job's process."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config, Measure
from agent.core.errors import PowerError
from agent.core.lineage import CalibrationSet, CleanModel, Measurements, Power
from agent.stages.duration import power_decides, stretched
from agent.stages.judging import Sitting
from agent.wiring import heavy, places
from agent.wiring.boards import excluded, power_modes

if TYPE_CHECKING:
    from agent.core.halving import RoundsNs
    from agent.ports import PowerMeter, Progress
    from agent.stages.measure import Selection

_BIND_FRAMES = 4  # held-out frames that measuring cycles through


def measure(
    config: Config,
    sitting: Sitting,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    *,
    progress: Progress,
) -> Measurements:
    """Run the measure stage for all engines together.

    Args:
        config: For the protocol, the sensor and the strategy.
        sitting: The engines, the power mode and who may be left out.
        model: The clean model and its folder.
        calibration: The frames and their folder.
        progress: Told before every window.
    """
    engines = sitting.engines
    from agent.adapters.clock_system import SystemClock
    from agent.adapters.conditions_sysfs import read_conditions
    from agent.stages.measure import measure as stage

    kept = places.store(config)
    largest = max(engine.batch for engine in engines.values())
    names = calibration[0].holdout
    wanted = tuple(names[i % len(names)] for i in range(_BIND_FRAMES * largest))
    with ExitStack() as stack:
        if sitting.power_mode:
            stack.enter_context(power_modes(config).held(sitting.power_mode))
        meter, reason = _power_meter(config, stack)
        found = stage(
            engines,
            _protocol(config, meter),
            make_runner=lambda engine: heavy.runner(
                config,
                engine.runtime,
                Path(kept.directory(engine.digest), engine.file),
                engine.dla_core,
            ),
            tensors=lambda engine: list(
                heavy.tensors(config, model[0], calibration[1], wanted, batch=engine.batch)
            )[:_BIND_FRAMES],
            power=[meter, *_checks(meter, stack)] if meter else reason,
            clock=SystemClock(),
            conditions=read_conditions,
            seed=sitting.seed,
            progress=progress,
            selection=_selection(config, sitting),
        )
    return _with_scope(found, config)


def _protocol(config: Config, meter: PowerMeter | None) -> Measure:
    """Return the protocol, its windows long enough for the sensor where power decides."""
    if meter is None or not power_decides(config):
        return config.measure
    return stretched(config.measure, meter.period_s)


def _selection(config: Config, sitting: Sitting) -> Selection | None:
    """Return who is measured on in a fast search; where power counts, everybody."""
    objective, limits = config.objective.metric, config.limits
    if not sitting.fast or power_decides(config):
        return None
    from agent.core.halving import keeping, survivors

    batches = {name: one.batch for name, one in sitting.engines.items()}
    frames = batches if objective == "throughput" else dict.fromkeys(batches, 1)

    def select(rounds_ns: RoundsNs) -> frozenset[str]:
        kept = keeping(rounds_ns, batches, limits.latency_p99_ms, limits.fps)
        return survivors(rounds_ns, frames, sitting.baselines, sitting.spares, kept)

    return select


def _with_scope(found: Measurements, config: Config) -> Measurements:
    """Say with each power what is not in it."""

    def scoped(power: Power | None) -> Power | None:
        return replace(power, excludes=excluded(config, power.rail)) if power else None

    return replace(
        found,
        measured={
            name: replace(
                one,
                power=scoped(one.power),
                at_rate=replace(one.at_rate, power=scoped(one.at_rate.power))
                if one.at_rate
                else None,
            )
            for name, one in found.measured.items()
        },
    )


def power_source(config: Config) -> tuple[str, str]:
    """Return the name of the power sensor that would be used, or "" and why there is none."""
    with ExitStack() as stack:
        meter, reason = _power_meter(config, stack)
        if meter is None:
            return "", reason
        left_out = excluded(config, meter.rail)
        seen = f"{meter.source}, rail {meter.rail}"
        return seen + (f" (not in it: {left_out})" if left_out else ""), ""


def _power_meter(config: Config, stack: ExitStack) -> tuple[PowerMeter | None, str]:
    """Return the meter, entered, or None and the reason in words."""
    wanted = config.measure.power
    if wanted == "none":
        return None, 'not measured: measure.power is "none"'
    tried = []
    for name in ("jtop", "ina3221", "nvml", "rapl") if wanted == "auto" else (wanted,):
        try:
            return stack.enter_context(_meter(name)), ""
        except PowerError as error:
            if wanted != "auto":
                raise
            tried.append(f"{name}: {error.message}")
    return None, "no power sensor on this machine (" + "; ".join(tried) + ")"


def _checks(meter: PowerMeter, stack: ExitStack) -> list[PowerMeter]:
    """Return the sensor itself, entered, beside the service that reads the same rail of it."""
    if meter.source != "jtop":
        return []
    try:
        other = _meter("ina3221")
        return [stack.enter_context(other)] if other.rail == meter.rail else []
    except PowerError:
        return []  # there is no second way, which takes nothing from the first


def _meter(name: str) -> PowerMeter:
    if name == "jtop":
        from agent.adapters.power_jtop import JtopPowerMeter

        return JtopPowerMeter()
    if name == "ina3221":
        from agent.adapters.power_ina3221 import Ina3221PowerMeter

        return Ina3221PowerMeter()
    if name == "nvml":
        from agent.adapters.power_nvml import NvmlPowerMeter

        return NvmlPowerMeter()
    from agent.adapters.power_rapl import RaplPowerMeter

    return RaplPowerMeter()
