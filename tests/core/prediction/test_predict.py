"""Predictions: which source is trusted, what is never guessed, and what holds for any history."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.prediction.history import PastMeasurement
from agent.core.prediction.predict import Evidence, Trial, predict
from agent.core.prediction.priors import FleetFigure
from agent.core.prediction.roofline import Peak
from agent.core.records import UNPREDICTED, CleanModel, Digest, Prediction, Recipe

MODEL = CleanModel(
    digest=Digest("m"),
    name="faces",
    sha256="this",
    opset=17,
    inputs=(),
    outputs=(),
    macs=1_000_000,
    weight_bytes=4000,
    activation_bytes=400_000,
    changes=(),
)
TRIAL = Trial(batch=1, fp32_ms=1.6, int8_ms=0.4)
PAST = PastMeasurement(
    model="this",
    precision="int8",
    runtime="onnxruntime",
    batch=1,
    power_mode="",
    macs=1_000_000,
    latency_p50_ms=3.0,
    energy_j=0.02,
    predicted_ms=None,
    utc="2026-11-23T00:00:00Z",
)
OTHER = replace(PAST, model="other", macs=2_000_000, latency_p50_ms=8.0, energy_j=0.04)
INT8 = Recipe(precision="int8", calibrator="entropy", scheme="U8S8")
FP32 = Recipe(precision="fp32")


ELSEWHERE = FleetFigure(
    precision="int8", batch=1, power_mode="", latency_ms=0.7, power_w=6.0, count=12, origin="f.csv"
)


def predicted(
    *history, recipe=INT8, model=MODEL, trial=None, batch=1, fleet=(), peak=None
) -> Prediction:
    evidence = Evidence(history=history, trial=trial, fleet=fleet, peak=peak)
    return predict(recipe, model, "onnxruntime", batch, evidence)


def test_nothing_known_is_none_with_the_reason():
    assert predicted() == replace(UNPREDICTED, basis="nothing known of int8 on onnxruntime here")


def test_this_devices_own_measurements_of_the_model_come_first():
    history = [replace(PAST, latency_p50_ms=ms) for ms in (3.0, 9.0, 4.0)]
    found = predicted(OTHER, *history, trial=TRIAL)
    assert (found.latency_p50_ms, found.energy_j) == (4.0, 0.02)
    assert found.basis == "median of 3 earlier measurements of this model here"


@pytest.mark.parametrize(
    "other",
    [{"precision": "fp32"}, {"runtime": "tensorrt"}, {"batch": 4}],
    ids=lambda changed: next(iter(changed)),
)
def test_what_was_measured_otherwise_states_nothing(other):
    assert predicted(replace(PAST, **other)).latency_p50_ms is None


def test_the_same_file_at_another_input_size_is_another_model():
    small = replace(PAST, macs=250_000, latency_p50_ms=0.5)
    found = predicted(small)
    assert found.latency_p50_ms == pytest.approx(2.0)
    assert "scaled by compute" in found.basis


def test_other_models_are_scaled_by_their_compute():
    found = predicted(OTHER, replace(OTHER, latency_p50_ms=12.0, energy_j=None))
    assert found.latency_p50_ms == pytest.approx((4.0 + 6.0) / 2)
    assert found.energy_j == pytest.approx(5.0 * 5e-3)
    assert found.basis == "2 earlier measurements of other models here, scaled by compute"


def test_a_model_without_compute_is_not_scaled_to_no_time_at_all():
    assert predicted(OTHER, model=replace(MODEL, macs=0)).latency_p50_ms is None
    assert predicted(replace(OTHER, macs=0)).latency_p50_ms is None


def test_a_model_without_compute_that_was_measured_is_known():
    found = predicted(replace(PAST, macs=0), model=replace(MODEL, macs=0))
    assert found.latency_p50_ms == 3.0


@pytest.mark.parametrize(
    ("recipe", "expected_ms"),
    [(FP32, 1.6), (INT8, 0.4), (Recipe(precision="int8-mixed"), 0.8)],
)
def test_a_trial_of_the_graph_comes_before_other_models(recipe, expected_ms):
    found = predicted(OTHER, recipe=recipe, trial=TRIAL)
    assert found.latency_p50_ms == pytest.approx(expected_ms)
    assert found.throughput_fps == pytest.approx(1e3 / expected_ms)
    low_ms, high_ms = found.latency_p50_ms_ci90
    assert found.throughput_fps_ci90 == pytest.approx((1e3 / high_ms, 1e3 / low_ms))
    assert "trial" in found.basis


def test_mixed_may_take_what_either_of_its_ends_takes():
    found = predicted(recipe=Recipe(precision="int8-mixed"), trial=TRIAL).latency_p50_ms_ci90
    assert found[0] < 0.4
    assert found[1] > 1.6


def test_power_of_other_models_and_the_time_of_this_one_make_energy():
    found = predicted(replace(OTHER, latency_p50_ms=8.0, energy_j=0.04), trial=TRIAL)
    assert found.power_w == pytest.approx(5.0)
    assert found.energy_j == pytest.approx(5.0 * 0.4e-3)


def test_power_and_energy_have_intervals_that_past_errors_narrow():
    found = predicted(PAST)
    assert found.power_w == pytest.approx(20 / 3)
    assert found.power_w_ci90 == pytest.approx((20 / 3 * exp(-0.25), 20 / 3 * exp(0.25)))
    assert found.energy_j_ci90 == pytest.approx((0.02 * exp(-0.5), 0.02 * exp(0.5)))
    other = predicted(OTHER)
    assert other.power_w_ci90 == pytest.approx((2.5, 10.0))
    checked = pairs(
        *[1.0] * 12, source="history", model="other", predicted_w=5.0, power_w=5.5,
        predicted_j=0.05, energy_j=0.06,
    )  # fmt: skip
    found = predicted(PAST, *checked)
    assert found.power_w_ci90 == pytest.approx((20 / 3 / 1.1, 20 / 3 * 1.1))
    assert found.energy_j_ci90 == pytest.approx((0.02 / 1.2, 0.02 * 1.2))
    assert predicted(trial=TRIAL).power_w_ci90 is None


def pairs(*ratios, source="trial", **changed):
    past = replace(PAST, predicted_ms=10.0, source=source, **changed)
    return [
        replace(past, latency_p50_ms=10.0 * ratio, utc=f"run {number}")
        for number, ratio in enumerate(ratios)
    ]


def test_an_interval_is_as_wide_as_the_source_was_off():
    wide = predicted(*pairs(*[1.3] * 12), model=replace(MODEL, sha256="new"), trial=TRIAL)
    assert wide.latency_p50_ms_ci90 == pytest.approx((0.4 / 1.3, 0.4 * 1.3))


def test_what_mixed_misses_widens_no_other_interval():
    near = pairs(*[1.02] * 19)
    far = pairs(*[4.0] * 19, precision="int8-mixed")
    new = replace(MODEL, sha256="new")
    alone, both = (predicted(*some, model=new, trial=TRIAL) for some in (near, near + far))
    assert alone.latency_p50_ms_ci90 == both.latency_p50_ms_ci90
    assert both.latency_p50_ms_ci90 == pytest.approx((0.4 / 1.02, 0.4 * 1.02))


def test_mixed_is_judged_by_its_predicted_span():
    mixed, new = Recipe(precision="int8-mixed"), replace(MODEL, sha256="new")
    anywhere = pairs(
        *[0.5, 1.0, 2.0] * 7, precision="int8-mixed", span_low_ms=5.0, span_high_ms=20.0
    )
    found = predicted(*anywhere, recipe=mixed, model=new, trial=TRIAL)
    assert found.latency_p50_ms_span == (0.4, 1.6)
    assert found.latency_p50_ms_ci90 == pytest.approx((0.4, 1.6))
    outside = [replace(past, latency_p50_ms=22.0) for past in anywhere]
    found = predicted(*outside, recipe=mixed, model=new, trial=TRIAL)
    assert found.latency_p50_ms_ci90 == pytest.approx((0.4 / 1.1, 1.6 * 1.1))


def test_what_was_scaled_from_other_models_is_reported_to_be_vague():
    low, high = predicted(OTHER).latency_p50_ms_ci90
    assert (low, high) == pytest.approx((1.0, 16.0))


def test_other_devices_are_believed_after_the_graph_itself_and_before_other_models():
    assert predicted(PAST, fleet=[ELSEWHERE]).source == "history"
    assert predicted(fleet=[ELSEWHERE], trial=TRIAL).source == "trial"
    found = predicted(OTHER, fleet=[ELSEWHERE])
    assert (found.source, found.latency_p50_ms, found.power_w) == ("fleet", 0.7, 6.0)
    assert found.energy_j == pytest.approx(6.0 * 0.7e-3)
    assert found.basis == "median of 12 measurements of this model elsewhere (f.csv)"
    assert predicted(OTHER, fleet=[replace(ELSEWHERE, precision="fp32")]).source == "other models"
    assert predicted(fleet=[ELSEWHERE], batch=4).latency_p50_ms is None


def test_the_peak_of_the_board_is_the_last_resort_and_reported_to_be_vague():
    peak = Peak(int8_sparse_ops_per_s=40e12, memory_bytes_per_s=0.804e9)
    found = predicted(peak=peak)
    assert found.source == "roofline"
    assert found.latency_p50_ms == pytest.approx(1.0)  # moving 201 kB at a quarter of the peak
    assert found.latency_p50_ms_ci90 == pytest.approx((0.25, 4.0))
    mixed = predicted(peak=peak, recipe=Recipe(precision="int8-mixed"))
    assert mixed.latency_p50_ms_span == pytest.approx((1.0, 2.0))
    assert predicted(OTHER, peak=peak).source == "other models"
    assert (
        predicted(
            peak=peak, model=replace(MODEL, weight_bytes=0, activation_bytes=0, macs=0)
        ).latency_p50_ms
        is None
    )
    checked = pairs(*[1.2] * 12, source="roofline", precision="fp16")
    assert predicted(*checked, peak=peak).latency_p50_ms_ci90 == pytest.approx((1 / 1.2, 1.2))


def test_a_precision_that_was_not_tried_is_not_called_another():
    assert predicted(recipe=Recipe(precision="fp16"), trial=TRIAL).latency_p50_ms is None


def test_energy_is_none_where_none_was_measured_and_zero_is_a_number():
    assert predicted(replace(PAST, energy_j=None)).energy_j is None
    assert predicted(replace(PAST, energy_j=0.0)).energy_j == 0.0
    assert predicted(replace(OTHER, energy_j=0.0)).energy_j == 0.0


histories = st.lists(
    st.builds(
        replace,
        st.just(PAST),
        model=st.sampled_from(["this", "other"]),
        macs=st.sampled_from([0, 1_000_000, 3_000_000]),
        latency_p50_ms=st.floats(0.001, 1e4),
        energy_j=st.none() | st.floats(0, 100),
    ),
    max_size=6,
)


@given(
    history=histories,
    trial=st.none() | st.just(TRIAL),
    macs=st.sampled_from([0, 1_000_000]),
    data=st.data(),
)
def test_a_prediction_is_positive_or_none_and_order_does_not_matter(history, trial, macs, data):
    model = replace(MODEL, macs=macs)
    found = predicted(*history, trial=trial, model=model)
    assert found.basis
    assert found.latency_p50_ms is None or found.latency_p50_ms > 0
    assert found.energy_j is None or found.energy_j >= 0
    if found.energy_j:
        assert 0 <= found.energy_j_ci90[0] <= found.energy_j <= found.energy_j_ci90[1]
    if found.latency_p50_ms is not None:
        low, high = found.latency_p50_ms_ci90
        assert 0 < low <= found.latency_p50_ms <= high
    assert found == predicted(*data.draw(st.permutations(history)), trial=trial, model=model)


def test_members_of_earlier_fronts_predict_a_span():
    """They are graphs with more or fewer layers in float, and which is found is not known yet."""
    fronts = [replace(PAST, precision="int8-mixed", latency_p50_ms=ms) for ms in (2.0, 5.0, 4.0)]
    found = predicted(*fronts, recipe=Recipe(precision="int8-mixed"))
    assert found.latency_p50_ms_span == (2.0, 5.0)
    assert found.latency_p50_ms == 4.0
    low_ms, high_ms = found.latency_p50_ms_ci90
    assert low_ms < 2.0
    assert high_ms > 5.0
    assert predicted(PAST).latency_p50_ms_span is None
