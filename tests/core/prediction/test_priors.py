"""What other devices measured: whose rows count, and that none is guessed at."""

from __future__ import annotations

import pytest

from agent.core.errors import CameraError
from agent.core.frames.profile import parse_profile
from agent.core.prediction.priors import FleetFigure, figures, in_mode

HERE = {"runtime": {"tensorrt"}, "board": {"Jetson Orin Nano", "orin-nano"}}
HEADER = "model,precision,batch,latency_ms,power_w,runtime,board,power_mode"


def told(*lines: str, header: str = HEADER) -> tuple[FleetFigure, ...]:
    rows = parse_profile([header, *lines], frames=False)
    return figures(rows, {"faces", "faces.onnx", "ab12"}, HERE, "fleet.csv")


def test_the_median_of_each_precision_batch_and_mode_is_reported():
    found = told(
        "faces,int8,1,4,6,,,", "faces.onnx,INT8,,6,,,,", "AB12,int8,1,9,8,tensorrt,Orin-Nano,",
        "faces,int8,4,20,,,,", "faces,int8,1,7,,,,15W",
    )  # fmt: skip
    assert [(f.batch, f.power_mode, f.latency_ms, f.power_w, f.count) for f in found] == [
        (1, "", 6.0, 7.0, 3),
        (1, "15W", 7.0, None, 1),
        (4, "", 20.0, None, 1),
    ]
    assert {(f.precision, f.origin) for f in found} == {("int8", "fleet.csv")}


@pytest.mark.parametrize(
    "row",
    [
        "dogs,int8,1,4,,,,",
        ",int8,1,4,,,,",
        "faces,,1,4,,,,",
        "faces,int8,1,,6,,,",
        "faces,int8,1,4,,onnxruntime,,",
        "faces,int8,1,4,,,agx-orin,",
    ],
)
def test_rows_of_others_and_rows_without_an_identity_count_for_nothing(row):
    assert told(row) == ()


def test_columns_that_are_not_there_are_not_asked_about():
    (found,) = told("faces,fp16,3", header="model,precision,latency_ms")
    assert (found.batch, found.latency_ms, found.power_w) == (1, 3.0, None)


def test_figures_that_state_the_mode_come_before_those_that_state_none():
    found = told("faces,int8,1,4,,,,", "faces,int8,1,7,,,,15W", "faces,int8,1,3,,,,MAXN")
    assert [one.latency_ms for one in in_mode(found, "15w")] == [7.0, 4.0]
    assert [one.latency_ms for one in in_mode(found, "")] == [4.0]


def test_a_bad_number_is_named_with_its_line():
    with pytest.raises(CameraError, match="line 3: latency_ms = '-1'"):
        told("faces,int8,1,4,,,,", "faces,int8,1,-1,,,,")
