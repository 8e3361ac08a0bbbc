"""INT8 graphs tried on a few frames by ONNX Runtime, before any engine is built."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from agent.core.errors import QuantizeError
from agent.core.fidelity.channel_groups import OutputSums
from agent.core.fidelity.rows import match_rows
from agent.core.quantization.mixed_search import (
    BIAS_CORRECTION,
    REFIT,
    WEIGHT_ROUNDING,
    Noise,
    Placement,
    is_symmetric,
)
from agent.core.quantization.trial_results import TrialResult
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.biases import bias_shifts, with_shifted_biases
from agent.graphs.calibrated import Calibrated
from agent.graphs.compute import int8_share, node_macs
from agent.graphs.edits import copy_of
from agent.graphs.half import nodes_overflowing
from agent.graphs.half_rest import rest_to_float16
from agent.graphs.marks import GraphIndex
from agent.graphs.qdq import (
    load_inferred,
    nodes_touching,
    quantized_tensors,
    save,
    unquantizable_nodes,
    with_qdq,
)
from agent.graphs.ranked import ranked_outputs
from agent.graphs.refit import refit, with_layers
from agent.graphs.refit_file import save_refit
from agent.graphs.regions import float_nodes, layers_by_tensor
from agent.graphs.replay import Layer
from agent.graphs.residuals import residuals
from agent.graphs.rounding import Weights, insert_qdq, rounded_weights, with_weights
from agent.graphs.schemes import SCHEMES
from agent.graphs.sessions import copied, session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.core.fidelity.comparison import Comparison
    from agent.ports import Progress, Tensors

_LOG = logging.getLogger(__name__)
_FEW_FRAMES = 4  # for the noise of one place, if the outputs have many values
_MANY_VALUES = 10_000


class JudgingFrames:
    """Frames that INT8 is judged on, for several trials with the same reference.

    Args:
        inputs: Of the model; all are kept.
    """

    def __init__(self, inputs: Sequence[Tensors]) -> None:
        self.inputs = inputs
        self.expected: list[dict[str, NDArray[Any]]] = []  # the reference's outputs, once computed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """INT8 made from some calibration frames and judged on others."""

    made_from: Calibrated
    judged_on: JudgingFrames


class OnnxQuantizationTrial:
    """Implements `ports.QuantizationTrial` for one model and scheme.

    The noise of single places is that of the first fold.

    Memory: the judging frames, the FP32 outputs on them, and one session at a time.

    Args:
        model: Path of the model in float.
        scheme: A key of SCHEMES.
        whole: Statistics of all frames; layers at tensors without a range there stay in float.
        folds: At least one.
        threads: Of the runtime; 0 takes all cores.
        reference: Path of the model to compare with; "" for `model` itself.

    Raises:
        QuantizeError: "not_offered" for an unknown scheme.
    """

    def __init__(
        self,
        model: str,
        scheme: str,
        whole: Calibrated,
        folds: Sequence[Fold],
        threads: int,
        *,
        reference: str = "",
    ) -> None:
        if scheme not in SCHEMES:
            raise QuantizeError(f"no scheme is called {scheme}", code="not_offered")
        self._clean = load_inferred(model)
        self._scheme = scheme
        self._whole = whole
        self._shifts: dict[tuple[Calibrated, bool], dict[str, NDArray[np.float32]]] = {}
        self._folds = folds
        self._threads = threads
        self._reference = reference
        self._ranked = ranked_outputs(self._clean)
        self._index = GraphIndex(self._clean.graph, SCHEMES[scheme])
        wanted = quantized_tensors(self._clean, scheme)
        ranged = set(wanted) if whole.ranged is None else whole.ranged
        self._missing = set(wanted) - ranged
        self._blocked = frozenset(
            (
                *nodes_touching(self._clean.graph, self._missing),
                *unquantizable_nodes(self._clean, scheme),
            )
        )
        tensors = [tensor for tensor in wanted if tensor in ranged]
        self._layers_by_tensor = layers_by_tensor(self._clean.graph, scheme, tensors)
        self.tensors = {
            name: layers - self._blocked for name, layers in self._layers_by_tensor.items()
        }

    @property
    def elements(self) -> dict[str, int]:
        """See `ports.QuantizationTrial`."""
        graph = self._clean.graph
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        return {name: math.prod(shapes[name]) for name in self.tensors if name in shapes}

    def layers(self) -> dict[str, tuple[str, int]]:
        """See `ports.QuantizationTrial`."""
        operators = SCHEMES[self._scheme].operators
        return {
            node.name: (node.op_type, macs)
            for node, macs in node_macs(self._clean)
            if node.op_type in operators and node.name not in self._blocked
        }

    def weight_noise(self, layers: Collection[str], steps: Collection[str] = ()) -> Noise:
        """See `ports.QuantizationTrial`."""
        source = self._folds[0].made_from
        values = {n: found for n, found in self._rounded(steps, source).items() if n in layers}
        if not values:
            return (0.0,) * sum(map(len, self._groups.values()))
        return self._noise(with_weights(self._prepared(steps, layers, source), values))

    def activation_noise(self, tensors: Collection[str], calibrator: str) -> Noise:
        """See `ports.QuantizationTrial`."""
        trial = copy_of(self._clean)
        for tensor, span in self._ranges(tensors, calibrator, self._folds[0].made_from).items():
            insert_qdq(trial.graph, tensor, span, self._readers)
        return self._noise(trial)

    def evaluate(self, placement: Placement, comparison: Comparison) -> TrialResult:
        """See `ports.QuantizationTrial`."""
        for fold in self._folds:
            outputs = self._outputs(self.placed(placement, fold.made_from), fold.judged_on.inputs)
            for expected, found in zip(self._expected(fold.judged_on), outputs, strict=True):
                if not all(np.isfinite(value).all() for value in found.values()):
                    return TrialResult(fidelity=None)
                comparison.add(expected, found)
        return TrialResult(
            fidelity=comparison.result(),
            agreement_by_frame=comparison.agreement_by_frame(),
            resampled_db=comparison.resampled_db(),
        )

    def placed(self, placement: Placement, source: Calibrated | None = None) -> onnx.ModelProto:
        """Return the INT8 graph made from a fold's frames, or from all."""
        source = source or self._whole
        graph = self._clean.graph
        kept = float_nodes(graph, self._scheme, self._layers_by_tensor, placement.kept)
        out = tuple({*kept, *self._blocked})
        model = self._prepared(placement.steps, self._nearest.keys() - {*out}, source)
        ranges = self._ranges(self.tensors, placement.calibrator, source)
        return with_qdq(model, self._scheme, ranges, out, self._index)

    def refit(
        self, placement: Placement, frames: Sequence[Tensors], target: str, progress: Progress
    ) -> int:
        """See `ports.QuantizationTrial`."""
        found: dict[str, Layer] = {}
        layers = len(self.layers())
        for name, layer in refit(self._clean, self.placed(placement), frames, self._threads):
            found[name] = layer
            progress(len(found), layers, name)
        save_refit(target, found)
        self._whole.refitted = found
        return len(found)

    def write(self, placement: Placement, target: str) -> tuple[float, tuple[str, ...]]:
        """See `ports.QuantizationTrial`.

        Float parts are written in float16 where the scheme says so; trials run them in float32,
        which ONNX Runtime computes many times faster.
        """
        placed = self.placed(placement)
        share, floating = int8_share(placed, self._clean)
        if share == 0:
            raise QuantizeError(
                f"no compute of this model can run in INT8: {len(self.tensors)} tensors have a "
                f"range, {len(self._missing)} have none",
                code="nothing_quantized",
                hint="use fp32 or fp16 for this model",
            )
        if SCHEMES[self._scheme].half:
            try:
                frames = [frame for fold in self._folds for frame in fold.judged_on.inputs]
                wide = nodes_overflowing(self._clean, frames, self._threads)
                placed = rest_to_float16(placed, wide)
            except QuantizeError as e:
                _LOG.warning("rest_stays_float32 %s", e.message)
        save(placed, target)
        return share, floating

    @cached_property
    def _step(self) -> int:
        """Return the distance of the frames on which noise is measured."""
        judging = self._folds[0].judged_on
        values = sum(value.size for value in self._expected(judging)[0].values())
        wanted = _FEW_FRAMES if values >= _MANY_VALUES else 2 * _FEW_FRAMES
        return max(len(judging.inputs) // wanted, 1)

    @cached_property
    def _readers(self) -> frozenset[str] | None:
        """Return the nodes that read integers; None if all do."""
        if SCHEMES[self._scheme].between:
            return None
        graph = self._clean.graph
        layers = {n.name for n in graph.node if n.op_type in SCHEMES[self._scheme].operators}
        return frozenset(layers | residuals(graph).keys())

    def _ranges(
        self, tensors: Iterable[str], calibrator: str, source: Calibrated
    ) -> dict[str, tuple[float, float]]:
        """Return ranges; of all frames where a tensor has none on those of the source."""
        even = is_symmetric(self._scheme)
        known = source.ranged or frozenset()
        return {
            name: (source if name in known else self._whole).range_of(name, calibrator, even)
            for name in tensors
        }

    def _prepared(
        self, steps: Collection[str], layers: Collection[str], source: Calibrated
    ) -> onnx.ModelProto:
        """Return the float graph with the chosen weights and corrected biases of some layers."""
        model = self._clean
        if WEIGHT_ROUNDING in steps:
            chosen = {n: values for n, values in source.weights.items() if n in layers}
            model = with_weights(model, chosen)
        if BIAS_CORRECTION in steps:
            key = source, WEIGHT_ROUNDING in steps
            if key not in self._shifts:
                rounded = self._rounded(steps, source)
                self._shifts[key] = bias_shifts(self._clean.graph, rounded, source.means)
            model = with_shifted_biases(model, self._shifts[key], layers)
        if REFIT in steps:
            refitted = {n: layer for n, layer in source.refitted.items() if n in layers}
            model = with_layers(model, refitted)
        return model

    @cached_property
    def _nearest(self) -> dict[str, NDArray[np.float32]]:
        return rounded_weights(self._clean, self._scheme)

    def _rounded(self, steps: Collection[str], source: Calibrated) -> Weights:
        chosen = source.weights if WEIGHT_ROUNDING in steps else {}
        return {n: chosen.get(n, values) for n, values in self._nearest.items()}

    def _expected(self, judging: JudgingFrames) -> list[dict[str, NDArray[Any]]]:
        if not judging.expected:
            model = load_inferred(self._reference) if self._reference else self._clean
            outputs = self._outputs(model, judging.inputs)
            judging.expected = [copied(values) for values in outputs]
        return judging.expected

    @cached_property
    def _groups(self) -> dict[str, list[NDArray[np.intp]]]:
        """Return the channels of each group of the outputs: the same for every graph."""
        expected = self._expected(self._folds[0].judged_on)[:: self._step]
        return {name: one.members() for name, one in self._sums(expected, expected).items()}

    def _noise(self, model: onnx.ModelProto) -> Noise:
        judging = self._folds[0].judged_on
        outputs = self._outputs(model, judging.inputs[:: self._step])
        sums = self._sums(self._expected(judging)[:: self._step], outputs)
        return tuple(
            _ratio(noise, signal)
            for name, groups in self._groups.items()
            for signal, noise in sums[name].totals(groups)
        )

    def _sums(
        self,
        expected: Iterable[Mapping[str, NDArray[Any]]],
        found: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, OutputSums]:
        rows = {name for one in self._ranked for name in one.axes}
        sums: dict[str, OutputSums] = {}
        for outputs, others in zip(expected, found, strict=True):
            reference, seen = match_rows(outputs, others, self._ranked)
            for name, value in reference.items():
                one = sums.setdefault(name, OutputSums(name, rows_first=name in rows))
                if value.shape == seen[name].shape:  # else not comparable
                    with np.errstate(invalid="ignore", over="ignore"):
                        one.add(value, seen[name])
        return sums

    def _outputs(
        self, model: onnx.ModelProto, frames: Sequence[Tensors]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        names = [value.name for value in self._clean.graph.output]
        try:
            as_written = not SCHEMES[self._scheme].between  # else ONNX Runtime will execute it
            opened = session(model, self._threads, as_written=as_written)
            for frame in frames:
                yield dict(zip(names, opened.run(names, dict(frame)), strict=True))
        except ONNXRUNTIME_ERRORS as e:
            raise QuantizeError(f"ONNX Runtime on a quantized graph: {one_line(e)}") from e


def _ratio(noise: float, signal: float) -> float:
    if noise == 0:
        return 0.0
    return noise / signal if signal and math.isfinite(noise) else math.inf
