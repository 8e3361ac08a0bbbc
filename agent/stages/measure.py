"""All candidates measured together: idle window, warm-up, interleaved rounds, power alongside.

Each visit to a candidate is a window flat out and, where the application's frame rate is told,
one at that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.config import Measure
from agent.core.energy import Conditions
from agent.core.errors import PowerError, RunnerError
from agent.core.lineage import Engine, Measurements, PowerTrace
from agent.core.measurement import schedule, settled
from agent.core.pairing import against
from agent.core.power_trace import traced
from agent.core.recording import Readings, Recording, Span, reduced
from agent.ports import Clock, EngineRunner, PowerMeter, Progress

if TYPE_CHECKING:
    from agent.ports import Tensors

_LEAST_RUNS = 5  # per window, however slow the candidate
_MOST_RUNS = 1_000_000
_REFILL_RUNS = 2  # untimed after another candidate had the caches
_WARMUP_SLICES = 10

Selection = Callable[[Mapping[str, Sequence[NDArray[np.int64]]]], frozenset[str]]
"""Given the rounds of each candidate so far, ns, returns who is measured on."""


@dataclass(slots=True)
class _Bench:
    """One candidate on the bench."""

    engine: Engine
    runner: EngineRunner
    inputs: Sequence[Tensors]
    seen: Recording


def measure(
    engines: Mapping[str, Engine],
    settings: Measure,
    *,
    make_runner: Callable[[Engine], EngineRunner],
    tensors: Callable[[Engine], Sequence[Tensors]],
    power: Sequence[PowerMeter] | str,
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
        power: The meter, entered already and sampling, and maybe another way to read the same
            rail; or why there is none.
        clock: Monotonic; only `run()` lies between two readings of it.
        conditions: Returns temperature and throttling now; asked around every window.
        seed: For the order of candidates.
        progress: Told before every window.
        selection: Returns who goes into the next round, given what has been measured so far;
            all do if it is not given. Who is left out keeps the rounds that it had, and may
            come back.

    Returns:
        Every engine as measured or as failed. It takes about idle_s + engines * (warmup_s +
        duration_s), with a frame rate twice the latter, or more where five runs take longer
        than a window.
    """
    failed: dict[str, str] = {}
    meter = None if isinstance(power, str) else power[0]
    with ExitStack() as stack:
        benches = _load(engines, make_runner, tensors, failed, stack)
        idle = _idle(settings, meter, clock, progress) if benches else None
        steps = len(benches) * (settings.rounds + 1)
        done = 0
        for name in list(benches):
            progress(done, steps, f"warming up {name}")
            warm = partial(_warm_up, settings=settings, clock=clock, conditions=conditions)
            _guarded(name, benches, failed, warm)
            done += 1
        running = last = frozenset(benches)
        for number, order in enumerate(schedule(list(benches), settings.rounds, seed)):
            take = partial(
                _visit, settings=settings, clock=clock, number=number, conditions=conditions
            )
            for name in order:
                progress(done, steps, _note(name, benches.get(name), meter))
                if name in running:
                    _guarded(name, benches, failed, take)
                done += 1
            last, running = running, frozenset(benches)
            if selection and benches:
                running = selection({n: bench.seen.rounds_ns for n, bench in benches.items()})
        progress(steps, steps, "")
    readings = power if isinstance(power, str) else _readings(*power)
    measured = {
        name: replace(
            reduced(
                bench.seen,
                bench.engine.digest,
                readings,
                idle_ns=idle,
                rate_fps=settings.rate_fps,
            ),
            behind=name not in last,
        )
        for name, bench in benches.items()
    }
    recorded = {name: bench.seen for name, bench in benches.items()}
    ratios = against(
        {name: seen.rounds_ns for name, seen in recorded.items()},
        {name: one.latency_ms.p50 for name, one in measured.items()},
        settings.rounds,
    )
    measured = {name: replace(one, against=ratios.get(name, {})) for name, one in measured.items()}
    trace = PowerTrace() if isinstance(readings, str) else traced(readings.samples, idle, recorded)
    return Measurements(measured=measured, failed=failed, trace=trace)


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
        benches[name] = _Bench(engine, runner, inputs, Recording(batch=engine.batch))
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


