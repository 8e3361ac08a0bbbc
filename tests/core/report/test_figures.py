"""The table of figures: nothing that is measured is left out of it, and no place is misspelt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import get_args, get_type_hints

import pytest

from agent.core.report.candidates import CandidateReport
from agent.core.report.figures import AT_RATE_FIGURES, FIGURES, Figure, at, shown_figures

TABLE = (*FIGURES, *AT_RATE_FIGURES)
IN_WORDS = {  # as the conditions or the flags of a candidate
    "steady", "settled", "starved", "mode_change", "samples", "rounds", "temp_c", "cpu_mhz",
    "gpu_mhz", "launched", "launched_reason", "power_w.rail", "power_w.excludes", "power_w.source",
    "power_w.period_s", "power_w.samples", "power_w.coverage", "power_w.gaps",
    "power_w.check_mean", "power_w.check_source", "at_rate.rate_fps",
}  # fmt: skip
ONLY_IN_REPORT_JSON = {
    "energy_net_j", "harness_ns", "device_p50_ms", "device_reason", "at_rate_reason",
    "power_w.idle", "power_w.passed_over", "at_rate.samples", "at_rate.latency_ms.ci95_p50",
}  # fmt: skip


def places(kind: type, prefix: str = "") -> Iterator[str]:
    """Return the places of everything in a part of the report, from the candidate on."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        kinds = get_args(hints[field.name]) or (hints[field.name],)
        inner = [one for one in kinds if one is not NoneType and is_dataclass(one)]
        if inner:
            yield from places(inner[0], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


EVERYTHING = {*places(CandidateReport), "fidelity.task.accuracy"}  # a key of the mapping


def test_whatever_is_measured_is_shown_or_left_out_on_purpose():
    named = {
        place
        for one in TABLE
        for place in (one.value, one.reason, one.interval, one.interval_reason)
    }
    missing = {
        place
        for one in EVERYTHING - named
        if (place := one.removeprefix("measured.")) != one
        and place not in IN_WORDS | ONLY_IN_REPORT_JSON
        and not place.startswith("at_rate.power_w.")  # in the words of power_w
    }
    assert not missing, "give these a place in agent/core/report/figures.py"


@pytest.mark.parametrize("figure", TABLE, ids=lambda one: one.value)
def test_every_place_is_one_of_the_report(figure: Figure):
    assert figure.value in EVERYTHING
    assert {figure.reason, figure.interval_reason} - {""} <= EVERYTHING
    if figure.page and not figure.value.endswith(".p90"):
        assert not figure.interval or figure.interval in EVERYTHING


@pytest.mark.parametrize("titles", ["page", "terminal"])
@pytest.mark.parametrize("table", [FIGURES, AT_RATE_FIGURES], ids=["flat out", "at rate"])
def test_no_two_columns_have_the_same_title(table, titles):
    shown = [title for one in table if (title := getattr(one, titles))]
    assert len(shown) == len(set(shown)) > 4


def test_a_unit_is_in_the_title_or_after_the_value():
    power = Figure(name="power", value="measured.power_w.mean", unit="W")
    candidate = {"measured": {"power_w": {"mean": 5.0}}}
    assert power.cell(candidate, "power") == "5.00 W"
    assert power.cell(candidate, "power, W") == "5.00"
    assert power.cell({"measured": None}, "power") == ""
    assert at({"measured": None}, power.value) is None


def test_accuracy_has_a_column_where_a_candidate_has_labels():
    none = {"fidelity": {"task": {"top1": 0.9}}}
    boxes = {
        "fidelity": {
            "task": {
                "ap50": 0.9,
                "accuracy": 0.61,
                "accuracy_ap50_95": 0.4,
                "baseline_accuracy": 0.62,
                "baseline_accuracy_ap50_95": 0.41,
            },
            "accuracy_ci95": [0.5, 0.7],
        }
    }
    for place in ("page", "terminal"):
        titles = [getattr(one, place) for one in shown_figures(FIGURES, place, [none])]
        assert "accuracy" not in titles
        *_, task, accuracy = shown_figures(FIGURES, place, [none, boxes])
        assert task.cell(boxes, "task") == "ap50 0.900"
        assert accuracy.cell(boxes, "accuracy") == "0.610 (FP32 0.620)\nap50_95 0.400 (FP32 0.410)"
        assert accuracy.span(boxes) == "0.5–0.7"
