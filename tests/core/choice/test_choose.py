"""The choice: what must hold for any candidates, and what it says in words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agent.core.choice.choose import choose
from agent.core.choice.limits import format_distinct
from agent.core.choice.requirements import Requirements
from tests.support.candidates import at_rate, candidate, evaluation, measurement

OBJECTIVES = ("latency", "energy", "power", "throughput")
AT_MOST = ("latency_p99_ms", "power_w", "energy_j", "memory_mb")
AT_LEAST = ("fps", "sqnr_db", "agreement")

FP32 = candidate("fp32", measurement(71.0), evaluation(None, memory_mb=200))
INT8 = candidate("int8-entropy", measurement(45.1), evaluation(31.0))

numbers = st.floats(0.01, 1000)
limits_of_any_kind = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(AT_MOST, st.just(0.0) | numbers),
        **dict.fromkeys(AT_LEAST, st.just(0.0) | st.floats(0.01, 90)),
    },
)


@st.composite
def some_candidates(draw):
    found = []
    for index in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 9)) == 0:
            found.append(candidate(f"fp16-{index}", failure="refused"))
            continue
        p50 = draw(st.sampled_from([5.0, 5.01, 5.2, 9.0]) | numbers)
        measured = measurement(
            p50,
            p99=p50 * draw(st.floats(1, 3)),
            noise=draw(st.sampled_from([0.0, 0.01, 0.2])),
            power_w=draw(st.none() | st.floats(0.5, 60)),
            steady=draw(st.booleans()),
            throttled=draw(st.sampled_from([None, None, False, True])),
        )
        judged = evaluation(
            draw(st.none() | st.floats(-30, 80)),
            agreement=draw(st.none() | st.floats(0, 1)),
            memory_mb=draw(st.sampled_from([0.0, 50.0, None]) | numbers),
        )
        found.append(
            candidate(f"int8-{index}", measured, judged, size_bytes=draw(st.integers(1, 3)))
        )
    return found


def keeps(one, limits):
    """Say whether a candidate keeps all limits, in other words than the code under test."""
    measured, judged = one.measurement, one.evaluation
    if one.failure or measured is None or judged is None:
        return False
    fidelity = judged.fidelity
    at_most = {
        "latency_p99_ms": measured.latency_ms.p99,
        "power_w": measured.power_w.mean if measured.power_w else None,
        "energy_j": measured.energy_j,
        "memory_mb": judged.memory_mb,
    }
    at_least = {
        "fps": measured.throughput_fps,
        "sqnr_db": float("inf") if judged.identical else fidelity.sqnr_db,
        "agreement": 1.0 if judged.identical else fidelity.agreement,
    }
    return all(
        (at_most[key] is not None and at_most[key] <= bound)
        if key in at_most
        else (at_least[key] is not None and at_least[key] >= bound)
        for key, bound in limits.items()
        if bound
    )


@given(found=some_candidates(), objective=st.sampled_from(OBJECTIVES), limits=limits_of_any_kind)
def test_the_chosen_keeps_every_limit_and_every_candidate_has_a_verdict(found, objective, limits):
    choice = choose(found, Requirements(objective, limits))
    able = {
        c.id
        for c in found
        if keeps(c, limits) and (objective not in {"energy", "power"} or c.measurement.power_w)
    }
    verdicts = {name: verdict.verdict for name, verdict in choice.verdicts.items()}
    assert set(verdicts) == {c.id for c in found}
    assert {name for name, verdict in verdicts.items() if verdict != "rejected"} == able
    assert choice.infeasible == (not able)
    assert [name for name, v in verdicts.items() if v == "chosen"] == (
        [choice.candidate] if able else []
    )
    assert all(v.reasons and all(v.reasons) for v in choice.verdicts.values())
    assert choice.why


@given(
    found=some_candidates(),
    objective=st.sampled_from(OBJECTIVES),
    limits=limits_of_any_kind,
    data=st.data(),
)
def test_the_order_of_candidates_does_not_matter(found, objective, limits, data):
    shuffled = data.draw(st.permutations(found))
    assert choose(shuffled, Requirements(objective, limits)) == choose(
        found, Requirements(objective, limits)
    )


@given(
    found=some_candidates(),
    objective=st.sampled_from(OBJECTIVES),
    limits=limits_of_any_kind,
    factor=st.floats(1, 5),
    key=st.sampled_from(AT_MOST + AT_LEAST),
)
def test_loosening_a_limit_never_makes_it_infeasible(found, objective, limits, factor, key):
    assume(not choose(found, Requirements(objective, limits)).infeasible)
    bound = limits.get(key, 0.0)
    looser = bound * factor if key in AT_MOST else bound / factor
    for value in (looser, 0.0):
        assert not choose(found, Requirements(objective, {**limits, key: value})).infeasible


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most draws are feasible
@given(found=some_candidates(), objective=st.sampled_from(OBJECTIVES), limits=limits_of_any_kind)
def test_what_a_nearest_miss_asks_for_really_helps(found, objective, limits):
    choice = choose(found, Requirements(objective, limits))
    assume(choice.nearest_miss is not None)
    asked = dict(re.findall(r"limits\.(\w+) at (\S+) instead", choice.why))
    removed = re.findall(r"limits\.(\w+) removed", choice.why)
    assert asked or removed
    loosened = {**limits, **{k: float(v) for k, v in asked.items()}, **dict.fromkeys(removed, 0.0)}
    again = choose(found, Requirements(objective, loosened))
    assert again.verdicts[choice.nearest_miss].verdict != "rejected"


def beats(one, other, objective):
    """Say whether one is better in everything that is known of both."""

    def axes(c):
        cost = {
            "latency": c.measurement.latency_ms.p50,
            "throughput": -c.measurement.throughput_fps,
            "energy": c.measurement.energy_j,
            "power": c.measurement.power_w.mean if c.measurement.power_w else None,
        }[objective]
        fidelity = c.evaluation.fidelity
        return (
            cost,
            c.measurement.latency_ms.p50,
            c.measurement.energy_j,
            -float("inf") if c.evaluation.identical else -fidelity.sqnr_db,
            c.evaluation.memory_mb,
        )

    pairs = [
        (a, b)
        for a, b in zip(axes(one), axes(other), strict=True)
        if a is not None and b is not None
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(found=some_candidates(), objective=st.sampled_from(OBJECTIVES), limits=limits_of_any_kind)
def test_a_dominated_or_a_doubtful_candidate_never_wins_over_a_sound_one(found, objective, limits):
    choice = choose(found, Requirements(objective, limits))
    assume(not choice.infeasible)
    by_id = {c.id: c for c in found}
    best = by_id[choice.candidate]

    def doubtful(c):
        return not c.measurement.steady or c.measurement.throttled is True

    feasible = [by_id[name] for name, v in choice.verdicts.items() if v.verdict != "rejected"]
    sound = [c for c in feasible if not doubtful(c)]
    assert not (sound and doubtful(best))
    assert not any(beats(c, best, objective) for c in (sound or feasible))
    known = [c for c in found if c.measurement and c.evaluation]
    assert set(choice.pareto) == {
        c.id for c in known if not any(beats(d, c, objective) for d in known)
    }


@given(found=some_candidates(), limits=limits_of_any_kind)
def test_only_what_is_slower_beyond_the_noise_is_called_slower(found, limits):
    choice = choose(found, Requirements("latency", limits))
    assume(not choice.infeasible)
    spans = {c.id: c.measurement.latency_ms.ci95_p50 for c in found if c.measurement}
    for name, verdict in choice.verdicts.items():
        reason = verdict.reasons[0]
        apart = name in spans and spans[name][0] > spans[choice.candidate][1]
        if reason.startswith("slower than"):
            assert apart != reason.endswith("if only inside the noise")
        if reason.startswith("as fast as"):
            assert not apart


def test_one_that_another_beats_in_everything_is_still_as_fast_inside_the_noise():
    """It was told to be slower, by two digits that mean nothing."""
    best = candidate("int8-entropy", measurement(5.0), evaluation(30.0, memory_mb=90))
    other = candidate("int8-minmax", measurement(5.01), evaluation(25.0, memory_mb=100))
    (reason,) = choose([best, other], Requirements("latency", {})).verdicts["int8-minmax"].reasons
    assert reason == (
        "as fast as int8-entropy (5.01 ms against 5 ms) inside the noise, "
        "and int8-entropy is nearer to FP32"
    )


def test_the_faster_wins_and_the_slower_has_the_difference_as_its_reason():
    choice = choose([FP32, INT8], Requirements("latency", {"sqnr_db": 20}))
    assert choice.candidate == "int8-entropy"
    assert choice.why == (
        "int8-entropy has the best latency within the limits: 45.1 ms against 71 ms of fp32, "
        "at 31.0 dB SQNR"
    )
    assert choice.verdicts["fp32"].verdict == "feasible"
    assert choice.verdicts["fp32"].reasons == (
        "slower than int8-entropy (71 ms against 45.1 ms)",
        "on the Pareto front",
    )


def test_one_that_differs_in_nothing_has_no_infinite_decibels():
    same = candidate("fp16", measurement(50.0), evaluation(None))
    choice = choose([FP32, same], Requirements("latency", {}))
    assert choice.why == (
        "fp16 has the best latency within the limits: 50 ms against 71 ms of fp32, "
        "with its very outputs"
    )


def test_a_broken_limit_is_a_reason_with_both_numbers():
    slow = candidate("fp16", measurement(35.0, p99=41.2), evaluation(60.0))
    choice = choose([slow, INT8], Requirements("latency", {"latency_p99_ms": 30}))
    assert choice.verdicts["fp16"].reasons == ("p99 41.2 ms is over the limit of 30 ms",)
    assert choice.infeasible
    assert choice.nearest_miss == "fp16"
    assert choice.why == (
        "no candidate keeps all limits; fp16 would with "
        "limits.latency_p99_ms at 41.2 instead of 30 (+37.3%)"
    )


def test_several_broken_limits_are_all_reasons():
    choice = choose([INT8], Requirements("latency", {"sqnr_db": 40, "memory_mb": 99}))
    assert choice.why.endswith(
        "limits.memory_mb at 100 instead of 99 (+1.0%) and "
        "limits.sqnr_db at 31 instead of 40 (-22.5%)"
    )


def test_a_hopeless_fidelity_limit_is_removed_not_negative():
    bad = candidate("int8", measurement(5), evaluation(-2.3))
    choice = choose([bad], Requirements("latency", {"sqnr_db": 20}))
    assert choice.verdicts["int8"].reasons == (
        "SQNR of the worst group of channels -2.3 dB is under the limit of 20 dB",
    )
    assert choice.why.endswith("int8 would with limits.sqnr_db removed (0)")


def test_a_tie_inside_the_noise_is_decided_by_fidelity_then_memory_then_size():
    quick = candidate("int8-minmax", measurement(10.0, noise=0.05), evaluation(20.0))
    faithful = candidate("int8-mse", measurement(10.3, noise=0.05), evaluation(30.0))
    choice = choose([quick, faithful], Requirements("latency", {}))
    assert choice.candidate == "int8-mse"
    assert choice.verdicts["int8-minmax"].reasons[0] == (
        "as fast as int8-mse (10 ms against 10.3 ms) inside the noise, "
        "and int8-mse is nearer to FP32"
    )
    lean = candidate(
        "int8-z",
        measurement(10.3, noise=0.05),
        evaluation(30.0, memory_mb=50),
        size_bytes=9999,
    )
    choice = choose(
        [replace(faithful, id="int8-mse2"), faithful, lean], Requirements("latency", {})
    )
    assert choice.candidate == "int8-z"
    file = candidate("int8-z", measurement(10.0, noise=0.05), evaluation(20.0), size_bytes=1)
    choice = choose([quick, file], Requirements("latency", {}))
    assert choice.candidate == "int8-z"
    assert choice.verdicts["int8-minmax"].reasons[0].endswith("int8-z is the smaller file")


def test_a_difference_beyond_the_noise_is_not_a_tie():
    quick = candidate("int8-minmax", measurement(10.0, noise=0.01), evaluation(20.0))
    faithful = candidate("int8-mse", measurement(10.3, noise=0.01), evaluation(30.0))
    assert choose([quick, faithful], Requirements("latency", {})).candidate == "int8-minmax"


def paired(name, p50, sqnr_db, batch=1, **ratios):
    measured = replace(measurement(p50, noise=0.2), p50_ratio_ci95=ratios)
    return replace(candidate(name, measured, evaluation(sqnr_db)), batch=batch)


def test_rounds_that_moved_all_alike_make_no_tie():
    fast = paired("int8", 10.0, 20.0, fp16=(0.95, 0.97))
    slow = paired("fp16", 10.4, 40.0, int8=(1.03, 1.05))
    found = choose([fast, slow], Requirements("latency", {}))
    assert found.candidate == "int8"
    assert found.verdicts["fp16"].reasons[0] == (
        "slower than int8 (10.4 ms against 10 ms), round by round"
    )
    alike = replace(
        slow, measurement=replace(slow.measurement, p50_ratio_ci95={"int8": (0.99, 1.09)})
    )
    assert choose([fast, alike], Requirements("latency", {})).candidate == "fp16"
    assert (
        choose([fast, paired("fp16", 10.4, 40.0)], Requirements("latency", {})).candidate == "fp16"
    )


def test_the_ratio_of_batches_is_that_of_their_frames():
    single = paired("fp16", 10.0, 40.0, four=(0.32, 0.34))
    four = paired("four", 30.0, 20.0, 4, fp16=(2.9, 3.1))
    four = replace(four, measurement=replace(four.measurement, throughput_fps=4000 / 30.0))
    assert choose([single, four], Requirements("throughput", {})).candidate == "four"
    assert choose([single, four], Requirements("latency", {})).candidate == "fp16"


def test_a_wide_interval_does_not_let_a_dominated_candidate_win():
    """It reaches into the leader's noise; what is faster and nearer to FP32 does not."""
    leader = candidate("int8-a", measurement(10.0, noise=0.01), evaluation(30.0))
    better = candidate("int8-b", measurement(10.5, noise=0.005), evaluation(45.0))
    wide = candidate("int8-c", measurement(10.6, noise=0.1), evaluation(40.0))
    choice = choose([leader, better, wide], Requirements("latency", {}))
    assert choice.candidate == "int8-a"
    assert choice.verdicts["int8-c"].reasons == (
        "slower than int8-a (10.6 ms against 10 ms), if only inside the noise",
    )


