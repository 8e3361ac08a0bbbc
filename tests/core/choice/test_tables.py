"""A limit or an objective is its entry in a table: a half-made one fails here.

What the entries need outside the code is checked in tests/config/test_shipped_files.py.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from agent.config import Config
from agent.config.checks import check
from agent.core.choice.candidates import EvaluatedCandidate, MeasuredCandidate
from agent.core.choice.choose import choose
from agent.core.choice.limits import (
    LIMITS,
    ForeseeableLimit,
    foreseeable_violations,
    keeps_so_far,
    violations,
)
from agent.core.choice.objectives import OBJECTIVES
from agent.core.choice.requirements import Requirements
from agent.core.errors import ConfigError
from agent.core.records import Timing
from agent.wire.commands import LimitArgs
from tests.support.candidates import candidate, evaluation, measurement

limits = pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())


def measured(p50=10.0, power_w=5.0, name="int8-a", **judged):
    one = measurement(p50, power_w=power_w)
    if one.power_w:
        one = replace(
            one,
            power_w=replace(one.power_w, ci95=(0.9 * power_w, 1.1 * power_w)),
            energy_j_ci95=(0.9 * one.energy_j, 1.1 * one.energy_j),
        )
    found = evaluation(**{"agreement": 0.9, **judged})
    return MeasuredCandidate(
        candidate=candidate(name, one, found), measurement=one, evaluation=found
    )


def unknown(one):
    """Return the candidate as it is where neither memory nor a task's metric is known."""
    fidelity = replace(one.evaluation.fidelity, agreement=None, agreement_reason="no metric")
    lost = replace(one.evaluation, memory_mb=None, memory_reason="no sensor", fidelity=fidelity)
    return replace(one, evaluation=lost)


def config_with(**tables):
    return msgspec.convert(tables | {"model": {"task": {"kind": "classification"}}}, Config)


@limits
def test_a_limit_reads_a_candidate_and_reports_of_a_value_beyond_it(limit):
    value = limit.value(measured())
    assert 0 < value <= limit.highest
    assert limit.words.strip() == limit.words != ""
    beyond = min(value * 2, (value + limit.highest) / 2) if limit.minimum else value / 2
    (found,) = violations(measured(), {limit.key: beyond})
    assert found.key == limit.key
    assert found.reason.startswith(f"{limit.words} {limit.amount(value, beyond)} is ")
    assert limit.amount(beyond) in found.reason
    for kept in (value, value / 2 if limit.minimum else min(value * 2, limit.highest)):
        assert violations(measured(), {limit.key: kept}) == ()


@limits
def test_an_interval_contains_its_value(limit):
    span = limit.interval(measured())
    assert span is None or span[0] <= limit.value(measured()) <= span[1]


@limits
def test_what_is_not_known_keeps_no_limit_and_the_reason_is_given(limit):
    one = unknown(measured(power_w=None))
    if limit.value(one) is None:
        (found,) = violations(one, {limit.key: limit.highest / 2})
        assert found.loosened is None
        assert found.reason.startswith(f"{limit.words} has a limit of ")
        assert len(found.reason.partition(": ")[2].split()) > 1


@limits
def test_a_limit_needs_power_if_it_can_not_be_read_without(limit):
    assert limit.needs_power == (limit.value(measured(power_w=None)) is None)
    assert Requirements("latency", {limit.key: limit.highest}).power_decides == limit.needs_power
    assert not Requirements("latency", {limit.key: 0.0}).power_decides


@limits
def test_a_limit_is_foreseeable_if_it_can_be_read_before_measuring(limit):
    try:
        value = limit.value(
            EvaluatedCandidate(candidate=measured().candidate, evaluation=measured().evaluation)
        )
    except AttributeError:
        value = None
    assert isinstance(limit, ForeseeableLimit) == (value is not None)
    missed = {limit.key: limit.highest if limit.minimum else 1e-9}
    found = foreseeable_violations(measured(), missed)
    assert bool(found) == isinstance(limit, ForeseeableLimit)


@limits
def test_the_rounds_so_far_are_judged_as_the_measurement_would_be(limit):
    one = measured()
    timing = Timing(
        p99_ms=one.measurement.latency_ms.p99, throughput_fps=one.measurement.throughput_fps
    )
    shown = limit.timing is not None
    assert not shown or limit.timing(timing) == limit.value(one)
    missed = {limit.key: limit.highest if limit.minimum else 1e-9}
    assert keeps_so_far(timing, missed) == (not shown)


