"""All candidates measured together: idle window, warm-up, interleaved rounds, power alongside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.config import Measure
from agent.core.energy import Conditions, PowerSample, mean_power
from agent.core.errors import PowerError, RunnerError
from agent.core.lineage import Engine, Measurement, Measurements, Power
from agent.core.measurement import schedule, settled, sketch, steady, summarize
from agent.ports import Clock, EngineRunner, PowerMeter, Progress

if TYPE_CHECKING:
    from agent.ports import Tensors

_LEAST_RUNS = 5  # per window, however slow the candidate
_MOST_RUNS = 1_000_000
_REFILL_RUNS = 2  # untimed after another candidate had the caches
_WARMUP_SLICES = 10
_TRACE = 200  # points of a candidate in the plot of power
_LEAST_COVERAGE = 0.5  # power of a window less covered than this is not reported
_UNKNOWN_THROTTLING = "this machine has no throttling flag that quantd reads"


Selection = Callable[[Mapping[str, Sequence[NDArray[np.int64]]]], frozenset[str]]
"""Given the rounds of each candidate so far, ns, returns who is measured on."""


@dataclass(slots=True)
class _Bench:
    """One candidate on the bench."""

    engine: Engine
    runner: EngineRunner
    inputs: Sequence[Tensors]
    rounds_ns: list[NDArray[np.int64]] = field(default_factory=list)
    windows_ns: list[tuple[int, int]] = field(default_factory=list)
    conditions: list[Conditions] = field(default_factory=list)
    device_ms: list[float] = field(default_factory=list)


def measure(
    engines: Mapping[str, Engine],
    settings: Measure,
    *,
    make_runner: Callable[[Engine], EngineRunner],
    tensors: Callable[[Engine], Sequence[Tensors]],
    power: PowerMeter | str,
    clock: Clock,
    conditions: Callable[[], Conditions],
    seed: int,
    progress: Progress,
    selection: Selection | None = None,
) -> Measurements:
    """Measure every engine; one that fails is told and spoils no other.

    Args:
        engines: By candidate id.
        settings: Durations and rounds.
        make_runner: Makes an engine's runner, not yet entered.
        tensors: Returns a few real inputs for an engine, bound in turn, one a round.
        power: The meter, entered already and sampling, or why there is none.
        clock: Monotonic; only `run()` lies between two readings of it.
        conditions: Returns temperature and throttling now; asked around every window.
        seed: For the order of candidates.
        progress: Told before every window.
        selection: Returns who goes into the next round, given what has been measured so far;
            all do if it is not given. Who is left out keeps the rounds that it had.

    Returns:
        Every engine as measured or as failed. It takes about idle_s + engines * (warmup_s +
        duration_s), or more where five runs take longer than a window.
    """
    failed: dict[str, str] = {}
    meter, power_reason = (None, power) if isinstance(power, str) else (power, "")
    with ExitStack() as stack:
        benches = _load(engines, make_runner, tensors, failed, stack)
        idle = _idle(settings, meter, clock, progress) if benches else None
        steps = len(benches) * (settings.rounds + 1)
        done = 0
        for name in list(benches):
            progress(done, steps, f"warming up {name}")
            _guarded(name, benches, failed, partial(_warm_up, settings=settings, clock=clock))
            done += 1
        running = set(benches)
        for number, order in enumerate(schedule(list(benches), settings.rounds, seed)):
            take = partial(
                _window, settings=settings, clock=clock, number=number, conditions=conditions
            )
            for name in order:
                progress(done, steps, _note(name, benches.get(name), meter))
                if name in running:
                    _guarded(name, benches, failed, take)
                done += 1
            running &= benches.keys()
            if selection and running:
                running &= selection({name: benches[name].rounds_ns for name in running})
        progress(steps, steps, "")
    measured = {
        name: replace(
            _reduce(bench, meter, power_reason, idle),
            behind=len(bench.rounds_ns) < settings.rounds,
        )
        for name, bench in benches.items()
    }
    return Measurements(measured=measured, failed=failed)


def _load(
    engines: Mapping[str, Engine],
    make_runner: Callable[[Engine], EngineRunner],
    tensors: Callable[[Engine], Sequence[Tensors]],
    failed: dict[str, str],
    stack: ExitStack,
) -> dict[str, _Bench]:
    benches: dict[str, _Bench] = {}
    for name, engine in engines.items():
        inputs = tensors(engine)
        if not inputs:
            failed[name] = f"fewer held-out frames than the batch of {engine.batch}"
            continue
        try:
            runner = stack.enter_context(make_runner(engine))
        except RunnerError as error:
            failed[name] = error.message
            continue
        benches[name] = _Bench(engine, runner, inputs)
    return benches


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
    """Run in slices until their medians settle, for warmup_s at most."""
    bench.runner.bind(bench.inputs[0])
    bench.runner.run()
    deadline_ns = clock.monotonic_ns() + int(settings.warmup_s * 1e9)
    slice_ns = int(settings.warmup_s / _WARMUP_SLICES * 1e9)
    medians_ns: list[float] = []
    while not settled(medians_ns):
        times_ns, (_, end_ns) = _timed(bench.runner, clock, slice_ns, [])
        medians_ns.append(float(np.median(times_ns)))
        if end_ns >= deadline_ns:
            break


def _window(
    bench: _Bench,
    settings: Measure,
    clock: Clock,
    number: int,
    conditions: Callable[[], Conditions],
) -> None:
    """Measure one candidate for its share of one round."""
    before = conditions()
    bench.runner.bind(bench.inputs[number % len(bench.inputs)])
    for _ in range(_REFILL_RUNS):
        bench.runner.run()
    times_ns, window_ns = _timed(
        bench.runner, clock, int(settings.duration_s / settings.rounds * 1e9), bench.device_ms
    )
    bench.rounds_ns.append(times_ns)
    bench.windows_ns.append(window_ns)
    bench.conditions += [before, conditions()]


def _timed(
    runner: EngineRunner, clock: Clock, window_ns: int, device_ms: list[float]
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Return the time of every run in a window, ns, and the window's (begin, end).

    Only `run()` lies between the two readings of the clock; times are written into an array
    that grows, between runs, by doubling. Where the device has a clock of its own, its times
    are added to `device_ms`, also between runs.
    """
    tells = runner.device_ms() is not None  # it has run before: warm-up, and to fill the caches
    times_ns = np.zeros(1024, np.int64)
    run, now_ns = runner.run, clock.monotonic_ns
    count = 0
    start = end = now_ns()
    while count < _MOST_RUNS and (end - start < window_ns or count < _LEAST_RUNS):
        begin = now_ns()
        run()
        end = now_ns()
        times_ns[count] = end - begin
        count += 1
        if tells:
            device_ms.append(runner.device_ms() or 0.0)
        if count == times_ns.size:
            times_ns = np.concatenate([times_ns, np.zeros_like(times_ns)])
    return times_ns[:count].copy(), (start, end)


