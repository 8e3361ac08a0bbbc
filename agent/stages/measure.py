"""All candidates measured together: idle window, warm-up, interleaved rounds, power alongside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.config import Measure
from agent.core.energy import mean_power
from agent.core.errors import MeasureError, RunnerError
from agent.core.lineage import Engine, Measurement, Measurements, Power
from agent.core.measurement import schedule, settled, sketch, steady, summarize
from agent.ports import Clock, EngineRunner, PowerMeter, Progress

if TYPE_CHECKING:
    from agent.ports import Tensors

_LEAST_RUNS = 5  # per round, however slow the candidate
_MOST_RUNS = 1_000_000
_LEAST_COVERAGE = 0.5  # power of a window less covered than this is not reported
_UNKNOWN_THROTTLING = "this machine has no throttling flag that quantd reads"


@dataclass(slots=True)
class _Bench:
    """One candidate on the bench."""

    engine: Engine
    runner: EngineRunner
    inputs: Sequence[Tensors]
    rounds_ns: list[NDArray[np.int64]] = field(default_factory=list)
    windows_ns: list[tuple[int, int]] = field(default_factory=list)


def measure(
    engines: Mapping[str, Engine],
    settings: Measure,
    *,
    make_runner: Callable[[Engine], EngineRunner],
    tensors: Callable[[Engine], Sequence[Tensors]],
    meter: PowerMeter | None,
    power_reason: str,
    clock: Clock,
    thermal: Callable[[], float | None],
    seed: int,
    progress: Progress,
) -> Measurements:
    """Measure every engine; one that fails is told and spoils no other.

    Args:
        engines: By candidate id.
        settings: Durations and rounds.
        make_runner: Makes an engine's runner, not yet entered.
        tensors: Returns a few real inputs for an engine, bound in turn, one a round.
        meter: Entered already and sampling, or None.
        power_reason: Why there is no meter.
        clock: Monotonic; only `run()` lies between two readings of it.
        thermal: Returns the hottest zone in deg C, None if unknown.
        seed: For the order of candidates and the bootstrap.
        progress: Told before every window.
    """
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        benches: dict[str, _Bench] = {}
        for name, engine in engines.items():
            try:
                runner = stack.enter_context(make_runner(engine))
                benches[name] = _Bench(engine, runner, tensors(engine))
            except RunnerError as error:
                failed[name] = error.message
        idle = _idle(settings, meter, clock, progress)
        steps = len(benches) * (settings.rounds + 1)
        done = 0
        for name in list(benches):
            progress(done, steps, f"warming up {name}")
            _guarded(name, benches, failed, partial(_warm_up, settings=settings, clock=clock))
            done += 1
        for number, order in enumerate(schedule(list(benches), settings.rounds, seed)):
            for name in order:
                progress(done, steps, _note(name, benches.get(name)))
                _guarded(
                    name,
                    benches,
                    failed,
                    partial(_window, settings=settings, clock=clock, number=number),
                )
                done += 1
        progress(steps, steps, "")
    measured = {
        name: _reduce(bench, meter, power_reason, idle, thermal(), seed)
        for name, bench in benches.items()
    }
    return Measurements(measured=measured, failed=failed)


def _guarded(
    name: str,
    benches: dict[str, _Bench],
    failed: dict[str, str],
    act: Callable[[_Bench], None],
) -> None:
    bench = benches.get(name)
    if bench is None:
        return
    try:
        act(bench)
    except RunnerError as error:
        failed[name] = error.message
        del benches[name]


def _idle(
    settings: Measure, meter: PowerMeter | None, clock: Clock, progress: Progress
) -> tuple[int, int] | None:
    """Let the machine rest with everything loaded, where power is measured at all."""
    if meter is None or settings.idle_s <= 0:
        return None
    progress(0, 0, f"idle for {settings.idle_s:g} s")
    begin = clock.monotonic_ns()
    clock.sleep(settings.idle_s)
    return begin, clock.monotonic_ns()


def _warm_up(bench: _Bench, settings: Measure, clock: Clock) -> None:
    """Run until the times settle, at most warmup_s, at least a few times."""
    bench.runner.bind(bench.inputs[0])
    spent: list[int] = []
    deadline = clock.monotonic_ns() + int(settings.warmup_s * 1e9)
    now = clock.monotonic_ns()
    while len(spent) < _LEAST_RUNS or (now < deadline and not settled(spent)):
        begin = clock.monotonic_ns()
        bench.runner.run()
        now = clock.monotonic_ns()
        spent.append(now - begin)


def _window(bench: _Bench, settings: Measure, clock: Clock, number: int) -> None:
    """Measure one candidate for its share of one round."""
    bench.runner.bind(bench.inputs[number % len(bench.inputs)])
    window_ns = int(settings.duration_s / settings.rounds * 1e9)
    times = np.zeros(1024, np.int64)
    run, now_ns = bench.runner.run, clock.monotonic_ns
    count = 0
    start = end = now_ns()
    while count < _MOST_RUNS and (end - start < window_ns or count < _LEAST_RUNS):
        begin = now_ns()
        run()
        end = now_ns()
        times[count] = end - begin
        count += 1
        if count == times.size:
            times = np.concatenate([times, np.zeros_like(times)])
    bench.rounds_ns.append(times[:count].copy())
    bench.windows_ns.append((start, end))


def _reduce(
    bench: _Bench,
    meter: PowerMeter | None,
    power_reason: str,
    idle: tuple[int, int] | None,
    temp_c: float | None,
    seed: int,
) -> Measurement:
    if not bench.rounds_ns:
        raise MeasureError("no round was measured")
    latency = summarize(bench.rounds_ns, seed)
    count = sum(one.size for one in bench.rounds_ns)
    busy_s = sum(end - begin for begin, end in bench.windows_ns) / 1e9
    power, reason = _power(bench, meter, power_reason, idle)
    return Measurement(
        engine=bench.engine.digest,
        latency_ms=latency,
        throughput_fps=count * bench.engine.batch / busy_s,
        power=power,
        power_reason=reason,
        energy_j=power.mean * busy_s / (count * bench.engine.batch) if power else None,
        steady=steady(bench.rounds_ns),
        throttled=None,
        throttled_reason=_UNKNOWN_THROTTLING,
        samples=count,
        rounds=len(bench.rounds_ns),
        sketch_ms=sketch(bench.rounds_ns),
        temp_c=temp_c,
    )


def _power(
    bench: _Bench, meter: PowerMeter | None, reason: str, idle: tuple[int, int] | None
) -> tuple[Power | None, str]:
    if meter is None:
        return None, reason
    samples = meter.samples()
    load = mean_power(samples, bench.windows_ns, meter.period_s)
    if load.mean_w is None or load.coverage < _LEAST_COVERAGE:
        return None, f"{meter.source} covered only {load.coverage:.0%} of the windows"
    rest = mean_power(samples, [idle], meter.period_s).mean_w if idle else None
    return Power(
        mean=load.mean_w,
        idle=rest,
        rail=meter.rail,
        source=meter.source,
        samples=load.samples,
        coverage=load.coverage,
        period_s=meter.period_s,
    ), ""


def _note(name: str, bench: _Bench | None) -> str:
    if bench is None or not bench.rounds_ns:
        return name
    return f"{name}, p50 {np.median(bench.rounds_ns[-1]) / 1e6:.2f} ms"