def test_throughput_is_uncertain_on_the_side_where_latency_may_be_longer():
    def skewed(name, fps, sqnr_db, ci95_p50):
        measured = measurement(10.0)
        measured = replace(measured, latency_ms=replace(measured.latency_ms, ci95_p50=ci95_p50))
        return candidate(name, replace(measured, throughput_fps=fps), evaluation(sqnr_db))

    may_be_slower = skewed("int8-a", 100.0, 20.0, (10.0, 11.0))
    exact = skewed("int8-b", 95.0, 30.0, (10.0, 10.0))
    assert choose([may_be_slower, exact], Requirements("throughput", {})).candidate == "int8-b"
    may_be_faster = skewed("int8-a", 100.0, 20.0, (9.0, 10.0))
    assert choose([may_be_faster, exact], Requirements("throughput", {})).candidate == "int8-a"


@pytest.mark.parametrize("limit", ["sqnr_db", "latency_p99_ms"])
def test_a_flag_stands_beside_every_verdict(limit):
    drifting = candidate("int8", measurement(5.0, steady=False), evaluation(10.0))
    sound = candidate("fp32", measurement(9.0), evaluation(None))
    found = choose(
        [drifting, sound], Requirements("latency", {limit: {"sqnr_db": 20.0}.get(limit, 4.0)})
    )
    verdict = found.verdicts["int8"]
    assert verdict.verdict == "rejected"
    assert verdict.flags == ("its latency did not get steady",)
    assert verdict.reasons[-1] == "its latency did not get steady"
    assert found.verdicts["fp32"].flags == ()


