"""quantd's own stages, each in a process of its own as the daemon runs them.

    python -m tests.benchmarks.quality.steps STEP FOLDER [CALIBRATOR]

works on a folder that `lay_out` made and prints one JSON object. The steps: intake (the clean
model, and the npz files that the peers and the evaluator read), condition, statistics, int8,
mixed.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent import config as configuration
from agent.config import Config
from agent.core.errors import QuantdError
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    Digest,
    Recipe,
    Rejected,
)
from agent.wire.jobs import CleanGraph, CollectStatistics, ConditionModel, QuantizeModel
from tests.benchmarks.memory import peak_rss_mb
from tests.benchmarks.quality.material import REPOSITORY

_SCHEME = "S8S8"
_HEAVY = (
    "agent.adapters.graphs.conditioner",
    "agent.adapters.graphs.intake",
    "agent.adapters.graphs.quantizer",
    "agent.adapters.graphs.quantization_trial",
)
_NO_DIGEST = Digest("0" * 64)
RecordT = TypeVar("RecordT")


def lay_out(
    folder: Path,
    settings: Mapping[str, Any],
    frames: Sequence[NDArray[np.uint8]],
    holdout: Sequence[NDArray[np.uint8]],
) -> None:
    """Write the configuration and the frames that the steps work on."""
    from agent.adapters.storage.frames import OpencvFrames

    empty = folder / "quantd.toml"
    (folder / "frames").mkdir(parents=True)
    card = settings.get("model.card")
    empty.write_text(f'[model]\ncard = "{REPOSITORY / card}"\n' if card else "")
    overrides = {key: value for key, value in settings.items() if key != "model.card"}
    config = configuration.load(empty, overrides=overrides)
    (folder / "config.json").write_bytes(msgspec.json.encode(configuration.dump(config)))
    store = OpencvFrames()
    names: dict[str, tuple[str, ...]] = {}
    for kind, shown in (("frames", frames), ("holdout", holdout)):
        names[kind] = tuple(f"{kind}-{index:04d}.png" for index in range(len(shown)))
        for name, image in zip(names[kind], shown, strict=True):
            store.write(str(folder / "frames"), name, image)
    height, width = frames[0].shape[:2]
    taken = CalibrationSet(
        digest=_NO_DIGEST,
        source="file",
        synthetic=False,
        width=width,
        height=height,
        frames=names["frames"],
        holdout=names["holdout"],
        seen=len(frames) + len(holdout),
        lost=0,
        rejected=Rejected(),
    )
    _write(folder / "calibration.json", taken)


def intake(folder: Path) -> dict[str, Any]:
    """Write the clean model, and its inputs for calibration and judging as npz."""
    from agent.jobs import frames, quantizing

    config = _config(folder)
    clean = quantizing.intake(
        CleanGraph(config=config, digest=_NO_DIGEST, work=str(folder), sha256="")
    )
    _write(folder / "clean.json", clean)
    taken = _read(folder / "calibration.json", CalibrationSet)
    for kind, names in (("calibration", taken.frames), ("holdout", taken.holdout)):
        feeds = frames.tensors(config, clean, folder, names)
        np.savez(
            folder / f"{kind}.npz",
            **{f"{i:04d}": array for i, feed in enumerate(feeds) for array in feed.values()},
        )
    return {"macs": clean.macs, "changes": list(clean.changes)}


def condition(folder: Path) -> dict[str, Any]:
    """Equalize, where that helps."""
    from agent.jobs import quantizing

    work = folder / "conditioned"
    work.mkdir()
    spec = ConditionModel(
        config=_config(folder),
        digest=_NO_DIGEST,
        work=str(work),
        model=_NO_DIGEST,
        calibration=_NO_DIGEST,
        scheme=_SCHEME,
    )
    done = quantizing.condition(
        spec, (_clean(folder), folder), (_calibration(folder), folder), _silent
    )
    _write(work / "record.json", done)
    return {"tried": list(done.tried)}


def statistics(folder: Path) -> dict[str, Any]:
    """Run the calibration pass, once for all calibrators."""
    from agent.jobs import quantizing

    work = folder / "statistics"
    work.mkdir()
    spec = CollectStatistics(
        config=_config(folder),
        digest=_NO_DIGEST,
        work=str(work),
        conditioned=_NO_DIGEST,
        model=_NO_DIGEST,
        calibration=_NO_DIGEST,
        extends=None,
    )
    done = quantizing.statistics(
        spec,
        (_conditioned(folder), folder / "conditioned"),
        _clean(folder),
        (_calibration(folder), folder),
        _silent,
    )
    return {"tensors": done.tensors, "frames": done.frames}


def int8(folder: Path, calibrator: str) -> dict[str, Any]:
    """Quantize by one calibrator."""
    return _quantized(folder, Recipe(precision="int8", calibrator=calibrator, scheme=_SCHEME))


def mixed(folder: Path) -> dict[str, Any]:
    """Quantize as far as the limit lets it."""
    recipe = Recipe(precision="int8-mixed", calibrator="best", scheme=_SCHEME)
    return _quantized(folder, recipe)


def _quantized(folder: Path, recipe: Recipe) -> dict[str, Any]:
    from agent.jobs import quantizing

    work = folder / f"{recipe.precision}-{recipe.calibrator}"
    work.mkdir()
    spec = QuantizeModel(
        config=_config(folder),
        digest=_NO_DIGEST,
        work=str(work),
        model=_NO_DIGEST,
        calibration=_NO_DIGEST,
        recipe=recipe,
        conditioned=_NO_DIGEST,
        statistics=_NO_DIGEST,
    )
    done = quantizing.quantize(
        spec,
        (_conditioned(folder), folder / "conditioned"),
        folder / "statistics",
        _clean(folder),
        (_calibration(folder), folder),
        _silent,
    )
    return {
        "graph": str(work / "model.onnx"),
        "steps": list(done.steps),
        "own_int8_share": round(done.int8_macs_fraction, 4),
        "kept_float": list(done.kept_float),
        "evaluations": done.evaluations,
        "sensitivity": msgspec.to_builtins(done.sensitivity),
    }


def _config(folder: Path) -> Config:
    return configuration.from_dump(json.loads((folder / "config.json").read_bytes()))


def _calibration(folder: Path) -> CalibrationSet:
    return _read(folder / "calibration.json", CalibrationSet)


def _clean(folder: Path) -> CleanModel:
    return _read(folder / "clean.json", CleanModel)


def _conditioned(folder: Path) -> ConditionedModel:
    return _read(folder / "conditioned" / "record.json", ConditionedModel)


def _read(path: Path, kind: type[RecordT]) -> RecordT:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def _write(path: Path, record: object) -> None:
    path.write_bytes(msgspec.json.encode(record))


def _silent(*_: object) -> None:
    """Steps are told as wholes."""


def main(arguments: list[str]) -> None:
    """Run one step; imports are not part of its time, as they are not of the peers'."""
    step, folder, *rest = arguments
    steps = {f.__name__: f for f in (intake, condition, statistics, int8, mixed)}
    for name in _HEAVY:
        importlib.import_module(name)
    imported_mb = peak_rss_mb()
    begin = time.monotonic()
    try:
        found = steps[step](Path(folder), *rest)
    except QuantdError as e:
        found = {"failed": e.message}
    took = {"seconds": round(time.monotonic() - begin, 2), "peak_rss_mb": peak_rss_mb()}
    sys.stdout.write(json.dumps({**found, **took, "imported_mb": imported_mb}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
