"""Intake of ONNX files: a clean graph, or an error with what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, shape_inference, version_converter

from agent.adapters.graphs.image_input import fix_input
from agent.adapters.graphs.model_file import first_line, load_model
from agent.adapters.graphs.pictures import check_pictures
from agent.core.errors import ModelError
from agent.core.frames.input_spec import InputSpec
from agent.core.records import AS_GIVEN, FP32, CleanModel, Digest, TensorSpec
from agent.disk import disk_errors
from agent.engines.errors import ONNXRUNTIME_ERRORS
from agent.graphs.affine import fold_scales_and_shifts
from agent.graphs.batches import with_batch
from agent.graphs.compute import node_macs, uncounted_layers
from agent.graphs.dequantize import InexactError, to_float
from agent.graphs.edits import copy_of, read_in_bodies
from agent.graphs.integers import (
    GIVEN,
    dequantize_weights,
    has_integer_weights_only,
    integer_operators,
)
from agent.graphs.observed import add_observed
from agent.graphs.ranked import ranked_outputs
from agent.graphs.spelling import separate_constant_outputs, spell_out_pads
from agent.graphs.widen import to_float32

OPSET = 17
IR_VERSION = 10  # the newest that ONNX Runtime 1.20 and TensorRT 10.3 both read
_SHOWN = 5
_STANDARD = {"", "ai.onnx"}
_QUANTIZES = "WeightBiasQuantization"  # puts float weights between integers into INT8


class OnnxIntake:
    """Implements `ports.Intake` with onnx and ONNX Runtime's own graph optimizer."""

    def clean(self, path: str, name: str, spec: InputSpec, directory: str) -> CleanModel:
        """See `ports.Intake`.

        BatchNormalization and constants are folded by ONNX Runtime's basic optimizations, which use
        standard operators only.
        """
        changes: list[str] = []
        model = load_model(Path(path), changes)
        _remove_weights_from_inputs(model, changes)
        _name_nodes(model, changes)
        model = _upgrade(model, changes)
        count = to_float32(model)
        if count:
            changes.append(f"{count} half-precision weights to float32")
        if has_integer_weights_only(model.graph) and (count := dequantize_weights(model)):
            changes.append(f"{count} integer weights to float32")
        target, baseline = str(Path(directory, "model.onnx")), FP32
        if quantized := integer_operators(model.graph):
            model, outputs, baseline = _beside_given(model, quantized, spec, target, changes)
        else:
            model, outputs = _ordinary(model, spec, target, changes)
        return CleanModel(
            digest=Digest(""),
            name=name,
            sha256="",
            opset=_opset(model),
            inputs=_inputs(model),
            outputs=tuple(outputs),
            macs=sum(count for _, count in node_macs(model)),
            weight_bytes=sum(len(t.SerializeToString()) for t in model.graph.initializer),
            activation_bytes=_activation_bytes(model, outputs),
            changes=tuple(changes),
            ranked=ranked_outputs(model),
            quantized=quantized,
            baseline=baseline,
        )


def _beside_given(
    model: onnx.ModelProto, quantized: str, spec: InputSpec, target: str, changes: list[str]
) -> tuple[onnx.ModelProto, list[TensorSpec], str]:
    """Write a quantized file made ordinary and, if that can be made of it, FP32.

    Returns:
        What is in `target`, its outputs, and the precision to compare others with.
    """
    beside = str(Path(target).with_name(GIVEN))
    given, outputs = _ordinary(copy_of(model), spec, beside, changes)
    noticed = f"the file is quantized already ({quantized}) and offered as it is (as-given)"
    try:
        model, outputs = _ordinary(to_float(model), spec, target, [])
    except (InexactError, ModelError) as e:
        Path(beside).replace(target)
        changes.append(
            f"{noticed} only, compared with itself: no exact FP32 can be made of it ({e})"
        )
        return given, outputs, AS_GIVEN
    changes.append(f"{noticed}, beside FP32 made of it: its weights, activations without rounding")
    return model, outputs, FP32


def _ordinary(
    model: onnx.ModelProto, spec: InputSpec, target: str, changes: list[str]
) -> tuple[onnx.ModelProto, list[TensorSpec]]:
    """Write the graph with a fixed input, in batch 1, folded; return it and its outputs."""
    fix_input(model, spec, changes)
    if _inputs(model)[0].shape[0] > 1:
        several = copy_of(model)
        model = with_batch(model, 1)
        check_pictures(several, model, spec.dtype)
        changes.append("made the fixed batch 1: each picture has the same outputs")
    model = _optimize(model, target, changes)
    outputs = _run_once(model, target)
    with disk_errors(Path(target).parent):
        onnx.save(model, target)
    return model, outputs


