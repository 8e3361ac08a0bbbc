"""No default configuration activates an engine below the fidelity floor, whatever the task."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from agent.core.records import Measurements, TensorSpec
from tests.core.choice.test_floor import TASKS, found_by
from tests.run.test_chain import model
from tests.run.test_pipeline import pipeline
from tests.support.candidates import evaluation, measurement


def activated(tmp_path, name, limits):
    """Return how a run ended, the precision of the active release and the choice."""
    task, outputs, spoiled = TASKS[name]
    _, int8 = found_by(task, outputs, spoiled)

    def evaluate(spec):
        same = spec.engine.digest == spec.baseline.digest
        return replace(evaluation(None) if same else int8.evaluation, digest=spec.digest)

    def measure(spec):
        figures = {one: measurement(30.0 if one == "fp32" else 10.0) for one in spec.engines}
        return Measurements(measured=figures, failed={})

    def intake(spec):
        image = TensorSpec(name="image", shape=(1, 3, 48, 64), dtype="float32")
        heads = [
            TensorSpec(name=key, shape=values.shape, dtype="float32")
            for key, values in outputs().items()
        ]
        return replace(model(spec), inputs=(image,), outputs=tuple(heads))

    run, releases, written = pipeline(
        tmp_path,
        answers={"evaluate": evaluate, "measure": measure, "intake": intake},
        tables={
            "search": {"precisions": ["fp32", "int8"], "calibrators": ["mse"]},
            "model": {"task": msgspec.to_builtins(task)},
            "limits": limits,
        },
    )
    activation = run().activation
    report = msgspec.json.decode(written["report.json"])
    precision = releases.current() and releases.model_json(releases.current())["precision"]
    return activation.state, precision, report["choice"]


@pytest.mark.parametrize("name", TASKS)
def test_a_bad_engine_is_never_activated_by_default(tmp_path, name):
    state, precision, choice = activated(tmp_path, name, {})
    assert (state, precision, choice["candidate"]) == ("active", "fp32", "fp32")


@pytest.mark.parametrize("name", TASKS)
def test_where_only_a_bad_engine_is_fast_enough_nothing_is_activated(tmp_path, name):
    state, precision, choice = activated(tmp_path, name, {"latency_p99_ms": 20.0})
    assert (state, precision, choice["candidate"]) == ("not_attempted", None, None)
    assert choice["infeasible"]


@pytest.mark.parametrize("name", TASKS)
def test_only_a_limit_of_0_lets_it_through_and_the_headline_has_the_tasks_words(tmp_path, name):
    key = "agreement" if TASKS[name][0].has_metric else "sqnr_db"
    state, precision, choice = activated(tmp_path, name, {key: 0.0})
    assert (state, precision) == ("active", "int8")
    assert f"no fidelity floor (limits.{key} = 0): it " in choice["why"]
