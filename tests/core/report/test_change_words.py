"""The change against the release before, in words."""

from __future__ import annotations

import pytest

from agent.core.report.change_words import change_sentence, changes


def report(**speedup):
    found = {"over": "fp16", "factor": 1.25, "reason": "", "ci95": [1.1, 1.4], "ci95_reason": ""}
    return {
        "against_previous": {
            "release": "R1", "candidate": "fp16", "precision": "fp16",
            "measured": "2026-11-27T04:16:13Z", "same_run": False, "speedup": found | speedup,
            "figures": {
                "latency_p50_ms": {"before": 10.0, "now": 8.0, "reason": ""},
                "energy_j": {"before": None, "now": 0.02, "reason": "before: no sensor"},
                "power_w": {"before": None, "now": None, "reason": "no sensor"},
                "agreement": {"before": 0.97, "now": 1.0, "reason": ""},
                "throughput_fps": {"before": 0.0, "now": 125.0, "reason": ""},
            },
        },
        "against_previous_reason": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("speedup", "words"),
    [
        ({}, "1.25 times as fast (95 % interval 1.1 to 1.4)."),
        ({"ci95": [0.9, 1.4]}, "(95 % interval 0.9 to 1.4, so within the noise)."),
        (
            {"ci95": None, "ci95_reason": "one round"},
            "1.25 times as fast (no interval: one round).",
        ),
        ({"factor": None, "reason": "another board"}, "speed not compared: another board."),
    ],
)
def test_a_speed_stands_with_its_noise_or_the_reason(speedup, words):
    text = change_sentence(report(**speedup))
    assert text.startswith("Against release R1 (fp16, measured 2026-11-27 04:16 UTC): ")
    assert text.endswith(words)


def test_no_release_before_has_its_reason_and_an_early_report_nothing():
    found = {"against_previous": None, "against_previous_reason": "no release was active before"}
    assert change_sentence(found) == "Not compared: no release was active before."
    assert changes(found) == ()
    assert change_sentence({}) == ""


def test_a_figure_is_a_ratio_a_difference_or_a_dash():
    found = {one.name: one for one in changes(report())}
    assert "power" not in found
    latency = found["median latency"]
    assert (latency.before, latency.now, latency.change) == ("10 ms", "8 ms", "-20 %")
    energy = found["energy of a frame"]
    assert (energy.before, energy.now, energy.change) == ("", "20 mJ", "")
    assert energy.reason == "before: no sensor"
    assert found["agreement"].change == "+3 points"
    assert found["throughput"].change == ""
