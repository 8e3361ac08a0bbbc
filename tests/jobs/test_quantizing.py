"""The jobs of quantizing after each other, on stored frames: which of them each job reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent import config as configuration
from agent.adapters.storage.frames import OpencvFrames
from agent.core.quantization.division import divide
from agent.core.records import CalibrationSet, Digest, Recipe, Rejected
from agent.graphs.calibrated import load_weights
from agent.jobs import intake, quantizing
from agent.jobs.trials import divided_frames
from agent.stages.quantize import load_statistics
from agent.wire.jobs import CleanGraph, CollectStatistics, ConditionModel, QuantizeModel
from tests.support import quant_graphs

DIGEST = Digest("0" * 64)


def silent(*_: object) -> None:
    """Take progress and forget it."""


def stored(folder: Path, count: int) -> CalibrationSet:
    """Write frames of noise."""
    names = tuple(f"{n:08d}.png" for n in range(count))
    for seed, name in enumerate(names):
        image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        OpencvFrames().write(str(folder / "frames"), name, image)
    return CalibrationSet(
        digest=DIGEST, source="x", synthetic=False, width=32, height=32, frames=names, holdout=(),
        seen=count, lost=0, rejected=Rejected(),
    )  # fmt: skip


@pytest.mark.parametrize("count", [6, 66])
def test_int8_is_made_from_all_frames_and_its_parts_are_those_of_the_division(tmp_path, count):
    path = quant_graphs.detector(tmp_path / "m.onnx")
    config = configuration.from_dump(
        {"model": {"path": path, "input": {"scale": 1 / 255}}, "camera": {"uri": "file:///x"}}
    )
    frames, halves = stored(tmp_path, count), divide(range(count))

    def at(name: str) -> dict[str, object]:
        (tmp_path / name).mkdir()
        return {"config": config, "digest": DIGEST, "work": str(tmp_path / name)}

    clean = intake.intake(CleanGraph(**at("clean"), sha256=""))
    both = {"model": DIGEST, "calibration": DIGEST}
    conditioned = quantizing.condition(
        ConditionModel(**at("graph"), **both, scheme="S8S8"),
        (clean, tmp_path / "clean"), (frames, tmp_path), silent,
    )  # fmt: skip
    sources = len(halves.sources)
    weights = [load_weights(str(tmp_path / "graph/weights.npz"), i)[0] for i in range(sources)]
    assert [len(one) for one in weights] == [4] * sources
    statistics = quantizing.statistics(
        CollectStatistics(**at("statistics"), **both, conditioned=DIGEST, extends=None),
        (conditioned, tmp_path / "graph"), clean, (frames, tmp_path), silent,
    )  # fmt: skip
    assert statistics.frames == count
    parts = load_statistics(str(tmp_path / "statistics/statistics.npz"))
    counted = [
        part[0].count / len(frames) for part, frames in zip(parts, halves.parts, strict=True)
    ]
    assert counted[0] == counted[1] > 0
    recipe = Recipe(precision="int8", calibrator="mse", scheme="S8S8")
    made = quantizing.quantize(
        QuantizeModel(
            **at("int8"), **both, recipe=recipe, conditioned=DIGEST, statistics=DIGEST
        ),
        (conditioned, tmp_path / "graph"), tmp_path / "statistics", clean, (frames, tmp_path),
    )  # fmt: skip
    assert made.int8_macs_fraction == 1.0
    assert made.steps == (*conditioned.steps, *(conditioned.weight_steps or ()))
    assert (tmp_path / "int8/model.onnx").exists()
    judging = divided_frames(config, clean, (frames, tmp_path), 64, judging=True)
    needed = {judged for _, judged in halves.folds}
    assert [len(part) > 0 for part in judging.parts] == [part in needed for part in (0, 1)]