def test_doubtful_numbers_win_only_alone():
    doubtful = candidate("int8", measurement(5.0, steady=False), evaluation(30.0))
    choice = choose([doubtful, FP32], Requirements("latency", {}))
    assert choice.candidate == "fp32"
    assert choice.verdicts["int8"].reasons[:2] == (
        "faster than fp32 (5 ms against 71 ms), but its numbers are doubtful",
        "its latency did not get steady",
    )
    alone = choose([doubtful], Requirements("latency", {}))
    assert alone.candidate == "int8"
    assert "note: its latency did not get steady" in alone.verdicts["int8"].reasons
    assert alone.why.endswith("note: its latency did not get steady")


def test_where_fp32_is_faster_but_doubtful_the_choice_states_that():
    cold = candidate("fp32", replace(measurement(30.0), settled=False), evaluation(None))
    found = choose(
        [cold, candidate("int8", measurement(40.0), evaluation(30.0))], Requirements("latency", {})
    )
    assert found.why == (
        "int8 has the best latency within the limits: 40 ms against 30 ms of fp32, whose numbers "
        "are doubtful, at 30.0 dB SQNR"
    )


@pytest.mark.parametrize("objective", ["energy", "power"])
def test_an_objective_without_a_sensor_is_infeasible_and_never_another(objective):
    choice = choose([FP32, INT8], Requirements(objective, {}))
    assert choice.infeasible
    assert choice.nearest_miss is None
    assert choice.why == (
        f"no candidate is usable: the objective is {objective}, "
        "which is not known here: no power sensor"
    )