def _warm_up(
    bench: _Bench, settings: Measure, clock: Clock, conditions: Callable[[], Conditions]
) -> None:
    """Run in slices until their medians and the temperature settle, for warmup_s at most."""
    bench.runner.bind(bench.inputs[0])
    bench.runner.run()
    deadline_ns = clock.monotonic_ns() + int(settings.warmup_s * 1e9)
    slice_ns = int(settings.warmup_s / _WARMUP_SLICES * 1e9)
    medians_ns: list[float] = []
    temps_c: list[float | None] = []
    while not settled(medians_ns, temps_c):
        times_ns, (_, end_ns) = _timed(bench.runner, clock, slice_ns, [])
        medians_ns.append(float(np.median(times_ns)))
        temps_c.append(conditions().temp_c)
        if end_ns >= deadline_ns:
            break


def _visit(
    bench: _Bench,
    settings: Measure,
    clock: Clock,
    number: int,
    conditions: Callable[[], Conditions],
) -> None:
    """Measure one candidate for its share of one round."""
    seen, window_ns = bench.seen, int(settings.duration_s / settings.rounds * 1e9)
    bench.runner.bind(bench.inputs[number % len(bench.inputs)])
    before = conditions()
    for _ in range(_REFILL_RUNS):
        bench.runner.run()
    times_ns, span_ns = _timed(bench.runner, clock, window_ns, seen.device_ms)
    seen.rounds_ns.append(times_ns)
    seen.windows_ns.append(span_ns)
    after = conditions()
    seen.conditions += [before, after]
    if settings.rate_fps:
        period_ns = int(bench.engine.batch / settings.rate_fps * 1e9)
        times_ns, span_ns, dropped = _paced(bench.runner, clock, window_ns, period_ns)
        seen.paced_ns.append(times_ns)
        seen.paced_windows_ns.append(span_ns)
        seen.dropped += dropped
        seen.conditions += [after, conditions()]


def _timed(
    runner: EngineRunner, clock: Clock, window_ns: int, device_ms: list[float]
) -> tuple[NDArray[np.int64], Span]:
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


def _paced(
    runner: EngineRunner, clock: Clock, window_ns: int, period_ns: int
) -> tuple[NDArray[np.int64], Span, int]:
    """Run as an application does that takes the newest frame of a live camera, and waits for it.

    A frame that comes while the engine is busy waits; the next one replaces it.

    Returns:
        The time of every run, ns; the window, whole periods long, ns; how many were replaced.
    """
    frames = max(round(window_ns / period_ns), 1)
    times_ns: list[int] = []
    start = clock.monotonic_ns()
    frame = dropped = 0
    while frame < frames:
        clock.sleep(max(start + frame * period_ns - clock.monotonic_ns(), 0) / 1e9)
        begin = clock.monotonic_ns()
        runner.run()
        end = clock.monotonic_ns()
        times_ns.append(end - begin)
        newest = max(frame + 1, (end - start) // period_ns)
        dropped += min(newest, frames) - frame - 1
        frame = newest
    clock.sleep(max(start + frames * period_ns - clock.monotonic_ns(), 0) / 1e9)
    return np.array(times_ns, np.int64), (start, clock.monotonic_ns()), dropped


def _readings(meter: PowerMeter, check: PowerMeter | None = None) -> Readings | str:
    try:
        samples = meter.samples()
    except PowerError as error:
        return error.message
    other = _readings(check) if check else None
    return Readings(
        samples=samples,
        rail=meter.rail,
        source=meter.source,
        period_s=meter.period_s,
        check=other if isinstance(other, Readings) else None,
    )


def _note(name: str, bench: _Bench | None, meter: PowerMeter | None) -> str:
    """Say what is measured and what it showed last: p50, power, temperature."""
    if bench is None or not bench.seen.rounds_ns:
        return name
    told = [name, f"p50 {np.median(bench.seen.rounds_ns[-1]) / 1e6:.2f} ms"]
    if meter is not None:
        with suppress(PowerError):
            told += [f"{one.power_w:.2f} W" for one in meter.samples()[-1:]]
    degrees = bench.seen.conditions[-1].temp_c if bench.seen.conditions else None
    return ", ".join(told if degrees is None else [*told, f"{degrees:.0f} °C"])
