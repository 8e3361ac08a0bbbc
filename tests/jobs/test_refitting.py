"""Conditioning in a job's process: all of it, and without the refit where the search is fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from agent import config as configuration
from agent.adapters.storage.frames import OpencvFrames
from agent.core.records import CalibrationSet, Digest, Recipe, Rejected
from agent.graphs.edits import initializer_values
from agent.graphs.refit_file import save_refit
from agent.jobs import intake, quantizing
from agent.wire import jobs as specs
from tests.support import quant_graphs

A = Digest("a" * 64)


def silent(*_: object) -> None:
    """Report nothing."""


def taken(folder: Path, count: int) -> CalibrationSet:
    names = tuple(f"{index}.png" for index in range(count))
    (folder / "frames").mkdir()
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        OpencvFrames().write(
            str(folder / "frames"), name, rng.integers(0, 256, (32, 32, 3), np.uint8)
        )
    return CalibrationSet(
        digest=A, source="file", synthetic=False, width=32, height=32, frames=names, holdout=(),
        seen=count, lost=0, rejected=Rejected(),
    )  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """Return (config, clean model, frames) of a small detector."""
    path = quant_graphs.detector(tmp_path / "given.onnx")
    (tmp_path / "quantd.toml").write_text("")
    overrides = {
        "model.path": path, "model.input.scale": 1 / 64, "model.input.mean": [2.0] * 3,
        "model.task.kind": "generic", "limits.sqnr_db": 5.0, "runtime.threads": 1,
    }  # fmt: skip
    config = configuration.load(tmp_path / "quantd.toml", overrides=overrides)
    clean = intake.intake(specs.CleanGraph(config=config, digest=A, work=str(tmp_path), sha256=""))
    return config, (clean, tmp_path), (taken(tmp_path, 4), tmp_path)


def conditioned(config, model, frames, work):
    work.mkdir()
    spec = specs.ConditionModel(
        config=config, digest=A, work=str(work), model=A, calibration=A, scheme="S8S8"
    )
    return quantizing.condition(spec, model, frames, silent)


@pytest.mark.parametrize(("strategy", "refits"), [("full", True), ("fast", False)])
def test_layers_are_refitted_unless_the_search_is_fast(tmp_path, made, strategy, refits):
    config, model, frames = made
    config = msgspec.structs.replace(
        config, search=msgspec.structs.replace(config.search, strategy=strategy)
    )
    found = conditioned(config, model, frames, tmp_path / "conditioned")
    outcomes = [words for words in found.tried if words.startswith("refit")]
    assert bool(outcomes) is refits
    kept = "refit" in (found.weight_steps or ())
    assert (tmp_path / "conditioned" / "refit.npz").exists() is kept
    if refits:
        assert "layers: INT8 from" in outcomes[0]


@pytest.mark.parametrize(("kept", "refits"), [((), True), (("head",), False)])
def test_an_int8_graph_has_the_refitted_layers(tmp_path, made, kept, refits):
    """One with layers in float has not: they are fitted to what INT8 in all layers leaves."""
    config, model, frames = made
    fast = msgspec.structs.replace(
        config, search=msgspec.structs.replace(config.search, strategy="fast")
    )
    work, counted, target = (tmp_path / name for name in ("conditioned", "counted", "target"))
    found = conditioned(fast, model, frames, work)
    found = replace(found, weight_steps=(*(found.weight_steps or ()), "refit"))
    bias = np.arange(16, dtype=np.float32)
    weights = np.zeros((16, 3, 3, 3), np.float32)
    save_refit(str(work / "refit.npz"), {"stem": (weights, bias)})
    counted.mkdir()
    spec = specs.CollectStatistics(
        config=config, digest=A, work=str(counted), conditioned=A, model=A, calibration=A,
        extends=None,
    )  # fmt: skip
    quantizing.statistics(spec, (found, work), model[0], frames, silent)
    target.mkdir()
    recipe = Recipe(precision="int8", calibrator="mse", scheme="S8S8")
    asked = specs.QuantizeModel(
        config=config, digest=A, work=str(target), model=A, calibration=A, recipe=recipe,
        conditioned=A, statistics=A, kept=kept,
    )  # fmt: skip
    graph = quantizing.quantize(asked, (found, work), counted, model[0], frames)
    assert ("refit" in graph.steps) is refits
    (stem,) = (n for n in onnx.load(target / "model.onnx").graph.node if n.name == "stem")
    written = initializer_values(onnx.load(target / "model.onnx").graph, stem.input[2])
    assert np.array_equal(written, bias) is refits
    front = quantizing.find_front(
        specs.FindFront(
            config=config, digest=A, scheme="S8S8", model=A, calibration=A, conditioned=A,
            statistics=A, speeds=None, weighed_by="",
        ),
        (found, work), counted, model[0], frames, speeds=None, progress=silent,
    )  # fmt: skip
    assert front.members
    assert "refit" not in front.steps