def test_a_limit_on_something_not_measurable_rejects_with_the_reason():
    choice = choose([INT8], Requirements("latency", {"power_w": 10}))
    assert choice.verdicts["int8-entropy"].reasons == (
        "power has a limit of 10 W: no power sensor",
    )
    assert choice.nearest_miss is None
    choice = choose([INT8], Requirements("latency", {"agreement": 0.9}))
    assert choice.verdicts["int8-entropy"].reasons == (
        "agreement with FP32 has a limit of 0.9: no metric",
    )


def test_the_baseline_agrees_with_itself_whatever_the_task():
    choice = choose([FP32, INT8], Requirements("latency", {"agreement": 0.99, "sqnr_db": 200}))
    assert choice.candidate == "fp32"


def test_energy_and_power_can_be_the_objective():
    hungry = candidate("fp16", measurement(10.0, power_w=20.0), evaluation(60.0))
    frugal = candidate("int8", measurement(12.0, power_w=10.0), evaluation(30.0))
    assert choose([hungry, frugal], Requirements("latency", {})).candidate == "fp16"
    choice = choose([hungry, frugal], Requirements("energy", {}))
    assert choice.candidate == "int8"
    assert choice.verdicts["fp16"].reasons[0] == (
        "needs more energy than int8 (0.2 J against 0.12 J)"
    )
    assert choose([hungry, frugal], Requirements("power", {})).candidate == "int8"