def _reduce(
    bench: _Bench,
    meter: PowerMeter | None,
    power_reason: str,
    idle: tuple[int, int] | None,
) -> Measurement:
    latency = summarize(bench.rounds_ns)
    count = sum(one.size for one in bench.rounds_ns)
    busy_s = sum(end - begin for begin, end in bench.windows_ns) / 1e9
    power, reason = _power(bench, meter, power_reason, idle)
    throttled = _throttled(bench.conditions)
    frames = count * bench.engine.batch
    resting = power.idle if power else None
    return Measurement(
        engine=bench.engine.digest,
        latency_ms=latency,
        throughput_fps=frames / busy_s,
        power=power,
        power_reason=reason,
        energy_j=power.mean * busy_s / frames if power else None,
        energy_net_j=(power.mean - resting) * busy_s / frames
        if power and resting is not None
        else None,
        steady=steady(bench.rounds_ns),
        throttled=throttled,
        throttled_reason=_UNKNOWN_THROTTLING if throttled is None else "",
        samples=count,
        rounds=len(bench.rounds_ns),
        sketch_ms=sketch(bench.rounds_ns),
        temp_c=max((c.temp_c for c in bench.conditions if c.temp_c is not None), default=None),
        device_p50_ms=float(np.median(bench.device_ms)) if bench.device_ms else None,
    )


def _throttled(conditions: Sequence[Conditions]) -> bool | None:
    """Return whether the machine slowed itself inside a window; None if nothing counts that."""
    events = [one.throttle_events for one in conditions]
    pairs = [
        (before, after)
        for before, after in zip(events[0::2], events[1::2], strict=True)
        if before is not None and after is not None
    ]
    return any(after > before for before, after in pairs) if pairs else None


def _power(
    bench: _Bench, meter: PowerMeter | None, reason: str, idle: tuple[int, int] | None
) -> tuple[Power | None, str]:
    if meter is None:
        return None, reason
    try:
        samples = meter.samples()
    except PowerError as error:
        return None, error.message
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
        gaps=load.gaps,
        period_s=meter.period_s,
        trace=_trace(samples, bench.windows_ns),
    ), ""


def _note(name: str, bench: _Bench | None, meter: PowerMeter | None) -> str:
    """Say what is measured and what it showed last: p50, power, temperature."""
    if bench is None or not bench.rounds_ns:
        return name
    told = [name, f"p50 {np.median(bench.rounds_ns[-1]) / 1e6:.2f} ms"]
    if meter is not None:
        with suppress(PowerError):
            told += [f"{one.power_w:.2f} W" for one in meter.samples()[-1:]]
    degrees = bench.conditions[-1].temp_c if bench.conditions else None
    return ", ".join(told if degrees is None else [*told, f"{degrees:.0f} °C"])


def _trace(
    samples: Sequence[PowerSample], windows_ns: Sequence[tuple[int, int]]
) -> tuple[tuple[float, float], ...]:
    """Return (s on the monotonic clock, W) of the samples inside the windows, 200 at most."""
    inside = [
        (sample.t_ns / 1e9, sample.power_w)
        for sample in samples
        if any(begin <= sample.t_ns <= end for begin, end in windows_ns)
    ]
    step = -(-len(inside) // _TRACE) or 1
    return tuple(inside[::step])
