"""When the judging frames show that other frames will meet the limits too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.core.fidelity.resampling import agreement_ci95
from agent.core.search.target import Target
from tests.support.candidates import fidelity


@pytest.mark.parametrize(
    ("target", "sqnr_db", "agreement", "met"),
    [
        (Target.of(0, 0, has_metric=True), 5.0, 0.997, True),  # the metric alone decides
        (Target.of(0, 0, has_metric=True), 49.0, 0.5, False),
        (Target.of(0, 0, has_metric=True), 49.0, 0.955, False),
        (Target.of(0, 0, has_metric=False), 25.0, None, True),
        (Target.of(10, 0.9, has_metric=True), 25.0, 0.5, False),  # the user's limits hold both
        (Target.of(10, 0.9, has_metric=True), 5.0, 0.99, False),
        (Target.of(10, 0.9, has_metric=True), 11.0, 0.995, True),
    ],
)
def test_a_target_is_met_with_some_margin(target, sqnr_db, agreement, met):
    found = fidelity(10.0, frames=4)
    assert target.is_met(replace(found, sqnr_db=sqnr_db, agreement=agreement)) is met
    assert not target.is_met(None)


def test_the_margin_grows_with_the_doubt():
    found = fidelity(10.0, frames=4)
    target = Target(sqnr_db=10, agreement=0)
    sure = replace(found, sqnr_db=11.0, sqnr_db_ci95=(10.8, 11.2))
    doubtful = replace(found, sqnr_db=11.0, sqnr_db_ci95=(9.0, 13.0))
    assert target.is_met(sure)
    assert not target.is_met(doubtful)


@pytest.mark.parametrize(
    ("agreement", "interval", "met"),
    [
        (0.957, (0.953, 0.961), True),
        (0.957, (0.93, 0.98), False),
        (1.0, (0.8, 1.0), True),  # 16 of 16 frames: no graph can do better
        (0.957, None, False),
    ],
)
def test_the_margin_of_the_metric_is_that_of_its_interval(agreement, interval, met):
    found = replace(fidelity(10.0, frames=4), agreement=agreement, agreement_ci95=interval)
    assert Target.of(0, 0.95, has_metric=True).is_met(found) is met


def test_where_too_little_is_seen_sqnr_stands_in_for_the_metric():
    found = fidelity(10.0, frames=4)
    target = Target.of(0, 0.9, has_metric=True)
    unseen = replace(found, agreement=None, judged_frames=3)
    assert target.is_met(replace(unseen, sqnr_db=21.0))
    assert not target.is_met(replace(unseen, sqnr_db=19.0))
    assert not target.is_met(replace(found, sqnr_db=40.0, agreement=None, judged_frames=None))


def test_nine_of_ten_graphs_that_are_accepted_keep_the_limit_on_other_frames():
    """Of graphs around the limit, on 16 frames that differ; without a margin it is two of three."""
    draw = np.random.default_rng(0)
    target, blank = Target.of(0, 0.95, has_metric=True), fidelity(10.0, frames=16)
    kept = []
    for true in draw.uniform(0.93, 0.99, 300):
        frames = draw.beta(50 * true, 50 * (1 - true), 16)  # the overlap on each frame
        mean = float(frames.mean())
        interval = agreement_ci95(lambda counts, f=frames: counts @ f / 16, mean, 16, 16)
        if target.is_met(replace(blank, agreement=mean, agreement_ci95=interval)):
            kept.append(draw.beta(50 * true, 50 * (1 - true), 32).mean() >= 0.95)
    assert len(kept) > 60
    assert np.mean(kept) >= 0.9
