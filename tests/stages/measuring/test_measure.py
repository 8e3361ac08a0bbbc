"""The measuring protocol on a clock that only the engines move."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import chain, count, cycle, pairwise, repeat
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from agent.config import Measure
from agent.core.measurement.power import ClockTotal, Conditions
from agent.core.records import Launches, Measurements
from agent.stages.measuring.measure import measure
from tests.fakes.power import FakePowerMeter
from tests.fakes.runners import FakeClock, FakeRunner
from tests.support.candidates import engine

SETTINGS = Measure(warmup_s=1.0, duration_s=5.0, rounds=5, idle_s=2.0)
WARMING: list[Any] = [None] * 3  # what is read of the machine before the first window
FRAMES = [{"x": np.full((1, 3), value)} for value in (1.0, 2.0)]


def bench(
    runners: dict[str, FakeRunner], clock: FakeClock, settings: Measure = SETTINGS, **ports: Any
) -> Measurements:
    """Measure fake engines, each named as its runner."""
    log: list[str] = []
    for name, runner in runners.items():
        runner.name, runner.log = name, log
    given: dict[str, Any] = {
        "tensors": lambda _: FRAMES,
        "power": "no sensor here",
        "conditions": Conditions,
        "seed": 1,
        "progress": lambda *_: None,
    }
    return measure(
        {name: engine(name=name) for name in runners},
        settings,
        make_runner=lambda one: runners[one.digest],
        clock=clock,
        **given | ports,
    )


def test_only_the_runs_are_timed_and_all_of_them_are_reported():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock).measured["a"]
    assert found.latency_ms.p50 == found.latency_ms.p99 == 10.0
    assert found.throughput_fps == pytest.approx(100)
    assert (found.samples, found.rounds, found.steady) == (500, 5, True)
    assert found.sketch_ms == (10.0,) * 500
    assert found.engine == "a"


def test_the_devices_own_time_is_reported_where_it_has_a_clock():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(10.0), on_device_ms=7.5)}, clock).measured["a"]
    assert (found.device_p50_ms, found.latency_ms.p50) == (7.5, 10.0)
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock).measured["a"]
    assert found.device_p50_ms is None


def test_how_kernels_were_launched_is_reported_where_the_runtime_leaves_that_open():
    clock = FakeClock()
    launches = Launches(by="CUDA graph", reason="1 ms against 2 ms by plain launches")
    runners = {"a": FakeRunner(clock, launched=launches), "b": FakeRunner(clock)}
    found = bench(runners, clock).measured
    assert (found["a"].launched, found["a"].launched_reason) == (launches.by, launches.reason)
    assert (found["b"].launched, found["b"].launched_reason) == (
        None,
        "this runtime launches by itself",
    )


def test_a_candidate_not_selected_keeps_its_rounds_and_takes_no_more_time():
    clock = FakeClock()
    runners = {"slow": FakeRunner(clock, repeat(50.0)), "fast": FakeRunner(clock, repeat(10.0))}
    seen = []

    def selection(rounds_ns):
        seen.append({name: len(rounds) for name, rounds in rounds_ns.items()})
        return frozenset(["fast"] if seen[-1]["fast"] >= 2 else rounds_ns)

    found = bench(runners, clock, selection=selection).measured
    assert (found["slow"].rounds, found["fast"].rounds) == (2, 5)
    assert found["slow"].latency_ms.p50 == 50.0
    assert seen[-1] == {"slow": 2, "fast": 5}


def test_a_candidate_left_out_may_come_back_and_is_behind_only_if_out_at_the_end():
    clock = FakeClock()
    runners = {name: FakeRunner(clock, repeat(10.0)) for name in "ab"}
    seen = []

    def selection(rounds_ns):
        seen.append({name: len(rounds) for name, rounds in rounds_ns.items()})
        return frozenset("ab" if len(seen) in {1, 4} else "a")

    found = bench(runners, clock, selection=selection).measured
    assert [one["b"] for one in seen] == [1, 2, 2, 2, 3]
    assert (found["b"].rounds, found["b"].eliminated) == (3, False)
    seen.clear()
    found = bench(
        runners, clock, selection=lambda rounds: frozenset("a" if len(rounds["a"]) > 1 else "ab")
    ).measured
    assert (found["b"].rounds, found["b"].eliminated, found["a"].eliminated) == (2, True, False)


def test_percentiles_see_every_run_in_integers():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, cycle([1.0] * 9 + [3.000001]))}, clock).measured["a"]
    assert found.latency_ms.p50 == 1.0
    assert found.latency_ms.p99 == 3.000001


def test_candidates_are_interleaved_in_rounds_and_warmed_up_before():
    clock = FakeClock()
    runners = {name: FakeRunner(clock, repeat(10.0)) for name in "abc"}
    bench(runners, clock)
    log = runners["a"].log
    assert log[:3] == ["a", "b", "c"]  # warming up
    rounds = [log[i : i + 3] for i in range(3, len(log), 3)]
    assert len(rounds) == 5
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_real_frames_are_bound_in_turn():
    clock = FakeClock()
    runner = FakeRunner(clock)
    bench({"a": runner}, clock)
    assert [one["x"][0, 0] for one in runner.bound] == [1, 1, 2, 1, 2, 1]


def test_a_drift_hits_all_alike_and_is_marked():
    clock = FakeClock()

    def heating(factor):
        for _ in count():
            yield factor * (1 + clock.now_ns / 1e11)

    found = bench(
        {"a": FakeRunner(clock, heating(10.0)), "b": FakeRunner(clock, heating(20.0))}, clock
    ).measured
    assert found["b"].latency_ms.p50 / found["a"].latency_ms.p50 == pytest.approx(2, rel=0.02)
    assert not found["a"].steady
    assert not found["b"].steady


def test_warm_up_runs_are_not_measured():
    clock = FakeClock()
    cold = chain(repeat(50.0, 10), repeat(10.0))
    found = bench({"a": FakeRunner(clock, cold)}, clock).measured["a"]
    assert found.latency_ms.p99 == 10.0
    assert found.steady


def test_warm_up_ends_at_its_limit():
    clock = FakeClock()
    never = (5.0 + index * 0.05 for index in count())
    runner = FakeRunner(clock, never)
    seen = []
    bench(
        {"a": runner},
        clock,
        progress=lambda done, *_: seen.append((done, clock.now_ns / 1e9)),
    )
    warmed_up_s = next(now for done, now in seen if done == 1)
    assert 1.0 <= warmed_up_s < 1.3


def test_the_first_runs_after_another_candidate_are_not_timed():
    clock = FakeClock()

    def refilled(runner):
        bound = 0
        while True:
            cold, bound = len(runner.bound) != bound, len(runner.bound)
            yield 30.0 if cold else 10.0

    runner = FakeRunner(clock)
    runner.runs_ms = refilled(runner)
    found = bench({"a": runner, "b": FakeRunner(clock)}, clock).measured["a"]
    assert found.sketch_ms[-1] == 10.0


def test_a_slow_candidate_still_runs_a_few_times():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(3000.0))}, clock).measured["a"]
    assert (found.samples, found.latency_ms.p50) == (25, 3000.0)


def test_more_runs_than_fit_into_the_first_array():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(0.25))}, clock).measured["a"]
    assert found.samples == 20_000
    assert found.latency_ms.p50 == 0.25


def test_the_time_spent_is_bounded():
    clock = FakeClock()
    bench(
        {name: FakeRunner(clock, repeat(10.0)) for name in "ab"},
        clock,
        power=[FakePowerMeter(clock)],
    )
    assert clock.now_ns / 1e9 < 2 + 2 * (1 + 5) + 2


@pytest.mark.parametrize("fails_at", [1, 3, 200])
def test_a_failing_candidate_is_reported_and_spoils_no_other(fails_at):
    clock = FakeClock()
    runners = {
        "bad": FakeRunner(clock, repeat(10.0), fails_at=fails_at),
        "good": FakeRunner(clock, repeat(10.0)),
        "absent": FakeRunner(clock, loads=False),
    }
    found = bench(runners, clock)
    assert found.failed == {
        "bad": f"bad failed in run {fails_at}",
        "absent": "absent does not load",
    }
    assert list(found.measured) == ["good"]
    assert found.measured["good"].samples == 500
    assert not any(runner.entered for runner in runners.values())


def test_too_few_frames_for_the_batch_is_a_failure():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock)}, clock, tensors=lambda _: [])
    assert found.failed == {"a": "fewer held-out frames than the batch of 1"}


def test_without_a_sensor_power_is_absent_with_its_reason_and_no_idle_is_waited():
    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock).measured["a"]
    assert (found.power_w, found.energy_j, found.power_reason) == (None, None, "no sensor here")
    assert (found.throttled, found.temp_c) == (None, None)
    assert found.throttled_reason
    assert clock.now_ns / 1e9 < 1 + 5 + 1


def test_power_is_that_of_the_candidates_own_windows():
    clock = FakeClock()
    running: list[str] = []

    class Loud(FakeRunner):
        def bind(self, inputs):
            super().bind(inputs)
            running.append((clock.now_ns, self.name))

    def watts(t_ns):
        before = [name for start, name in running if start <= t_ns]
        return {"": 2.0, "a": 10.0, "b": 20.0}[before[-1] if before else ""]

    found = bench(
        {"a": Loud(clock, repeat(10.0)), "b": Loud(clock, repeat(40.0))},
        clock,
        power=[FakePowerMeter(clock, watts, period_s=0.01)],
    ).measured
    for name, mean, seconds in (("a", 10.0, 0.01), ("b", 20.0, 0.04)):
        power = found[name].power_w
        assert power.mean == pytest.approx(mean, rel=0.02)
        assert power.idle == pytest.approx(2.0, rel=0.01)
        assert found[name].energy_j == pytest.approx(mean * seconds, rel=0.02)
        assert power.coverage == pytest.approx(1, abs=0.01)
        assert (power.rail, power.source, power.period_s) == ("VDD_IN", "fake", 0.01)
        assert found[name].power_reason == ""


@pytest.mark.parametrize(
    ("seen_s", "reason"),
    [(0.0, "fake covered only 0% of the windows"), (4.9, r"fake covered only [1-4]\d% of")],
)
def test_a_sensor_that_saw_too_little_gives_no_number(seen_s, reason):
    class Tired(FakePowerMeter):
        def samples(self):
            return [one for one in super().samples() if one.t_ns < seen_s * 1e9]

    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[Tired(clock)]).measured["a"]
    assert (found.power_w, found.energy_j) == (None, None)
    assert re.match(reason, found.power_reason)


@pytest.mark.parametrize("watts", [0.0, -0.28])
def test_a_sensor_that_is_stuck_at_zero_or_below_gives_no_number(watts):
    clock = FakeClock()
    meter = FakePowerMeter(clock, lambda _: watts)
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter]).measured["a"]
    assert (found.power_w, found.energy_j, found.energy_net_j) == (None, None, None)
    assert found.power_reason == found.energy_reason == f"fake reported {watts:g} W for VDD_IN"


@pytest.mark.parametrize("outlier_w", [4_294_967.295, 164_000.0, float("inf"), float("nan")])
def test_a_reading_that_no_machine_draws_is_left_out(outlier_w):
    """NVML's "not available" as a number, and a RAPL counter that jumped."""
    clock = FakeClock()
    meter = FakePowerMeter(clock, lambda t_ns: outlier_w if t_ns % 2_000_000_000 == 0 else 5.0)
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter]).measured["a"]
    assert found.power_w.mean == pytest.approx(5.0)
    always = FakePowerMeter(clock, lambda _: outlier_w)
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[always]).measured["a"]
    assert found.power_w is None
    assert "more than the 10000 W" in found.power_reason