def test_a_batch_has_throughput_but_the_latency_of_the_whole_batch():
    batch = replace(
        candidate("int8-b4", replace(measurement(30.0), throughput_fps=133.0), evaluation(30.0)),
        batch=4,
    )
    one = candidate("int8", measurement(10.0), evaluation(30.0))
    assert choose([batch, one], Requirements("latency", {})).candidate == "int8"
    choice = choose(
        [batch, one, FP32, replace(FP32, id="fp32-b4", batch=4)], Requirements("throughput", {})
    )
    assert choice.candidate == "int8-b4"
    assert "of fp32-b4" in choice.why


def test_what_was_not_measured_or_compared_is_rejected_with_the_reason():
    failed = candidate("fp16", failure="the builder refused Conv_3")
    lost = candidate("int8-a", measurement(1.0))
    later = candidate("int8-b", None, evaluation(30))
    choice = choose([failed, lost, later, FP32], Requirements("latency", {}))
    reasons = {name: verdict.reasons for name, verdict in choice.verdicts.items()}
    assert choice.candidate == "fp32"
    assert reasons["fp16"] == ("the builder refused Conv_3",)
    assert reasons["int8-a"] == ("it was not compared with FP32",)
    assert reasons["int8-b"] == ("it was not measured",)


def test_nothing_at_all_is_infeasible():
    choice = choose([], Requirements("latency", {}))
    assert choice.infeasible
    assert choice.why == "no candidate is usable: there is none"


