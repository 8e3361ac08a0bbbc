"""The active release in an application: frames in, results in the frame's pixels out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.client.errors import ReleaseError
from agent.client.release_files import ReleaseFiles, Stamp, read_release, read_stamp
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.results import FrameSize, Result, result_of
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec, Interpolation
from agent.core.frames.preprocess import fit, to_tensor

Frame = NDArray[np.uint8]
"""Shape (height, width, 3), BGR, or (height, width) grey."""


class _Engine(Protocol):
    def run(self, name: str, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    described: Mapping[str, Any]
    spec: InputSpec
    task: Task
    engine: _Engine
    stamp: Stamp


class Release:
    """A release that is loaded from its files and then independent of them; a context manager.

    It is used by one thread at a time. What it can't use as it was measured it refuses: another
    TensorRT or GPU, a missing runtime or provider, a damaged file, another schema.

    Args:
        path: The link `current` in quantd's storage folder, or the folder of one release.
    """

    def __init__(self, path: str | os.PathLike[str] = "/var/lib/quantd/current") -> None:
        self._path = os.fspath(path)
        self._loaded: _Loaded | None = None
        self._refused: Stamp | None = None

    def __enter__(self) -> Release:
        """Load the release and run it once, so that the first frame is as fast as the next.

        Raises:
            ReleaseError: with the reason why it can't be used here.
        """
        self._loaded = _load(read_release(self._path))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the engine."""
        if self._loaded is not None:
            self._loaded.engine.close()
        self._loaded = None

    @property
    def description(self) -> Mapping[str, Any]:
        """The model.json of the loaded release, as configs/schema/model.json describes it."""
        return self._open.described

    @property
    def name(self) -> str:
        """The id of the loaded release."""
        return str(self.description["release"])

    @property
    def batch(self) -> int:
        """The number of frames of one inference."""
        return int(self.description["batch"])

    @overload
    def __call__(self, frames: Frame) -> Result: ...

    @overload
    def __call__(self, frames: Sequence[Frame]) -> list[Result]: ...

    def __call__(self, frames: Frame | Sequence[Frame]) -> Result | list[Result]:
        """Return what the model sees: objects, classes, a map of classes, or the outputs.

        Args:
            frames: One frame as OpenCV gives it (uint8, BGR), of any size, or at most a batch of
                them. A batch that is not full costs as much as a full one.

        Returns:
            The result of the frame, or a list of them, in pixels of the frame.

        Raises:
            ReleaseError: "wrong_input", or "runtime" if the runtime fails.
        """
        if isinstance(frames, np.ndarray) and frames.ndim < 4:
            return self([frames])[0]
        loaded, several = self._open, list(frames)
        outputs = self._split(self.run(self.tensor(several)))
        return [
            result_of(
                one,
                loaded.task,
                loaded.spec,
                FrameSize(width=frame.shape[1], height=frame.shape[0]),
            )
            for one, frame in zip(outputs, several, strict=False)  # without those that fill it up
        ]

    def tensor(self, frames: Sequence[Frame]) -> NDArray[Any]:
        """Return the input tensor of at most a batch of frames; the last one fills it up."""
        if not 0 < len(frames) <= self.batch:
            raise ReleaseError(
                f"{len(frames)} frames: this engine takes 1 to {self.batch}", code="wrong_input"
            )
        spec = self._open.spec
        rows = [to_tensor(fit(_bgr(frame), spec, _resize), spec) for frame in frames]
        rows += [rows[-1]] * (self.batch - len(rows))
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def run(self, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the raw outputs by name, for an input tensor that the application made itself.

        Args:
            tensor: Shape and dtype of `description["inputs"][0]`.

        Raises:
            ReleaseError: "wrong_input", or "runtime" if the runtime fails.
        """
        (wanted,) = self.description["inputs"]
        if list(tensor.shape) != wanted["shape"] or tensor.dtype.name != wanted["dtype"]:
            raise ReleaseError(
                f"the tensor is {tensor.dtype.name} {list(tensor.shape)}, the engine takes "
                f"{wanted['dtype']} {wanted['shape']}",
                code="wrong_input",
                hint="release(frame) makes it from a frame",
            )
        return self._open.engine.run(wanted["name"], np.ascontiguousarray(tensor))

    def reload_if_changed(self) -> bool:
        """Load the release that is active now, if it is another one; cheap to ask for each frame.

        The loaded one stays until the new one has run; both are in memory meanwhile. It also stays
        where quantd has removed its files, or where nothing is active any more.

        Returns:
            Whether another release is loaded.

        Raises:
            ReleaseError: why the new one is refused, once; the loaded one stays.
        """
        stamp = read_stamp(self._path)
        if stamp is None or stamp in {self._open.stamp, self._refused}:
            return False
        try:
            found = _load(read_release(self._path))
        except ReleaseError:
            self._refused = stamp
            raise
        self.close()
        self._loaded, self._refused = found, None
        return True

    @property
    def _open(self) -> _Loaded:
        if self._loaded is None:
            raise ReleaseError(
                "the release is not loaded",
                code="closed",
                hint="with Release(path) as release: ...",
            )
        return self._loaded

    def _split(self, outputs: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """Return the outputs of each frame, as they were judged: with a first axis of 1."""
        if self.batch == 1:
            return [dict(outputs)]
        for name, values in outputs.items():
            if not values.ndim or len(values) != self.batch:
                raise ReleaseError(
                    f"output {name} of shape {list(values.shape)} has no row for each of "
                    f"{self.batch} frames",
                    code="runtime",
                    hint="use release.run, which gives the outputs as they are",
                )
        return [
            {name: values[row : row + 1] for name, values in outputs.items()}
            for row in range(self.batch)
        ]


def _load(files: ReleaseFiles) -> _Loaded:
    described = files.described
    try:
        spec, task = _spec(described["preprocess"]), _task(described["task"])
    except (TypeError, KeyError) as e:
        raise ReleaseError(
            f"release {described['release']} has preprocessing or a decoding that this client does "
            f"not know: {e}",
            code="other_schema",
            hint="update quantd in the application's environment",
        ) from e
    runtime = described["runtime"]
    engine: _Engine
    if runtime["kind"] == "tensorrt":
        from agent.client.engine_tensorrt import TensorrtEngine

        engine = TensorrtEngine(files.engine, runtime, described["launched"])
    else:
        from agent.client.engine_onnxruntime import OnnxruntimeEngine

        engine = OnnxruntimeEngine(files.engine, runtime)
    (image,) = described["inputs"]
    try:
        engine.run(image["name"], np.zeros(image["shape"], image["dtype"]))
    except ReleaseError:
        engine.close()
        raise
    return _Loaded(described=described, spec=spec, task=task, engine=engine, stamp=files.stamp)


def _spec(found: Mapping[str, Any]) -> InputSpec:
    lists = {key: tuple(found[key]) for key in ("grey_weights", "mean", "std")}
    how = Interpolation(**found["interpolation"])
    return InputSpec(**{**found, **lists, "interpolation": how})


def _task(found: Mapping[str, Any]) -> Task:
    decoding = found["decoding"] and Decoding(**found["decoding"])
    return Task(**{**found, "names": tuple(found["names"]), "decoding": decoding})


def _bgr(frame: Frame) -> Frame:
    """Return a frame with three channels; a grey one has them alike, as when it was judged."""
    fits = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.size
    if fits and frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    if fits and (frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1)):
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    seen = (
        f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else str(type(frame))
    )
    raise ReleaseError(
        f"the frame is {seen}; a frame is uint8 [height, width, 3] in BGR, or grey without the 3",
        code="wrong_input",
        hint="pass the picture as OpenCV gives it: quantd resizes, orders and scales it itself",
    )


def _resize(image: Frame, size: tuple[int, int], how: str) -> Frame:
    resized = cv2.resize(image, size, interpolation=getattr(cv2, f"INTER_{how.upper()}"))
    return np.asarray(resized, np.uint8)