def test_a_reading_that_this_board_can_not_draw_is_left_out_and_several_are_no_sensor():
    jumps = [3_500_000_000, 4_000_000_000]

    def measured(watts):
        clock = FakeClock()
        meter = FakePowerMeter(clock, lambda t: watts if t in jumps else 5.0, most_w=100.0)
        return bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter])

    found = measured(140.0)
    assert found.measured["a"].power_w.mean == pytest.approx(5.0)
    assert max(watts for _, watts in found.trace.points) == pytest.approx(5.0)
    assert measured(99.0).measured["a"].power_w.mean > 5.1
    jumps += [4_500_000_000, 5_000_000_000]
    found = measured(140.0).measured["a"]
    assert (found.power_w, found.energy_j) == (None, None)
    assert found.power_reason == found.energy_reason
    assert (
        "fake reported 140 W for VDD_IN, more than the 100 W that it can be, 4 times"
        in found.power_reason
    )


def test_power_at_rest_of_0_w_is_not_known():
    clock = FakeClock()
    meter = FakePowerMeter(clock, lambda t_ns: 5.0 if t_ns > 2_000_000_000 else 0.0)
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter]).measured["a"]
    assert found.power_w.mean == pytest.approx(5.0)
    assert (found.power_w.idle, found.energy_net_j) == (None, None)


