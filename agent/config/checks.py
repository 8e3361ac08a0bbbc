"""Check the choices and ranges of every key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from cronsim import CronSim, CronSimError

from agent.config.boards import board
from agent.config.class_names import check_names
from agent.config.tables import PRECISIONS, Config, Decode, ModelTask
from agent.core.choice.limits import AGREEMENT, LIMITS
from agent.core.choice.objectives import OBJECTIVES
from agent.core.errors import ConfigError
from agent.core.fidelity.decoders import DECODERS
from agent.core.frames.camera_uri import NAMED_EXAMPLES, camera_kind, scheme_of
from agent.core.frames.pixels import PIXELS
from agent.core.measurement.power_sensors import POWER_SENSORS
from agent.core.quantization.calibrator_names import CALIBRATORS

_CHOICES: dict[str, tuple[str, ...]] = {
    "model.input.layout": ("NCHW", "NHWC"),
    "model.input.color": ("RGB", "BGR", "GRAY"),
    "model.input.dtype": ("float32", "float16", "uint8", "int8"),
    "model.input.resize": ("stretch", "letterbox"),
    "model.input.pixels": ("", *PIXELS),
    "model.task.categories": ("order", "id"),
    "model.task.decode.kind": ("", *DECODERS),
    "model.task.decode.format": ("xyxy", "yxyx", "cxcywh"),
    "model.task.decode.unit": ("pixels", "fractions"),
    "model.task.decode.size": ("cells", "log", "pixels"),
    "model.task.decode.order": ("xy", "yx"),
    "calibration.keep": ("frames", "stats"),
    "search.precisions": PRECISIONS,
    "search.calibrators": tuple(CALIBRATORS),
    "search.strategy": ("full", "fast"),
    "objective.minimize": ("", *(one.key for one in OBJECTIVES.values() if not one.maximize)),
    "objective.maximize": ("", *(one.key for one in OBJECTIVES.values() if one.maximize)),
    "measure.power": ("auto", *POWER_SENSORS, "none"),
    "runtime.kind": ("auto", "tensorrt", "onnxruntime"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "camera.width": (16, 16384),
    "camera.height": (16, 16384),
    "camera.fps": (0.01, 1000),
    "model.input.width": (0, 16384),
    "model.input.height": (0, 16384),
    "model.task.decode.keypoints": (0, 1024),
    "model.task.decode.stride": (1, 1024),
    "model.task.decode.threshold": (0, 1),
    "model.task.decode.overlap": (0, 1),
    "calibration.frames": (1, 100_000),
    "calibration.holdout": (1, 100_000),
    "calibration.window_s": (0.1, 86_400),
    "search.batch": (1, 1024),
    **{f"limits.{key}": (0, limit.highest) for key, limit in LIMITS.items()},
    "measure.warmup_s": (0, 3600),
    "measure.duration_s": (0.1, 86_400),
    "measure.rounds": (1, 1000),
    "measure.idle_s": (0, 3600),
    "measure.rate_fps": (0, 10_000),
    "runtime.threads": (0, 1024),
    "runtime.workspace_mb": (0, 1e6),
    "runtime.builder_level": (-1, 5),
    "runtime.dla_core": (-1, 7),
    "activation.health_timeout_s": (0.1, 3600),
    "activation.keep": (1, 100),
    "mqtt.port": (1, 65_535),
    "commands.max_exp_s": (1, 1e8),
    "drift.check_every_s": (1, 1e7),
    "drift.agreement_below": (0, 1),
    "storage.max_mb": (16, 1e8),
}
_ALONE = (("masks", "keypoints", "rotated"), ("logits", "softmax"))
"""Keys of a decoding of which one at most can be set."""
_TASKS = ("generic", "classification", "segmentation", "detection")
_NVPMODEL = Path("/etc/nvpmodel.conf")
_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,128}")  # as consumers of the messages take them
_LABELS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check(config: Config) -> None:
    """Check every value against its range or its choices.

    Raises:
        ConfigError: naming the key, the value seen and what is allowed.
    """
    _check_values(flatten(msgspec.to_builtins(config)))
    if config.camera.uri:  # an empty one is refused by `require_source`
        camera_kind(config.camera.uri)
    _check_model(config)
    _check_names(config)
    _check_schedule(config)
    _check_board(config)
    capability = config.runtime.compute_capability
    if capability and not _CAPABILITY.fullmatch(capability):
        raise ConfigError(
            f'runtime.compute_capability = "{capability}" is no compute capability',
            hint='major.minor, e.g. "8.6" for GeForce RTX 30',
        )
    if config.objective.minimize and config.objective.maximize:
        raise ConfigError("[objective] has both minimize and maximize", hint="keep one of them")
    if not config.search.precisions or not config.search.batch:
        raise ConfigError("search.precisions and search.batch must not be empty")


def _check_board(config: Config) -> None:
    """Check that a named board is known and has the power modes asked for.

    Where nvpmodel is, it knows better: a later Jetson Linux has other modes, and users add theirs.
    """
    if config.device.board == "auto":
        return
    found = board(config.device.board)
    if _NVPMODEL.exists() or (found and not found.power_modes):
        return
    missing = [
        mode for mode in config.search.power_modes if found and mode not in found.power_modes
    ]
    if found and missing:
        raise ConfigError(
            f"search.power_modes has {missing[0]}, which {found.name} does not have",
            hint=f"it has {', '.join(found.power_modes)}",
        )


def without_effect(config: Config, set_keys: Iterable[str]) -> tuple[str, ...]:
    """Return the keys that are set but have no effect in this version or beside the other keys.

    Args:
        config: The configuration.
        set_keys: The dotted keys that are not defaults, as `load_with_origin` returns them.
    """
    idle = [key for key in set_keys if key.startswith("drift.")]
    if config.runtime.compute_capability and config.runtime.kind != "tensorrt":
        idle.append("runtime.compute_capability")
    return tuple(idle)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_values(flat: dict[str, Any]) -> None:
    for key, allowed in _CHOICES.items():
        for value in _each(flat[key]):
            if value not in allowed:
                raise ConfigError(
                    f'{key} = "{value}" is not known',
                    hint="allowed: " + ", ".join(a or '""' for a in allowed),
                )
    for key, found in flat.items():
        if any(isinstance(value, float) and not isfinite(value) for value in _each(found)):
            raise ConfigError(f"{key} = {found} is not finite", hint="give a number")
    for key, (low, high) in _RANGES.items():
        for value in _each(flat[key]):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{key} = {value:g} is out of range", hint=f"{low:g} to {high:g}")


def _check_names(config: Config) -> None:
    if not _NAME.fullmatch(config.mqtt.root):
        raise ConfigError(
            f"mqtt.root = {config.mqtt.root!r}", hint="letters, digits, '.', '_' and '-' only"
        )
    if config.device.id and not _NAME.fullmatch(config.device.id):
        raise ConfigError(
            f"device.id = {config.device.id!r} can't be an MQTT topic level and client id",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )
    labels = config.device.labels
    wrong = [text for pair in labels.items() for text in pair if not _LABEL.fullmatch(text)]
    if wrong or len(labels) > _LABELS:
        seen = f"{wrong[0][:200]!r}" if wrong else f"{len(labels)} entries"
        raise ConfigError(
            f"device.labels has {seen}",
            hint=f"at most {_LABELS}, each name and text of 1 to 128 printable characters",
        )


def _check_schedule(config: Config) -> None:
    for key in ("reoptimize", "window"):
        expression = getattr(config.schedule, key)
        try:
            if expression:
                CronSim(expression, datetime(2000, 1, 1))
        except CronSimError as e:
            raise ConfigError(
                f'schedule.{key} = "{expression}" is no cron expression: {e}',
                hint='five fields, e.g. "0 3 * * 0": at 3:00 on Sundays',
            ) from e


def _check_model(config: Config) -> None:
    model = config.model
    if model.name and not _NAME.fullmatch(model.name):
        raise ConfigError(
            f"model.name = {model.name!r} can't be an MQTT topic level",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )
    if model.task.kind not in _TASKS and not re.fullmatch(r"[\w.]+:\w+", model.task.kind):
        raise ConfigError(
            f'model.task.kind = "{model.task.kind}" is not known',
            hint="allowed: " + ", ".join(_TASKS) + ', or "module:function"',
        )
    _check_decode(model.task.kind, model.task.decode)
    check_names(model.task.names, model.task.kind)
    _check_labels(config)
    agreement = config.limits.by_key()[AGREEMENT.key]
    if agreement and model.task.kind == "generic":
        raise ConfigError(
            "limits.agreement needs a task metric, but model.task.kind is generic",
            hint="set model.task.kind, or use limits.sqnr_db",
        )
    if agreement and model.task.kind == "detection" and not model.task.decode.kind:
        raise ConfigError(
            "limits.agreement needs boxes, but model.task.decode.kind is empty",
            hint="set model.task.decode.kind, or use limits.sqnr_db",
        )
    if 0 in model.input.std:
        raise ConfigError("model.input.std must not contain 0")
    for key in ("mean", "std"):
        if len(getattr(model.input, key)) not in {1, 3}:
            raise ConfigError(f"model.input.{key} needs 1 or 3 values")


def _check_labels(config: Config) -> None:
    task = config.model.task
    if task.categories != ModelTask().categories and (task.kind != "detection" or not task.labels):
        raise ConfigError(
            f'model.task.categories = "{task.categories}" is for the labels of kind = "detection"',
            hint="set model.task.kind and labels, or remove the categories",
        )
    if not task.labels:
        return
    if task.kind not in {"classification", "detection"}:
        raise ConfigError(
            'model.task.labels is for kind = "classification" or "detection", but model.task.kind '
            f'is "{task.kind}"',
            hint="set model.task.kind, or remove the labels",
        )
    if task.kind == "detection" and not task.decode.kind:
        raise ConfigError(
            "model.task.labels needs boxes, but model.task.decode.kind is empty",
            hint="set model.task.decode.kind, or remove the labels",
        )
    uri = config.camera.uri
    if uri and not camera_kind(uri).frame_names:
        raise ConfigError(
            f"model.task.labels needs frames with names, but camera.uri is {scheme_of(uri)}://",
            hint=f"take frames from {NAMED_EXAMPLES}, or remove the labels",
        )


def _check_decode(task: str, decode: Decode) -> None:
    if decode.kind and task != "detection":
        raise ConfigError(
            f'model.task.decode is for kind = "detection", but model.task.kind is "{task}"',
            hint="set model.task.kind, or remove model.task.decode",
        )
    needed, read = _decode_keys(decode.kind)
    for key in needed:
        if not getattr(decode, key):
            raise ConfigError(
                f'model.task.decode.{key} is empty, but kind = "{decode.kind}" needs it',
                hint="the name of an output of the model",
            )
    default = Decode()
    for key in decode.__struct_fields__:
        idle = key not in {"kind", *needed, *read}
        if idle and getattr(decode, key) != getattr(default, key):
            keys = ", ".join((*needed, *read))
            raise ConfigError(
                f'model.task.decode.{key} means nothing with kind = "{decode.kind}"',
                hint=f"it reads {keys}" if decode.kind else "set model.task.decode.kind",
            )
    for group in _ALONE:
        given = [key for key in group if getattr(decode, key)]
        if len(given) > 1:
            raise ConfigError(
                f"model.task.decode has {' and '.join(given)}", hint="keep one of them"
            )


def _decode_keys(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys that a kind needs, and the others that it reads."""
    if not kind:
        return (), ("keypoints", "stride", "threshold", "overlap")
    return DECODERS[kind].needs, DECODERS[kind].reads


def _each(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