def test_numbers_have_the_digits_they_need():
    assert format_distinct(30.0000004, 30.0) == "30.0000004"
    assert format_distinct(12345.6, 12000) == "12346"
    assert format_distinct(1 / 3, 0) == "0.3333"
    assert format_distinct(2.0, 2.0) == "2"


def with_spans(found, *, sqnr_db=None, agreement=None):
    judged = found.evaluation
    fidelity = replace(judged.fidelity, sqnr_db_ci95=sqnr_db, agreement_ci95=agreement)
    return replace(found, evaluation=replace(judged, fidelity=fidelity))


def test_a_fidelity_that_differs_only_inside_its_noise_decides_no_tie():
    faithful = candidate("int8-mse", measurement(10.0), evaluation(30.0, memory_mb=100))
    lean = candidate("int8-minmax", measurement(10.01), evaluation(29.0, memory_mb=50))
    assert choose([faithful, lean], Requirements("latency", {})).candidate == "int8-mse"
    unsure = with_spans(faithful, sqnr_db=(28.5, 31.0))
    choice = choose([unsure, lean], Requirements("latency", {}))
    assert choice.candidate == "int8-minmax"
    assert choice.verdicts["int8-mse"].reasons[0] == (
        "as fast as int8-minmax (10 ms against 10.01 ms) inside the noise, "
        "and int8-minmax needs less memory"
    )
    sure = with_spans(faithful, sqnr_db=(29.5, 31.0))
    choice = choose([sure, lean], Requirements("latency", {}))
    assert choice.candidate == "int8-mse"
    assert choice.verdicts["int8-minmax"].reasons[0].endswith("int8-mse is nearer to FP32")


def test_inside_its_noise_fidelity_still_decides_before_the_name():
    near = with_spans(
        candidate("int8-mse", measurement(10.01), evaluation(30.0)), sqnr_db=(28.0, 32.0)
    )
    far = candidate("int8-a", measurement(10.0), evaluation(29.0))
    choice = choose([near, far], Requirements("latency", {}))
    assert choice.candidate == "int8-mse"
    assert (
        choice.verdicts["int8-a"]
        .reasons[0]
        .endswith("int8-mse is nearer to FP32, if only inside the noise")
    )