def test_a_sensor_that_dies_for_good_leaves_gaps():
    clock = FakeClock()
    meter = FakePowerMeter(clock, gone_ns=5_300_000_000)  # in the third of five windows
    found = (
        bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter]).measured["a"].power_w
    )
    assert 0.5 <= found.coverage < 0.7
    assert found.gaps == 3


def test_rest_that_the_sensor_did_not_see_is_not_known():
    class Late(FakePowerMeter):
        def samples(self):
            return [one for one in super().samples() if one.t_ns > 1.7e9]  # idle ends at 2 s

    clock = FakeClock()
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[Late(clock)]).measured["a"]
    assert found.power_w.mean == pytest.approx(5.0)
    assert (found.power_w.idle, found.energy_net_j) == (None, None)


def test_a_sensor_that_fails_spoils_no_latency():
    clock = FakeClock()
    meter = FakePowerMeter(clock, broken="the sensor was unplugged")
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter]).measured["a"]
    assert (found.power_w, found.power_reason) == (None, "the sensor was unplugged")
    assert found.latency_ms.p50 == 10.0


def test_energy_is_per_frame_of_a_batch():
    clock = FakeClock()
    runner = FakeRunner(clock, repeat(10.0))
    found = measure(
        {"a": engine(name="a", batch=4)},
        SETTINGS,
        make_runner=lambda _: runner,
        tensors=lambda _: FRAMES,
        power=[FakePowerMeter(clock)],
        clock=clock,
        conditions=Conditions,
        seed=0,
        progress=lambda *_: None,
    ).measured["a"]
    assert found.throughput_fps == pytest.approx(400)
    assert found.energy_j == pytest.approx(5 * 0.01 / 4)


