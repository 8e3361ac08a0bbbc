"""What the peak of a board makes of a graph, beside what was published of such boards."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.boards import boards
from agent.core.prediction.roofline import WIDTH, Peak, expected_ms
from agent.core.records import CleanModel, Digest

MODEL = CleanModel(
    digest=Digest("m"), name="m", sha256="s", opset=17, inputs=(), outputs=(), macs=0,
    weight_bytes=0, activation_bytes=0, changes=(),
)  # fmt: skip
PEAK = Peak(int8_sparse_ops_per_s=40e12, memory_bytes_per_s=68e9)


@pytest.mark.parametrize(
    ("million_weights", "gflop", "precision", "published_ms"),
    [
        (3.2, 8.7, "fp16", 7.3), (11.2, 28.6, "fp16", 11.4), (25.9, 78.9, "fp16", 23.6),
        (3.2, 8.7, "int8", 5.8), (11.2, 28.6, "int8", 8.2), (25.9, 78.9, "int8", 17.1),
    ],
)  # fmt: skip
def test_what_was_published_of_an_orin_nano_lies_in_the_interval(
    million_weights, gflop, precision, published_ms
):
    """YOLOv8 n, s and m; sizes as ultralytics tells them at 640 x 640."""
    yolo = replace(MODEL, macs=int(gflop / 2 * 1e9), weight_bytes=int(4e6 * million_weights))
    expected = expected_ms(yolo, precision, 1, boards()["orin-nano"].peak.rates())
    assert expected / exp(WIDTH) <= published_ms <= expected * exp(WIDTH)


def test_moving_counts_where_it_takes_longer_than_computing():
    moving = replace(MODEL, macs=1, weight_bytes=34_000_000, activation_bytes=17_000_000)
    assert expected_ms(moving, "fp32", 1, PEAK) == pytest.approx(4 * 1.0)
    assert expected_ms(moving, "int8", 1, PEAK) == pytest.approx(1.0)
    assert expected_ms(moving, "fp32", 2, PEAK) == pytest.approx(4 * 1.5)
    assert expected_ms(replace(MODEL, macs=10**9), "int8", 1, PEAK) == pytest.approx(0.4)


def test_a_graph_that_computes_nothing_is_not_predicted():
    assert expected_ms(MODEL, "fp16", 1, PEAK) is None


def test_every_board_has_rates():
    assert all(one.peak.rates() for one in boards().values())
    thor = boards()["agx-thor"].peak.rates()
    assert thor.int8_sparse_ops_per_s == pytest.approx(1035e12)


sizes = st.integers(0, 10**11)


@given(sizes, sizes, sizes, st.integers(1, 16), st.integers(1, 10**9))
def test_more_work_never_takes_less_and_a_narrower_precision_never_more(
    macs, weights, activations, batch, more
):
    model = replace(MODEL, macs=macs, weight_bytes=weights, activation_bytes=activations)

    def took(model, precision="fp16", batch=batch, peak=PEAK):
        return expected_ms(model, precision, batch, peak) or 0.0

    assert took(replace(model, macs=macs + more)) >= took(model)
    assert took(replace(model, activation_bytes=activations + more)) >= took(model)
    assert took(model, batch=batch + 1) >= took(model)
    assert took(model, "int8") <= took(model, "fp16") <= took(model, "fp32")
    faster = replace(PEAK, memory_bytes_per_s=2 * PEAK.memory_bytes_per_s)
    assert took(model, peak=faster) <= took(model)
