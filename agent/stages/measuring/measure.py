"""All candidates measured together: idle window, warm-up, interleaved rounds, power alongside.

Each visit to a candidate is a window flat out and, where the application's frame rate is set,
one at that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.config import Measure
from agent.core.errors import PowerError, RunnerError
from agent.core.measurement.latency import gets_warmer, is_level, schedule, warmed_up
from agent.core.measurement.power import Conditions
from agent.core.measurement.power_trace import power_trace
from agent.core.measurement.ratios import p50_ratios_ci95
from agent.core.measurement.recording import Readings, Recording, Span, to_measurement
from agent.core.records import Engine, Measurement, Measurements, PowerTrace
from agent.ports import Clock, EngineRunner, PowerMeter, Progress
from agent.stages.measuring.live_note import LiveNote
from agent.stages.measuring.windows import Window, flat_out, overhead_ns, paced

if TYPE_CHECKING:
    from agent.ports import Tensors

_REFILL_RUNS = 2  # untimed after another candidate had the caches
_WARMUP_SLICES = 10

Selection = Callable[[Mapping[str, Sequence[NDArray[np.int64]]]], frozenset[str]]
"""Given the rounds of each candidate so far, ns, returns the candidates of the next round."""


@dataclass(slots=True)
class _Bench:
    """One loaded candidate; `run_ns` is the median run of its last window, 0 before."""

    engine: Engine
    runner: EngineRunner
    inputs: Sequence[Tensors]
    seen: Recording
    run_ns: float = 0.0


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
    """Measure every engine; one that fails is reported and affects no other.

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
        progress: Called before every window, and about once a second in it.
        selection: Returns the candidates of the next round from the rounds so far; without it
            all are measured in every round. One that is left out keeps its rounds, and may be
            measured again.

    Returns:
        Every engine as measured or as failed. It takes about idle_s + engines * (warmup_s +
        duration_s), with a frame rate twice the latter, or more where five runs take longer
        than a window.
    """
    failed: dict[str, str] = {}
    meter = None if isinstance(power, str) else power[0]
    with ExitStack() as stack:
        benches = _load(engines, make_runner, tensors, failed, stack, progress)
        idle = _idle(settings, meter, clock, progress) if benches else None
        bar = LiveNote(progress, meter, steps=len(benches) * (settings.rounds + 1))
        _warm_up(benches, failed, settings, clock, conditions, bar)
        running = last = frozenset(benches)
        for number, order in enumerate(schedule(list(benches), settings.rounds, seed)):
            take = partial(
                _visit,
                settings=settings,
                clock=clock,
                number=number,
                conditions=conditions,
                bar=bar,
            )
            for name in order:
                if name in running and name in benches:
                    bar.begin(name, seen=benches[name].seen)
                    _guarded(name, benches, failed, take)
                bar.done += 1
            last, running = running, frozenset(benches)
            if selection and benches:
                running = selection({n: bench.seen.rounds_ns for n, bench in benches.items()})
        progress(bar.steps, bar.steps, "")
    readings = power if isinstance(power, str) else _readings(*power)
    measured = _reduced(benches, last, readings, idle, overhead_ns(clock), settings)
    recorded = {name: bench.seen for name, bench in benches.items()}
    trace = PowerTrace()
    if not isinstance(readings, str):
        true = [sample for sample in readings.samples if sample.power_w <= readings.most_w]
        trace = power_trace(true, idle, recorded)
    return Measurements(measured=measured, failed=failed, trace=trace)


def _reduced(
    benches: Mapping[str, _Bench],
    finished: Collection[str],
    readings: Readings | str,
    idle_ns: Span | None,
    harness_ns: float,
    settings: Measure,
) -> dict[str, Measurement]:
    """Return the measurements, with how they compare where both had every round.

    Args:
        benches: By candidate id.
        finished: Those that were in the last round.
        readings: Of the power sensor, or why there are none.
        idle_ns: When the machine was at rest, if it was.
        harness_ns: As in a measurement.
        settings: The rounds and the frame rate.
    """
    measured = {
        name: to_measurement(
            bench.seen,
            bench.engine.digest,
            readings,
            idle_ns=idle_ns,
            harness_ns=harness_ns,
            rate_fps=settings.rate_fps,
        )
        for name, bench in benches.items()
    }
    ratios = p50_ratios_ci95(
        {name: bench.seen.rounds_ns for name, bench in benches.items()},
        {name: one.latency_ms.p50 for name, one in measured.items()},
        settings.rounds,
    )
    return {
        name: replace(one, eliminated=name not in finished, p50_ratio_ci95=ratios.get(name, {}))
        for name, one in measured.items()
    }


def _load(
    engines: Mapping[str, Engine],
    make_runner: Callable[[Engine], EngineRunner],
    tensors: Callable[[Engine], Sequence[Tensors]],
    failed: dict[str, str],
    stack: ExitStack,
    progress: Progress,
) -> dict[str, _Bench]:
    benches: dict[str, _Bench] = {}
    for name, engine in engines.items():
        progress(0, 0, f"loading {name}", name)
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
    act: Callable[[_Bench], object],
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
    """Wait with everything loaded, for the power at rest; return the window, ns."""
    if meter is None or settings.idle_s <= 0:
        return None
    progress(0, 0, f"idle for {settings.idle_s:g} s")
    begin = clock.monotonic_ns()
    clock.sleep(settings.idle_s)
    return begin, clock.monotonic_ns()


def _warm_up(
    benches: dict[str, _Bench],
    failed: dict[str, str],
    settings: Measure,
    clock: Clock,
    conditions: Callable[[], Conditions],
    bar: LiveNote,
) -> None:
    """Run each candidate until its latency is level, then all in turn until it gets no warmer.

    The temperature is the machine's, and the first candidate begins in the cold, so it is judged
    once, for all. That takes at most warmup_s a candidate.
    """
    readings: list[tuple[float, float]] = []
    end_ns = clock.monotonic_ns() + int(len(benches) * settings.warmup_s * 1e9)

    def heat(bench: _Bench) -> NDArray[np.int64]:
        length_ns = int(settings.warmup_s / _WARMUP_SLICES * 1e9)
        window = Window(clock, length_ns, bar.show, bench.run_ns)
        times_ns, (_, now_ns) = flat_out(bench.runner, window, [])
        bench.run_ns = float(np.median(times_ns))
        bar.temp_c = conditions().temp_c
        if bar.temp_c is not None:
            readings.append((now_ns / 1e9, bar.temp_c))
        return times_ns

    def settle(bench: _Bench) -> None:
        bench.runner.bind(bench.inputs[0])
        bench.runner.run()
        bench.seen.launches = bench.runner.launches()
        deadline_ns = clock.monotonic_ns() + int(settings.warmup_s * 1e9)
        slices = [heat(bench)]
        while not is_level(slices) and clock.monotonic_ns() < deadline_ns:
            slices.append(heat(bench))
        bench.seen.settled = warmed_up(slices) or not settings.warmup_s

    for name in list(benches):
        bar.begin(name, "warming up")
        _guarded(name, benches, failed, settle)
        bar.done += 1
    names = cycle(list(benches))
    while benches and gets_warmer(readings) and clock.monotonic_ns() < end_ns:
        name = next(names)
        bar.begin(name, "warming up")
        _guarded(name, benches, failed, heat)
    if settings.warmup_s and gets_warmer(readings):
        for bench in benches.values():
            bench.seen.settled = False


def _visit(
    bench: _Bench,
    settings: Measure,
    clock: Clock,
    number: int,
    conditions: Callable[[], Conditions],
    bar: LiveNote,
) -> None:
    """Measure one candidate for its share of one round."""
    seen, window_ns = bench.seen, int(settings.duration_s / settings.rounds * 1e9)
    bench.runner.bind(bench.inputs[number % len(bench.inputs)])
    before = conditions()
    bar.temp_c = before.temp_c
    for _ in range(_REFILL_RUNS):
        bench.runner.run()
    window = Window(clock, window_ns, bar.show, bench.run_ns)
    times_ns, span_ns = flat_out(bench.runner, window, seen.device_ms)
    seen.rounds_ns.append(times_ns)
    seen.windows_ns.append(span_ns)
    after = conditions()
    seen.conditions += [before, after]
    if settings.rate_fps:
        period_ns = int(bench.engine.batch / settings.rate_fps * 1e9)
        times_ns, span_ns, dropped = paced(bench.runner, window, period_ns)
        seen.paced_ns.append(times_ns)
        seen.paced_windows_ns.append(span_ns)
        seen.dropped += dropped
        seen.conditions += [after, conditions()]


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
        most_w=meter.most_w,
        check=other if isinstance(other, Readings) else None,
    )