def test_what_the_machine_takes_at_rest_is_left_out_of_net_energy():
    clock = FakeClock()
    meter = FakePowerMeter(clock)
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=[meter]).measured["a"]
    assert found.power_w is not None
    assert found.power_w.idle == pytest.approx(
        found.power_w.mean
    )  # this meter knows one power only
    assert found.energy_net_j == pytest.approx(0.0, abs=1e-9)


def test_those_measured_in_turn_are_compared_round_by_round():
    clock = FakeClock()
    runners = {"a": FakeRunner(clock, repeat(10.0)), "b": FakeRunner(clock, repeat(11.0))}
    found = bench(runners, clock).measured
    assert found["b"].p50_ratio_ci95["a"] == pytest.approx((1.1, 1.1))
    assert found["a"].p50_ratio_ci95.keys() == {"b"}


def test_the_trace_has_the_windows_of_all_candidates_and_of_idling():
    clock = FakeClock()
    names = "ab"
    runners = {name: FakeRunner(clock, repeat(10.0)) for name in names}
    trace = bench(runners, clock, power=[FakePowerMeter(clock)]).trace
    assert all(watts == pytest.approx(5.0) for _, watts in trace.points)
    assert (trace.windows[0].candidate, trace.windows[0].kind) == ("", "idle")
    rest = [window.candidate for window in trace.windows[1:]]
    assert sorted(rest) == sorted(names * SETTINGS.rounds)
    assert all(a.end_s <= b.begin_s for a, b in pairwise(trace.windows))
    assert bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power="none").trace.points == ()


