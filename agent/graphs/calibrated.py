"""What INT8 is made from: statistics of some calibration frames, and their file of weights."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import onnx
from numpy.typing import NDArray
from typing_extensions import Self

from agent.core.errors import CalibrationError
from agent.core.quantization.calibrators import range_of
from agent.core.quantization.division import Division
from agent.core.quantization.histogram import TensorHistogram, defect
from agent.disk import disk_errors
from agent.graphs.biases import layers_with_bias
from agent.graphs.channels import channel_means
from agent.graphs.moments import Frame
from agent.graphs.replay import Layer
from agent.graphs.rounding import Range, Weights

Means = Mapping[str, NDArray[np.float32]]
"""Mean per channel, by tensor."""
_FAST = 1  # compression level: half the time of the usual one for 5 % more bytes


class Calibrated:
    """Statistics of some calibration frames.

    Args:
        histograms: Of the tensors to quantize; None if no activation will be quantized.
        weights: Chosen rounded weights by layer; the others are rounded to the nearest codes.
        means: Of the inputs of layers; the biases of the others are not corrected.
        refitted: Weights and biases of the layers that were refitted.

    Attributes:
        ranged: The tensors that have a range; None without histograms.
    """

    def __init__(
        self,
        histograms: Iterable[TensorHistogram] | None,
        weights: Weights | None = None,
        means: Means | None = None,
        refitted: Mapping[str, Layer] | None = None,
    ) -> None:
        self._histograms = {h.name: h for h in histograms or () if not defect(h)}
        self.ranged = None if histograms is None else frozenset(self._histograms)
        self._ranges: dict[tuple[str, str, bool], Range] = {}
        self.weights = weights or {}
        self.means = means or {}
        self.refitted = refitted or {}

    def range_of(self, tensor: str, calibrator: str, symmetric: bool) -> Range:
        """Return the range of a tensor of `ranged` by a calibrator."""
        key = (tensor, calibrator, symmetric)
        if key not in self._ranges:
            self._ranges[key] = range_of(self._histograms[tensor], calibrator, symmetric)
        return self._ranges[key]


def input_means(model: onnx.ModelProto, frames: Iterable[Frame], threads: int) -> Means:
    """Return the means of the inputs of layers with a bias.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    names = tuple(dict.fromkeys(node.input[0] for node in layers_with_bias(model.graph)))
    return channel_means(model, names, frames, threads)


def means_by_source(model: onnx.ModelProto, frames: Division[Frame], threads: int) -> list[Means]:
    """Return `input_means` for each source of frames."""
    by_part = [input_means(model, part, threads) if part else {} for part in frames.parts]
    found: list[Means] = []
    for source in frames.sources:
        used = [part for part in source if frames.parts[part]]
        counts = [len(frames.parts[part]) for part in used]
        found.append(
            {
                name: np.average([by_part[part][name] for part in used], axis=0, weights=counts)
                for name in by_part[used[0]]
            }
        )
    return found


class WeightFile:
    """Writes the weights and means of several sources of frames to an npz file, one by one.

    Names of layers and tensors are stored as values, not as keys.

    Args:
        path: Of the file; complete when the context ends.
        sources: How many there are.
    """

    def __init__(self, path: str, sources: int) -> None:
        self._path = Path(path)
        self._stack = ExitStack()
        self._names: dict[str, list[str]] = {
            f"{kind}{source}": [] for kind in ("layers", "tensors") for source in range(sources)
        }

    def __enter__(self) -> Self:
        """Open the file."""
        self._stack.enter_context(disk_errors(self._path.parent))
        self._archive = self._stack.enter_context(
            zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST)
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the names and close the file."""
        if error is None:
            for key, names in self._names.items():
                self._write(key, np.array(names, dtype=np.str_))
        self._stack.__exit__(kind, error, trace)
        if error is not None:
            self._path.unlink(missing_ok=True)

    def add(self, source: int, layer: str, values: NDArray[np.float32]) -> None:
        """Write the weights of a layer."""
        self._add(f"layers{source}", f"weights{source}", layer, values)

    def add_mean(self, source: int, tensor: str, mean: NDArray[np.float32]) -> None:
        """Write the mean per channel of a tensor."""
        self._add(f"tensors{source}", f"means{source}", tensor, mean)

    def _add(self, key: str, prefix: str, name: str, values: NDArray[np.float32]) -> None:
        names = self._names[key]
        self._write(f"{prefix}.{len(names)}", values)
        names.append(name)

    def _write(self, key: str, values: NDArray[np.generic]) -> None:
        member: IO[bytes]
        with self._archive.open(f"{key}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, values, allow_pickle=False)


def load_weights(
    path: str, source: int = -1
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Return the chosen weights by layer and the means by tensor of one source of frames.

    Args:
        path: Of a `WeightFile`.
        source: Its index in `Division.sources`; -1 for the last, of all frames.

    Raises:
        CalibrationError: "damaged" if it is not one.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if source < 0:
                source += sum(key.startswith("tensors") for key in arrays.files)
            found = [
                {str(name): arrays[f"{prefix}{source}.{i}"] for i, name in enumerate(arrays[key])}
                for key, prefix in ((f"layers{source}", "weights"), (f"tensors{source}", "means"))
            ]
            return found[0], found[1]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CalibrationError(f"{path}: {e}", code="damaged", hint="run the capture again") from e