@limits
def test_the_configuration_and_a_command_take_the_limit_in_its_range(limit):
    for inside in (0.0, limit.highest):
        check(config_with(limits={limit.key: inside}))
        assert getattr(msgspec.convert({limit.key: inside}, LimitArgs), limit.key) == inside
    for outside in (-1.0, limit.highest * 2):
        with pytest.raises(ConfigError, match=f"limits.{limit.key}"):
            check(config_with(limits={limit.key: outside}))
        with pytest.raises(msgspec.ValidationError, match=limit.key):
            msgspec.convert({limit.key: outside}, LimitArgs)


def test_configuration_and_commands_know_these_limits_and_no_others():
    names = list(LIMITS)
    assert list(Config().limits.by_key()) == names
    assert [field.name for field in msgspec.structs.fields(LimitArgs)] == names
    assert len({limit.words for limit in LIMITS.values()}) == len(names)


@objectives
def test_an_objective_reads_a_candidate_and_has_words_for_every_outcome(objective):
    one = measured()
    words = (objective.worse, objective.equal, objective.better)
    assert len(set(words)) == len(words)
    assert all(text.strip() == text != "" for text in (*words, objective.unit))
    assert objective.value(one) > 0
    low, high = objective.interval(one)
    assert low < objective.cost(one) < high


@objectives
def test_each_outcome_is_reported_in_the_objectives_words_and_unit(objective):
    def reason(*found):
        choice = choose([one.candidate for one in found], Requirements(objective.key, {}))
        best = choice.verdicts[choice.candidate].reasons[0]
        assert best == f"best {objective.key} within the limits"
        return next(v.reasons[0] for v in choice.verdicts.values() if v.verdict == "feasible")

    good, bad = measured(10.0, 5.0), measured(20.0, 9.0, name="int8-b", memory_mb=200.0)
    assert objective.costs_more(bad, good)
    assert not objective.costs_more(good, bad)
    assert reason(good, bad).startswith(f"{objective.worse} int8-a (")
    assert f" {objective.unit} against " in reason(good, bad)
    alike = measured(10.0, 5.0, name="int8-b", sqnr_db=20.0)
    assert reason(good, alike).startswith(f"{objective.equal} int8-a (")
    disturbed = replace(good.candidate, measurement=replace(good.measurement, steady=False))
    found = reason(replace(good, candidate=disturbed), bad)
    assert found.startswith(f"{objective.better} int8-b (")


@objectives
def test_an_objective_needs_power_if_it_can_not_be_read_without(objective):
    blind = measured(power_w=None)
    assert objective.needs_power == (objective.value(blind) is None)
    requirements = Requirements(objective.key, {})
    assert requirements.power_decides == objective.needs_power
    assert choose([blind.candidate], requirements).infeasible == objective.needs_power


@objectives
def test_latency_decides_if_the_objective_follows_it_and_the_frames_of_a_batch(objective):
    """Otherwise a fast search would leave out what might win, or compare the wrong ratio."""

    def value(p50, batch):
        one = measured(p50, power_w=5.0)
        batched = replace(one.measurement, throughput_fps=1e3 * batch / p50)
        return objective.value(replace(one, measurement=batched))

    if objective.frames:
        ratio, expected = value(10.0, 4) / value(20.0, 1), 2 * objective.frames(4)
        assert ratio == pytest.approx(expected if objective.maximize else 1 / expected)
        assert objective.frames(1) == 1
    assert not (objective.frames and objective.needs_power)


@objectives
def test_the_configuration_takes_the_objective_by_its_direction(objective):
    right, wrong = ("maximize", "minimize") if objective.maximize else ("minimize", "maximize")
    found = config_with(objective={right: objective.key})
    check(found)
    assert found.requirements.objective is objective
    with pytest.raises(ConfigError, match=f"objective.{wrong}"):
        check(config_with(objective={wrong: objective.key}))


@pytest.mark.parametrize("asked", [("speed", {}), ("latency", {"watts": 1.0})])
def test_what_has_no_entry_can_not_be_asked_for(asked):
    with pytest.raises(ValueError, match=r"speed|watts"):
        Requirements(*asked)