def test_at_a_frame_rate_the_engine_rests_between_frames_and_takes_less_power():
    clock = FakeClock()
    runner = FakeRunner(clock, repeat(10.0))
    runs: list[int] = []
    runner.run = lambda run=runner.run: (runs.append(clock.now_ns), run())[1]

    def watts(t_ns):
        latest = bisect_right(runs, t_ns) - 1
        return 10.0 if latest >= 0 and t_ns < runs[latest] + 10_000_000 else 2.0

    paced = replace(SETTINGS, rate_fps=20.0)
    meter = FakePowerMeter(clock, watts, period_s=0.001)
    found = bench({"a": runner}, clock, paced, power=[meter]).measured["a"]
    rated = found.at_rate
    assert rated is not None
    assert (rated.rate_fps, rated.dropped, rated.samples) == (20.0, 0.0, 100)
    assert rated.throughput_fps == pytest.approx(20.0)
    assert rated.latency_ms.p50 == 10.0
    assert rated.power_w.mean == pytest.approx(10 * 0.2 + 2 * 0.8, rel=0.05)
    assert rated.energy_j == pytest.approx(rated.power_w.mean / 20, rel=1e-6)
    assert found.power_w.mean == pytest.approx(10.0, rel=0.02)
    assert found.energy_j < rated.energy_j
    assert found.samples == 500  # flat out is as it was


def test_frames_that_come_while_the_engine_is_busy_are_dropped_for_the_newest():
    clock = FakeClock()
    paced = replace(SETTINGS, rate_fps=100.0)
    found = bench({"a": FakeRunner(clock, repeat(25.0))}, clock, paced).measured["a"]
    assert found.at_rate.dropped == pytest.approx(1 - 40 / 100, abs=0.01)
    assert found.at_rate.throughput_fps == pytest.approx(40, rel=0.02)


def test_one_late_inference_drops_nothing_if_the_next_catches_up():
    clock = FakeClock()
    times = chain(repeat(1.0, 3000), [75.0], repeat(1.0))
    paced = replace(SETTINGS, rate_fps=20.0)
    found = bench({"a": FakeRunner(clock, times)}, clock, paced).measured["a"]
    assert found.at_rate.dropped == 0.0
    assert found.at_rate.throughput_fps == pytest.approx(20.0)


def test_a_batch_waits_for_all_its_frames():
    clock = FakeClock()
    found = measure(
        {"a": engine(name="a", batch=4)},
        replace(SETTINGS, rate_fps=20.0),
        make_runner=lambda _: FakeRunner(clock, repeat(10.0)),
        tensors=lambda _: FRAMES,
        power=[FakePowerMeter(clock)],
        clock=clock,
        conditions=Conditions,
        seed=0,
        progress=lambda *_: None,
    ).measured["a"]
    assert (found.at_rate.samples, found.at_rate.dropped) == (25, 0.0)
    assert found.at_rate.throughput_fps == pytest.approx(20.0)
    assert found.at_rate.energy_j == pytest.approx(5 / 20)


