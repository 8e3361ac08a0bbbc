"""The report: everything of the run is in it, and what is null has its reason beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.choice.choose import choose
from agent.core.choice.requirements import Requirements
from agent.core.records import UNPREDICTED
from agent.run.report import encode
from agent.wire.schema import schemas
from tests.support.candidates import candidate, evaluation, measurement
from tests.support.reports import report_of

SCHEMA = jsonschema.Draft202012Validator(schemas()["report"])


def written(report) -> dict:
    return json.loads(encode(report))


@st.composite
def candidates_with_holes(draw):
    """Candidates of every kind that a run leaves: failed, unpowered, identical, without task."""
    found = []
    for index in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            found.append(candidate(f"fp16-{index}", failure="the runtime refused it"))
            continue
        measured = measurement(
            draw(st.floats(0.1, 100)),
            power_w=draw(st.none() | st.floats(1, 60)),
            steady=draw(st.booleans()),
            throttled=draw(st.none() | st.booleans()),
        )
        judged = evaluation(
            draw(st.none() | st.floats(-30, 80)), agreement=draw(st.none() | st.floats(0, 1))
        )
        found.append(candidate(f"int8-{index}", measured, judged))
    return found


@given(found=candidates_with_holes(), limits=st.sampled_from([{}, {"sqnr_db": 20.0}]))
def test_every_null_has_its_reason_beside_it(found, limits):
    report = written(report_of(found, limits=limits))
    SCHEMA.validate(report)
    assert [one["id"] for one in report["candidates"]] == [one.id for one in found]
    for one in report["candidates"]:
        assert one["reasons"]
        assert one["predicted"]["basis"]
        assert (one["measured"] is None) == (one["fidelity"] is None)
        if one["measured"] is None:
            assert one["verdict"] == "rejected"
            continue
        measured, fidelity = one["measured"], one["fidelity"]
        for table, value, reason in (
            (measured, "power_w", "power_reason"),
            (measured, "energy_j", "energy_reason"),
            (measured, "throttled", "throttled_reason"),
            (fidelity, "sqnr_db", "sqnr_reason"),
            (fidelity, "agreement", "agreement_reason"),
        ):
            assert (table[value] is None) == bool(table[reason]), (value, table)


def test_no_candidate_at_all_is_a_report_too():
    report = written(report_of([]))
    SCHEMA.validate(report)
    assert report["candidates"] == []
    assert report["choice"]["infeasible"]
    assert report["activation"]["state"] == "not_attempted"


def test_the_numbers_are_those_of_the_records():
    one = candidate(
        "int8-mse", measurement(5.0, p99=7.0, power_w=4.0), evaluation(31.0, agreement=0.97)
    )
    one = replace(
        one,
        predicted=replace(
            UNPREDICTED, latency_p50_ms=6.0, latency_p50_ms_ci90=(4.0, 9.0), basis="a trial"
        ),
        batch=4,
    )
    (facts,) = written(report_of([one]))["candidates"]
    assert facts["measured"]["latency_ms"] == {
        "p50": 5.0, "p90": 5.0, "p99": 7.0, "ci95_p50": [4.95, 5.05], "ci95_p99": [7.0, 7.0],
        "ci95_reason": "",
    }  # fmt: skip
    assert facts["measured"]["power_w"] == {
        "mean": 4.0, "ci95": None, "idle": 1.0, "rail": "VDD_IN", "excludes": "",
        "passed_over": "", "source": "ina3221", "period_s": 0.1, "samples": 100,
        "coverage": 1.0, "gaps": 0, "check_mean": None, "check_source": "",
    }  # fmt: skip
    assert facts["measured"]["energy_j"] == pytest.approx(0.02)
    assert facts["measured"]["memory_mb"] == 100.0
    assert facts["measured"]["launched"] is None
    assert facts["measured"]["launched_reason"] == "it launches by itself"
    assert facts["predicted"] == {
        "latency_p50_ms": 6.0, "latency_p50_ms_ci90": [4.0, 9.0], "inside": True,
        "throughput_fps": None, "throughput_fps_ci90": None,
        "power_w": None, "power_w_ci90": None, "energy_j": None, "energy_j_ci90": None,
        "basis": "a trial",
    }  # fmt: skip
    assert facts["engine"] == {
        "digest": "f", "bytes": 1000, "build_s": 1.0,
        "layers": {
            "int8": 0, "fp16": 0, "fp32": 0, "conversions": 0, "others": 0, "providers": {},
            "told_by": "a test",
        },
    }  # fmt: skip
    fidelity = facts["fidelity"]
    assert (fidelity["agreement"], fidelity["task"]) == (0.97, {"top1": 0.97})
    assert (facts["batch"], facts["verdict"]) == (4, "chosen")


def test_how_an_engine_was_launched_is_reported_with_the_reason():
    measured = replace(
        measurement(5.0),
        launched="CUDA graph",
        launched_reason="1 ms against 2 ms by plain launches",
    )
    one = candidate("fp16", measured, evaluation())
    (facts,) = written(report_of([one]))["candidates"]
    assert facts["measured"]["launched"] == "CUDA graph"
    assert facts["measured"]["launched_reason"] == "1 ms against 2 ms by plain launches"


def test_what_was_never_made_is_null():
    bare = replace(candidate("int8-mse", failure="no scale"), engine=None)
    (facts,) = written(report_of([bare]))["candidates"]
    empty = ("engine", "measured", "fidelity", "int8_macs_fraction")
    assert {facts[key] for key in empty} == {None}
    assert facts["reasons"] == ["no scale"]
    assert facts["predicted"]["basis"] == "not predicted"


def test_limits_of_zero_are_no_limits():
    report = report_of([], limits={"sqnr_db": 20.0, "power_w": 0.0})
    assert written(report)["limits"] == {"sqnr_db": 20.0}


def test_a_number_that_is_none_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(replace(report_of([]), timings_s={"capture": float("nan")}))


def test_a_candidate_without_a_verdict_is_a_defect():
    one = candidate("fp32", measurement(5.0), evaluation(None))
    with pytest.raises(KeyError):
        report_of([one], choice=choose([], Requirements("latency", {})))