def test_a_limit_inside_an_interval_judges_the_value_and_notes_the_doubt():
    one = with_spans(
        candidate("int8", measurement(5.0), evaluation(20.5, agreement=0.94)),
        sqnr_db=(19.5, 21.25),
        agreement=(0.91, 0.97),
    )
    kept = choose([one], Requirements("latency", {"sqnr_db": 20}))
    assert kept.candidate == "int8"
    assert kept.verdicts["int8"].reasons[1:] == (
        "note: SQNR of the worst group of channels 20.5 dB keeps the limit of 20 dB by less than its noise "
        "(95 % interval 19.5 to 21.25 dB)",
    )
    missed = choose([one], Requirements("latency", {"agreement": 0.95}))
    assert missed.verdicts["int8"].reasons == (
        "agreement with FP32 0.94 is under the limit of 0.95 by less than its noise "
        "(95 % interval 0.91 to 0.97)",
    )
    clear = choose([one], Requirements("latency", {"agreement": 0.9, "sqnr_db": 19}))
    assert len(clear.verdicts["int8"].reasons) == 1
    hopeless = choose([one], Requirements("latency", {"agreement": 0.99}))
    assert hopeless.verdicts["int8"].reasons == (
        "agreement with FP32 0.94 is under the limit of 0.99",
    )


def test_a_doubtful_power_is_a_flag_where_power_decides_and_nowhere_else():
    few = replace(measurement(5.0, power_w=4.0))
    assert few.power_w is not None
    few = replace(few, power_w=replace(few.power_w, samples=20, gaps=2, coverage=0.9))
    good, doubtful = (
        candidate("int8-a", measurement(9.0, power_w=6.0), evaluation(30.0)),
        candidate("int8-b", few, evaluation(30.0)),
    )
    assert choose([good, doubtful], Requirements("latency", {})).candidate == "int8-b"
    found = choose([good, doubtful], Requirements("energy", {}))
    assert found.candidate == "int8-a"
    told = " ".join(found.verdicts["int8-b"].reasons)
    assert "20 samples only" in told
    assert "silent 2 times" in told
    thin = replace(few, power_w=replace(few.power_w, samples=200, gaps=0, coverage=0.9))
    found = choose([good, candidate("int8-b", thin, evaluation(30.0))], Requirements("energy", {}))
    assert "covers only 90% of the windows" in " ".join(found.verdicts["int8-b"].reasons)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settled": False}, "not warmed up"),
        ({"starved": 0.2}, "waited for a CPU 20% of the time"),
        ({"mode_change": "the power mode changed from 15W to 7W meanwhile"}, "15W to 7W"),
    ],
)
def test_what_was_measured_under_doubtful_conditions_wins_only_alone(changed, words):
    doubtful = candidate("int8-a", replace(measurement(5.0), **changed), evaluation(30.0))
    good = candidate("int8-b", measurement(9.0), evaluation(30.0))
    found = choose([doubtful, good], Requirements("latency", {}))
    assert found.candidate == "int8-b"
    assert words in " ".join(found.verdicts["int8-a"].reasons)
    assert choose([doubtful], Requirements("latency", {})).candidate == "int8-a"
    barely = candidate("int8-a", replace(measurement(5.0), starved=0.08), evaluation(30.0))
    assert choose([barely, good], Requirements("latency", {})).candidate == "int8-a"


def at_thirty(name, *, flat_w, rate_w, dropped=0.0):
    one = replace(
        measurement(5.0, power_w=flat_w), at_rate=at_rate(30.0, power_w=rate_w, dropped=dropped)
    )
    return candidate(name, one, evaluation(30.0))


@pytest.mark.parametrize("objective", ["energy", "power"])
def test_with_a_frame_rate_power_and_energy_are_judged_at_it(objective):
    racing = at_thirty("int8-a", flat_w=9.0, rate_w=3.0)
    steady = at_thirty("int8-b", flat_w=6.0, rate_w=4.0)
    assert choose([racing, steady], Requirements(objective, {})).candidate == "int8-a"
    found = choose([steady], Requirements("latency", {"power_w": 3.5}))
    assert found.infeasible
    assert "power 4 W is over" in found.verdicts["int8-b"].reasons[0]
    assert choose([racing], Requirements("latency", {"energy_j": 0.11})).candidate == "int8-a"