def test_a_second_way_to_read_the_rail_is_reported_beside_the_first():
    clock = FakeClock()
    meters = [
        FakePowerMeter(clock, lambda _: 5.0),
        FakePowerMeter(clock, lambda _: 6.0, source="other", period_s=0.03),
    ]
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=meters).measured["a"].power_w
    assert (found.mean, found.source) == (pytest.approx(5.0), "fake")
    assert (found.check_mean, found.check_source) == (pytest.approx(6.0), "other")
    meters[1].broken = "gone"
    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, power=meters).measured["a"].power_w
    assert (found.mean, found.check_mean) == (pytest.approx(5.0), None)


def test_the_interval_of_power_comes_from_how_the_rounds_differ():
    clock = FakeClock()
    levels = iter([4.0, 5.0, 6.0, 5.0, 5.0])
    starts: list[tuple[int, float]] = []

    class Round(FakeRunner):
        def bind(self, inputs):
            super().bind(inputs)
            if len(self.bound) > 1:  # the first is the warm-up's
                starts.append((clock.now_ns, next(levels)))

    def watts(t_ns):
        return next((w for start, w in reversed(starts) if start <= t_ns), 5.0)

    meter = FakePowerMeter(clock, watts, period_s=0.01)
    found = bench({"a": Round(clock, repeat(10.0))}, clock, power=[meter]).measured["a"]
    low, high = found.power_w.ci95
    assert found.power_w.mean == pytest.approx(5.0, rel=0.01)
    # t(3) = 3.182 of how their logarithms scatter around the line through them
    assert (low, high) == pytest.approx((4.07, 6.14), abs=0.02)
    assert found.energy_j_ci95 == pytest.approx((low / 100, high / 100), rel=0.01)


@pytest.mark.parametrize(
    ("counted", "throttled"),
    [([3, 3] * 5, False), ([3, 3, 3, 4] + [4, 4] * 3, True), ([3, 3, 4, 4] + [4, 4] * 3, False)],
    ids=["never", "in a window", "between windows"],
)
def test_throttling_counts_inside_the_windows_only(counted, throttled):
    clock, events = FakeClock(), iter(WARMING + counted)
    found = bench(
        {"a": FakeRunner(clock)}, clock, conditions=lambda: Conditions(throttle_events=next(events))
    ).measured["a"]
    assert found.throttled is throttled
    assert found.throttled_reason == ""


@pytest.mark.parametrize(
    ("cooling", "throttled"), [([0, 0] * 5, False), ([0, 0, 0, 1] + [0, 0] * 3, True)]
)
def test_a_device_that_cools_by_slowing_down_is_throttling(cooling, throttled):
    clock, states = FakeClock(), iter(WARMING + cooling)
    found = bench(
        {"a": FakeRunner(clock)}, clock, conditions=lambda: Conditions(cooling=next(states))
    ).measured["a"]
    assert found.throttled is throttled


@pytest.mark.parametrize(
    ("busy_rounds", "rate_fps", "least", "most"),
    [
        ((), 0.0, 0.0, 0.0),
        ((2,), 0.0, 0.0, 0.0),
        (range(5), 0.0, 0.29, 0.31),
        (range(5), 20.0, 0.06, 0.3),  # in the pauses nobody waits
    ],
)
def test_threads_that_wait_for_a_cpu_are_reported_where_they_often_do(
    busy_rounds, rate_fps, least, most
):
    clock = FakeClock()
    runner = FakeRunner(clock, repeat(10.0))
    waited_ns, run = [0], runner.run

    def disturbed():
        run()
        if len(runner.bound) - 2 in busy_rounds:
            waited_ns[0] += 3_000_000

    runner.run = disturbed
    found = bench(
        {"a": runner},
        clock,
        replace(SETTINGS, rate_fps=rate_fps),
        conditions=lambda: Conditions(waited_ns=waited_ns[0], ran_ns=clock.now_ns - waited_ns[0]),
    ).measured["a"]
    assert least <= found.starved <= most


