"""Predictions: which source is trusted, what is never guessed, and what holds for any history."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.journal import PastMeasurement
from agent.core.lineage import CleanModel, Digest, Prediction, Recipe
from agent.core.prediction import DeviceRates, predict

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
RATES = DeviceRates(
    runtime="onnxruntime",
    runtime_version="1",
    fp32_macs_per_s=1e9,
    int8_macs_per_s=4e9,
    bytes_per_s=1e9,
    overhead_s=50e-6,
)
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


def predicted(*history, recipe=INT8, model=MODEL, rates=None, batch=1) -> Prediction:
    return predict(recipe, model, "onnxruntime", batch, history=history, rates=rates)


def test_nothing_known_is_none_with_the_reason():
    assert predicted() == Prediction(
        latency_p50_ms=None, energy_j=None, basis="nothing known of int8 on onnxruntime here"
    )


def test_this_devices_own_measurements_of_the_model_come_first():
    history = [replace(PAST, latency_p50_ms=ms) for ms in (3.0, 9.0, 4.0)]
    found = predicted(OTHER, *history, rates=RATES)
    assert (found.latency_p50_ms, found.energy_j) == (4.0, 0.02)
    assert found.basis == "median of 3 earlier measurements of this model here"


@pytest.mark.parametrize(
    "other",
    [{"precision": "fp32"}, {"runtime": "tensorrt"}, {"batch": 4}],
    ids=lambda changed: next(iter(changed)),
)
def test_what_was_measured_otherwise_says_nothing(other):
    assert predicted(replace(PAST, **other)).latency_p50_ms is None


def test_the_same_file_at_another_input_size_is_another_model():
    small = replace(PAST, macs=250_000, latency_p50_ms=0.5)
    found = predicted(small)
    assert found.latency_p50_ms == pytest.approx(2.0)
    assert "scaled by compute" in found.basis


def test_other_models_are_scaled_by_their_compute():
    found = predicted(OTHER, replace(OTHER, latency_p50_ms=12.0, energy_j=None))
    assert found.latency_p50_ms == pytest.approx((4.0 + 6.0) / 2)
    assert found.energy_j == pytest.approx(0.02)
    assert found.basis == "2 earlier measurements of other models here, scaled by compute"


def test_a_model_without_compute_is_not_scaled_to_no_time_at_all():
    assert predicted(OTHER, model=replace(MODEL, macs=0)).latency_p50_ms is None
    assert predicted(replace(OTHER, macs=0)).latency_p50_ms is None


def test_a_model_without_compute_that_was_measured_is_known():
    found = predicted(replace(PAST, macs=0), model=replace(MODEL, macs=0))
    assert found.latency_p50_ms == 3.0


@pytest.mark.parametrize(
    ("recipe", "batch", "expected_ms"),
    [
        (FP32, 1, 0.05 + 1.0 + 0.4),
        (INT8, 1, 0.05 + 0.25 + 0.1),
        (Recipe(precision="int8-mixed"), 1, 0.05 + 0.25 + 0.1),
        (FP32, 4, 0.05 + 4 * (1.0 + 0.4)),
    ],
)
def test_the_roofline_adds_compute_traffic_and_overhead(recipe, batch, expected_ms):
    found = predicted(recipe=recipe, rates=RATES, batch=batch)
    assert found.latency_p50_ms == pytest.approx(expected_ms)
    assert found.energy_j is None
    assert "roofline" in found.basis


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
    rates=st.none() | st.just(RATES),
    macs=st.sampled_from([0, 1_000_000]),
    data=st.data(),
)
def test_a_prediction_is_positive_or_none_and_order_does_not_matter(history, rates, macs, data):
    model = replace(MODEL, macs=macs)
    found = predicted(*history, rates=rates, model=model)
    assert found.basis
    assert found.latency_p50_ms is None or found.latency_p50_ms > 0
    assert found.energy_j is None or found.energy_j >= 0
    assert found == predicted(*data.draw(st.permutations(history)), rates=rates, model=model)