def test_a_candidate_that_does_not_keep_up_with_the_frame_rate_wins_only_alone():
    late = at_thirty("int8-a", flat_w=3.0, rate_w=2.0, dropped=0.2)
    good = at_thirty("int8-b", flat_w=6.0, rate_w=4.0)
    found = choose([late, good], Requirements("power", {}))
    assert found.candidate == "int8-b"
    assert "it drops 20% of the frames at 30 FPS" in " ".join(found.verdicts["int8-a"].reasons)
    assert choose([late], Requirements("power", {})).candidate == "int8-a"


def with_power_ci(name, watts, ci95, sqnr_db):
    one = measurement(5.0, power_w=watts)
    assert one.power_w is not None
    one = replace(one, power_w=replace(one.power_w, ci95=ci95))
    return candidate(name, one, evaluation(sqnr_db))


def test_powers_that_the_rounds_do_not_separate_are_a_tie():
    noisy = with_power_ci("int8-a", 5.0, (4.5, 5.5), 20.0)
    faithful = with_power_ci("int8-b", 5.3, (4.8, 5.8), 40.0)
    assert choose([noisy, faithful], Requirements("power", {})).candidate == "int8-b"
    sure = with_power_ci("int8-a", 5.0, (4.99, 5.01), 20.0)
    apart = with_power_ci("int8-b", 5.3, (5.29, 5.31), 40.0)
    assert choose([sure, apart], Requirements("power", {})).candidate == "int8-a"
    (note,) = (
        choose([noisy], Requirements("latency", {"power_w": 5.2})).verdicts["int8-a"].reasons[1:]
    )
    assert "keeps the limit of 5.2 W by less than its noise" in note


@pytest.mark.parametrize(("check_w", "doubted"), [(None, False), (4.9, False), (6.0, True)])
def test_two_readings_of_one_rail_that_differ_are_a_flag_where_power_decides(check_w, doubted):
    one = measurement(5.0, power_w=5.0)
    assert one.power_w is not None
    one = replace(one, power_w=replace(one.power_w, check_mean=check_w, check_source="hwmon"))
    told = " ".join(
        choose([candidate("a", one, evaluation())], Requirements("power", {})).verdicts["a"].reasons
    )
    assert ("ina3221 and hwmon differ in VDD_IN" in told) == doubted
    assert (
        "differ" not in choose([candidate("a", one, evaluation())], Requirements("latency", {})).why
    )


def test_one_that_was_measured_to_the_end_comes_before_one_that_was_not():
    out = candidate(
        "int8-a", replace(measurement(5.0), eliminated=True, rounds=2), evaluation(40.0)
    )
    shaken = candidate("int8-b", measurement(5.1, steady=False), evaluation(20.0))
    found = choose([out, shaken], Requirements("latency", {}))
    assert found.candidate == "int8-b"
    assert "measured for 2 rounds only" in " ".join(found.verdicts["int8-a"].reasons)
    assert choose([out], Requirements("latency", {})).candidate == "int8-a"


def test_two_single_rounds_that_are_near_one_another_are_a_tie():
    def single(name, p50, sqnr_db):
        one = measurement(p50)
        one = replace(one, latency_ms=replace(one.latency_ms, ci95_p50=None), rounds=1)
        return candidate(name, one, evaluation(sqnr_db))

    assert (
        choose(
            [single("a", 10.0, 20.0), single("b", 10.3, 50.0)], Requirements("latency", {})
        ).candidate
        == "b"
    )
    assert (
        choose(
            [single("a", 10.0, 20.0), single("b", 12.0, 50.0)], Requirements("latency", {})
        ).candidate
        == "a"
    )