def _remove_weights_from_inputs(model: onnx.ModelProto, changes: list[str]) -> None:
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    if len(inputs) != len(graph.input):
        changes.append(f"took {len(graph.input) - len(inputs)} weights out of the inputs")
        del graph.input[:]
        graph.input.extend(inputs)
    read = {name for node in graph.node for name in node.input}
    read |= {one.name for one in graph.output} | set(read_in_bodies(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) != len(graph.initializer):
        changes.append(f"dropped {len(graph.initializer) - len(kept)} unused weights")
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _name_nodes(model: onnx.ModelProto, changes: list[str]) -> None:
    seen: set[str] = set()
    renamed = 0
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
            renamed += 1
        while node.name in seen:
            node.name += "_"
        seen.add(node.name)
    if renamed:
        changes.append(f"named {renamed} nodes")


def _upgrade(model: onnx.ModelProto, changes: list[str]) -> onnx.ModelProto:
    if model.ir_version != IR_VERSION:  # first: in IR 3 a weight had to be an input too
        changes.append(f"IR version {model.ir_version} to {IR_VERSION}")
        model.ir_version = IR_VERSION
    opset = _opset(model)
    if opset < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
            changes.append(f"opset {opset} to {OPSET}")
        except (RuntimeError, ValueError, version_converter.ConvertError) as e:
            changes.append(f"kept opset {opset}: {first_line(e)}")
    return model


def _opset(model: onnx.ModelProto) -> int:
    return next((int(o.version) for o in model.opset_import if o.domain in _STANDARD), 0)


def _optimize(model: onnx.ModelProto, target: str, changes: list[str]) -> onnx.ModelProto:
    """Fold BatchNormalization and constants with ONNX Runtime; its errors name the node."""
    before = len(model.graph.node)
    optimized = _optimized(model, target)
    if _reshapes(optimized) > _reshapes(model):  # around a Gemm, with the batch as a constant
        optimized = _optimized(model, target, ["MatMulAddFusion"])
    foreign = {n.domain for n in optimized.graph.node} - _STANDARD
    if foreign - {n.domain for n in model.graph.node}:
        optimized = model  # do without an optimization that uses operators outside the standard
    for one in list(optimized.opset_import):
        if one.domain not in _STANDARD and one.domain not in foreign:
            optimized.opset_import.remove(one)
    optimized.ir_version = IR_VERSION
    if len(optimized.graph.node) != before:
        changes.append(f"folded {before} nodes to {len(optimized.graph.node)}")
    _name_nodes(optimized, [])
    optimized, count = fold_scales_and_shifts(optimized)
    if count:
        changes.append(
            f"folded {count} constant scales and shifts into the convolutions before them"
        )
    return _described(optimized, changes)


def _described(model: onnx.ModelProto, changes: list[str]) -> onnx.ModelProto:
    """Return the graph with the shapes of its tensors, spelled as runtimes expect it."""
    if separate_constant_outputs(model.graph):
        changes.append("put an Identity between constants and outputs")
    del model.graph.value_info[:]
    model = shape_inference.infer_shapes(model, data_prop=True)
    if spell_out_pads(model.graph):
        changes.append("wrote the sides of Pad for all axes")
    count = add_observed(model, _trial_inputs(model))
    if count:
        changes.append(f"took the shapes of {count} tensors from a run")
    floating = uncounted_layers(model)
    if floating:
        changes.append(
            f"layers with a shape that depends on the picture stay in float and are not counted: "
            f"{', '.join(floating[:_SHOWN])}{' ...' if len(floating) > _SHOWN else ''}"
        )
    return model


def _optimized(model: onnx.ModelProto, target: str, without: Sequence[str] = ()) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = target
    options.log_severity_level = 4
    with disk_errors(Path(target).parent):
        onnx.save(model, target)
        _session(target, options, [*without, _QUANTIZES])
        return onnx.load(target)


def _reshapes(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "Reshape" for node in model.graph.node)


def _trial_inputs(model: onnx.ModelProto) -> list[dict[str, NDArray[Any]]]:
    """Return black and noise for the one input."""
    (image,) = _inputs(model)
    noise = np.random.default_rng(0).uniform(0, 127, image.shape)
    return [{image.name: np.asarray(values, image.dtype)} for values in (0 * noise, noise)]


def _session(target: str, options: Any, without: Sequence[str] = ()) -> Any:
    try:
        return onnxruntime.InferenceSession(
            target, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
        )
    except ONNXRUNTIME_ERRORS as e:
        raise _refusal(str(e)) from e


def _refusal(text: str) -> ModelError:
    """Return the error for ONNX Runtime's message, with node and operator where it names them."""
    node = re.search(r"[Nn]ode[ :]*\(?(?:name:)?\s*'?([\w./:-]+)'?\)?", text)
    operator = re.search(r"(?:for|Op|op_type|OpType)[ :(]*([A-Z]\w+)", text)
    seen = " ".join(text.split())[:300]
    where = f"node {node.group(1)}: " if node else ""
    if "not a registered" in text or "NOT_IMPLEMENTED" in text or "Could not find an impl" in text:
        what = operator.group(1) if operator else "an operator"
        return ModelError(
            f"{where}{what} is not supported: {seen}",
            code="unsupported_operator",
            hint="export with standard operators of opset 17, or replace that layer",
        )
    return ModelError(
        f"{where}ONNX Runtime refuses the graph: {seen}",
        code="refused",
        hint="check width, height and layout under [model.input]; many models need multiples of 32",
    )


def _run_once(model: onnx.ModelProto, target: str) -> list[TensorSpec]:
    """Run the model once on zeros, which checks its shapes; return its outputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with disk_errors(Path(target).parent):
        onnx.save(model, target)
    session = _session(target, options)
    (image,) = _inputs(model)
    try:
        found = session.run(None, {image.name: np.zeros(image.shape, image.dtype)})
    except ONNXRUNTIME_ERRORS as e:
        raise _refusal(str(e)) from e
    names = [one.name for one in session.get_outputs()]
    return [
        TensorSpec(name=name, shape=tuple(value.shape), dtype=value.dtype.name)
        for name, value in zip(names, found, strict=True)
    ]


def _inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=one.name,
            shape=tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim),
            dtype=np.dtype(helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)).name,
        )
        for one in model.graph.input
    )


def _activation_bytes(model: onnx.ModelProto, outputs: list[TensorSpec]) -> int:
    written = [
        (
            [dim.dim_value for dim in one.type.tensor_type.shape.dim],
            np.dtype(helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)).itemsize,
        )
        for one in model.graph.value_info
        if one.type.tensor_type.elem_type
    ]
    written += [(list(one.shape), np.dtype(one.dtype).itemsize) for one in outputs]
    return sum(int(np.prod(shape)) * size for shape, size in written)