@pytest.mark.parametrize(
    ("threads", "waits", "expected"),
    [(1, 0.2, 0.2), (16, 0.01, 0.01), (16, 0.2, 0.2), (0.05, 0.01, 0.0005)],
    ids=["one thread", "sixteen that hardly wait", "sixteen that wait", "one that mostly sleeps"],
)
def test_many_threads_that_each_wait_a_little_are_not_starved(threads, waits, expected):
    clock = FakeClock()

    def conditions():
        busy_ns = threads * clock.now_ns
        return Conditions(waited_ns=int(waits * busy_ns), ran_ns=int((1 - waits) * busy_ns))

    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, conditions=conditions)
    assert found.measured["a"].starved == pytest.approx(expected, rel=0.05)


def test_the_temperature_is_the_highest_of_its_windows():
    clock = FakeClock()
    degrees = iter(WARMING + [40.0, None, 55.0, 50.0, 45.0] * 2)
    found = bench(
        {"a": FakeRunner(clock)}, clock, conditions=lambda: Conditions(temp_c=next(degrees))
    ).measured["a"]
    assert found.temp_c == 55.0


def test_clocks_are_reported_from_lowest_to_highest():
    clock = FakeClock()
    clocks = iter([306.0, 918.0, 612.0, None] * 20)
    found = bench(
        {"a": FakeRunner(clock)}, clock, conditions=lambda: Conditions(gpu_mhz=next(clocks))
    ).measured["a"]
    assert (found.gpu_mhz, found.cpu_mhz) == ((306.0, 918.0), None)


def test_clocks_that_are_counted_are_reported_as_the_means_of_windows():
    clock = FakeClock()

    def conditions():
        now_s = clock.now_ns / 1e9
        slow_s = max(now_s - 4.0, 0.0)  # from 4 s on it runs at half the clock
        mhz_s = 900.0 * min(now_s, 4.0) + 450.0 * slow_s
        return Conditions(gpu_mhz=900.0, gpu_clocked=ClockTotal(now_s, mhz_s))

    found = bench({"a": FakeRunner(clock, repeat(10.0))}, clock, conditions=conditions)
    assert found.measured["a"].gpu_mhz == pytest.approx((450.0, 900.0), abs=0.1)


def heating(until_s, clock):
    """Return what tells the conditions of a machine that gets warmer, 5 deg C a second, until then."""
    return lambda: Conditions(temp_c=40 + 5 * min(clock.now_ns / 1e9, until_s))


def test_warm_up_lasts_while_the_temperature_rises():
    clock = FakeClock()
    seen = []
    bench(
        {"a": FakeRunner(clock, repeat(10.0))},
        clock,
        conditions=heating(9.0, clock),
        progress=lambda done, *_: seen.append((done, clock.now_ns / 1e9)),
    )
    assert 1.0 <= max(now for done, now in seen if done == 1) - 1.0 < 1.3  # all of warmup_s


@pytest.mark.parametrize(("until_s", "settled"), [(0.8, True), (99.0, False)])
def test_the_temperature_is_the_machines_and_judged_alike_for_all_candidates(until_s, settled):
    """Whoever comes first begins in the cold; that must not decide who is doubtful."""
    clock = FakeClock()
    runners = {name: FakeRunner(clock, repeat(10.0)) for name in ("fp32", "int8", "int8-mixed")}
    found = bench(runners, clock, conditions=heating(until_s, clock)).measured
    assert {one.settled for one in found.values()} == {settled}
    if not settled:
        assert clock.now_ns / 1e9 == pytest.approx(3 * (1.0 + 5.0), abs=1.2)  # as announced


