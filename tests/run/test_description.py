"""model.json: the batch that the engine takes, what its outputs mean, and what it was judged by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.core.records import RankedRows, TensorSpec
from agent.core.release.identity import identity_of
from agent.run.description import model_json
from tests.run.test_chain import PLATFORM, Run

SCHEMA = Path(__file__).parents[2] / "configs" / "schema" / "model.json"
DETECTOR = {"task": {"kind": "detection", "names": ["cat", "dog"], "decode": {"kind": "yolo"}}}
IMAGE = TensorSpec(name="image", shape=(1, 3, 48, 64), dtype="float32")
HEAD = TensorSpec(name="head", shape=(1, 6, 100), dtype="float32")
ROWS = TensorSpec(name="rows", shape=(7, 6), dtype="float32")


def described(tmp_path: Path, platform: Any = PLATFORM, **tables: Any) -> dict[str, Any]:
    """Return model.json of the last candidate of a run, as an application reads it."""
    tmp_path.mkdir(exist_ok=True)
    run = Run(tmp_path, **tables)
    run.jobs.answers["platform"] = lambda _: platform
    plain = run.jobs.answers["intake"]
    ranked = (RankedRows(axes={"rows": 0}, count=None),)
    run.jobs.answers["intake"] = lambda spec: replace(
        plain(spec), inputs=(IMAGE,), outputs=(HEAD, ROWS), ranked=ranked
    )
    outcome = run.chain.run()
    found = model_json(run.chain.config, outcome, outcome.candidates[-1])
    return json.loads(json.dumps(found | {"release": "r1"}))


def test_shapes_are_those_that_the_engine_takes_and_gives(tmp_path):
    found = described(tmp_path, search={"batch": [4]})
    assert found["batch"] == 4
    assert found["inputs"] == [{"name": "image", "shape": [4, 3, 48, 64], "dtype": "float32"}]
    shapes = {one["name"]: one["shape"] for one in found["outputs"]}
    assert shapes == {"head": [4, 6, 100], "rows": [None, 6]}


def test_it_is_what_the_published_schema_describes(tmp_path):
    found = described(tmp_path, model=DETECTOR)
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.validate(found, schema)
    for key in found:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in found.items() if k != key}, schema)


def test_it_states_how_outputs_are_decoded_and_what_the_classes_are_called(tmp_path):
    found = described(tmp_path, model=DETECTOR)["task"]
    assert (found["kind"], found["names"]) == ("detection", ["cat", "dog"])
    decoding = found["decoding"]
    assert (decoding["kind"], decoding["threshold"], decoding["overlap"]) == ("yolo", 0.25, 0.45)
    assert described(tmp_path / "other")["task"] == {
        "kind": "generic", "decoding": None, "names": [], "threshold": None,
    }  # fmt: skip


def test_it_names_the_baseline_that_it_was_judged_by(tmp_path):
    run = Run(tmp_path, search={"batch": [1, 2]})
    run.jobs.answers["intake"] = lambda spec, plain=run.jobs.answers["intake"]: replace(
        plain(spec), inputs=(IMAGE,)
    )
    outcome = run.chain.run()
    baselines = {c.batch: c.engine.digest for c in outcome.candidates if c.recipe.is_baseline}
    assert len(set(baselines.values())) == 2
    for one in filter(lambda one: one.engine, outcome.candidates):
        lineage = model_json(run.chain.config, outcome, one)["lineage"]
        assert lineage["baseline"] == baselines[one.batch]


@pytest.mark.parametrize(
    ("providers", "options"),
    [
        ("CUDAExecutionProvider, CPUExecutionProvider", {}),
        (
            "TensorrtExecutionProvider, CPUExecutionProvider",
            {"TensorrtExecutionProvider": {"trt_int8_enable": "True"}},
        ),
    ],
)
def test_it_states_how_the_runtime_was_used(tmp_path, providers, options):
    platform = replace(PLATFORM, environment={"providers": providers})
    found = described(tmp_path, platform, runtime={"threads": 2})["runtime"]
    assert found["providers"] == providers.split(", ")
    assert (found["threads"], found["provider_options"]) == (2, options)


def test_its_identity_is_that_of_what_an_application_sees(tmp_path):
    found = described(tmp_path / "a", model=DETECTOR)
    assert identity_of(found) == found["identity"]
    assert identity_of({**found, "release": "r2", "lineage": {}}) == found["identity"]
    later = {**DETECTOR["task"], "decode": {"kind": "yolo", "threshold": 0.5}}
    others = [
        described(tmp_path / "b", model={"task": later}),
        described(tmp_path / "c", model={**DETECTOR, "input": {"scale": 0.5}}),
        described(tmp_path / "d", model=DETECTOR, runtime={"threads": 3}),
    ]
    assert len({one["identity"] for one in (found, *others)}) == 4