@pytest.mark.parametrize("warmup_s", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("ms", [150.0, 700.0, 4000.0])
def test_a_slow_model_is_warmed_up_where_it_is_level(ms, warmup_s):
    clock = FakeClock()
    settings = replace(SETTINGS, warmup_s=warmup_s)
    found = bench({"a": FakeRunner(clock, repeat(ms))}, clock, settings).measured["a"]
    assert found.settled


def test_without_a_warm_up_no_candidate_is_called_cold():
    clock = FakeClock()
    getting_faster = (max(100.0 / (1 + index), 2.0) for index in count())
    found = bench(
        {"a": FakeRunner(clock, getting_faster)},
        clock,
        replace(SETTINGS, warmup_s=0.0),
        conditions=heating(99.0, clock),
    ).measured["a"]
    assert found.settled


@pytest.mark.parametrize(
    ("ms", "temp_c", "settled"),
    [
        (repeat(10.0), lambda s: 40.0, True),
        (repeat(10.0), lambda s: 40.0 + s, False),
        ((5.0 + index * 0.05 for index in count()), lambda s: 40.0, False),
        ((500.0 + index * 50.0 for index in count()), lambda s: 40.0, False),
    ],
    ids=["flat", "getting warmer", "getting slower", "slow and getting slower"],
)
def test_a_warm_up_that_ended_too_early_is_reported(ms, temp_c, settled):
    clock = FakeClock()
    found = bench(
        {"a": FakeRunner(clock, ms)},
        clock,
        conditions=lambda: Conditions(temp_c=temp_c(clock.now_ns / 1e9)),
    ).measured["a"]
    assert found.settled is settled


def test_progress_counts_up_and_is_reported_about_every_second():
    clock = FakeClock()
    told: list[tuple[float, int, int, str]] = []
    at: list[str] = []

    def progress(done, total, note, candidate=""):
        told.append((clock.now_ns / 1e9, done, total, note))
        at.append(candidate)

    bench(
        {"a": FakeRunner(clock, repeat(12.3))},
        clock,
        replace(SETTINGS, duration_s=20.0),
        power=[FakePowerMeter(clock)],
        conditions=lambda: Conditions(temp_c=41.7),
        progress=progress,
    )
    assert at == ["a", "", *["a"] * (len(told) - 3), ""]  # not while idle, nor at the end
    assert [one[1:] for one in told[:2]] == [(0, 0, "loading a"), (0, 0, "idle for 2 s")]
    del told[0]
    assert [one[2] for one in told[1:]] == [6] * (len(told) - 1)
    assert [done for _, done, _, _ in told] == sorted(done for _, done, _, _ in told)
    assert told[1][3] == "warming up a"
    assert {note for _, done, _, note in told if 2 <= done < 6} == {
        "a, p50 12.30 ms, 5.00 W, 42 °C"
    }
    silent_s = [after[0] - before[0] for before, after in pairwise(told[1:])]
    assert max(silent_s) < 1.3


@pytest.mark.parametrize("rate_fps", [0.0, 20.0])
def test_progress_shows_the_watts_of_the_candidate_that_it_names(rate_fps):
    clock = FakeClock()
    begun: list[tuple[int, str]] = []

    class Loud(FakeRunner):
        def bind(self, inputs):
            super().bind(inputs)
            begun.append((clock.now_ns, self.name))

    def watts(t_ns):
        name = next((name for start, name in reversed(begun) if start <= t_ns), "")
        return {"": 2.0, "a": 10.0, "b": 20.0}[name]

    notes: list[str] = []
    bench(
        {"a": Loud(clock, repeat(10.0)), "b": Loud(clock, repeat(40.0))},
        clock,
        replace(SETTINGS, duration_s=15.0, rate_fps=rate_fps),
        power=[FakePowerMeter(clock, watts, period_s=0.01)],
        progress=lambda _done, _total, note, _candidate="": notes.append(note),
    )
    seen = {(note[0], *re.findall(r"([\d.]+) W", note)) for note in notes if note[1:2] == ","}
    assert {(name, round(float(found), 1)) for name, found in seen} == {("a", 10.0), ("b", 20.0)}


def test_nothing_to_measure():
    assert bench({}, FakeClock()) == Measurements(measured={}, failed={})
