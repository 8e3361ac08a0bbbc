"""The candidates of a run: recipe x batch x power mode, on one runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from agent.core.errors import QuantdError
from agent.core.records import AS_GIVEN, FP32, MIXED, Candidate, Model, Platform, Recipe


def recipes(
    precisions: Sequence[str], calibrators: Sequence[str], scheme: str, model: Model
) -> tuple[Recipe, ...]:
    """Return the recipes to make, the baseline first.

    It is FP32, or a file that is quantized already as it was given, if no FP32 can be made of it.
    """
    alone = model.baseline == AS_GIVEN
    wanted = [] if alone else [Recipe(precision=FP32)]
    if model.quantized:
        wanted.append(Recipe(precision=AS_GIVEN, scheme=scheme, alone=alone))
    for precision in dict.fromkeys(precisions):
        if precision == "int8":
            wanted += [
                Recipe(precision="int8", calibrator=name, scheme=scheme)
                for name in dict.fromkeys(calibrators)
            ]
        elif precision == MIXED:
            wanted.append(Recipe(precision=MIXED, calibrator="best", scheme=scheme))
        elif precision != FP32:
            wanted.append(Recipe(precision=precision))
    return tuple(wanted)


def candidates(
    recipes_: Sequence[Recipe],
    batches: Sequence[int],
    power_modes: Sequence[str],
    platform: Platform,
    dla_core: int = -1,
) -> tuple[Candidate, ...]:
    """Return every candidate; `failure` is the reason where one can't be used here.

    Args:
        recipes_: From `recipes`.
        batches: Frames per inference.
        power_modes: Names; empty for the current mode.
        platform: What will execute.
        dla_core: A deep-learning accelerator to try beside the GPU; -1 for none.
    """
    found = []
    cores = (-1, dla_core) if dla_core >= 0 else (-1,)
    for recipe, batch, mode, core in product(
        recipes_, dict.fromkeys(batches), dict.fromkeys(power_modes or (None,)), cores
    ):
        if core >= 0 and recipe.is_baseline:
            continue  # it is on the GPU, where all engines are compared; an accelerator has no FP32
        candidate = Candidate(
            id=candidate_id(recipe, batch, mode, core),
            recipe=recipe,
            runtime=platform.runtime,
            batch=batch,
            power_mode=mode,
            dla_core=core,
        )
        found.append(replace(candidate, failure=_obstacle(candidate, platform)))
    return tuple(found)


def candidate_id(recipe: Recipe, batch: int, power_mode: str | None, dla_core: int = -1) -> str:
    """Return a short readable id: `int8-entropy`, `int8-mixed-2`, `fp16-b4` or `fp32@15W`."""
    name = recipe.precision
    if recipe.calibrator and recipe.precision == "int8":
        name += f"-{recipe.calibrator}"
    if recipe.member:
        name += f"-{recipe.member}"
    if batch > 1:
        name += f"-b{batch}"
    if dla_core >= 0:
        name += f"-dla{dla_core}"
    return f"{name}@{power_mode}" if power_mode else name


def members(candidate: Candidate, count: int) -> tuple[Candidate, ...]:
    """Return the candidates that stand for int8-mixed once its front is known.

    Args:
        candidate: The one that was planned.
        count: Of the members of the front.
    """
    recipes_ = [replace(candidate.recipe, member=place + 1) for place in range(count)]
    return tuple(
        replace(
            candidate,
            recipe=recipe,
            id=candidate_id(recipe, candidate.batch, candidate.power_mode, candidate.dla_core),
        )
        for recipe in recipes_
    )


def executable(candidate: Candidate) -> Candidate:
    """Return the candidate, as failed if its engine is for another device."""
    engine = candidate.engine
    if engine is None or engine.runnable or candidate.failure:
        return candidate
    return replace(
        candidate,
        failure=f"cross-built for {engine.device}: it can't be executed here, so it was not "
        "measured and is not offered",
    )


_ENDS_THE_RUN = frozenset({"canceled", "disk_full"})


def failed(candidate: Candidate, error: QuantdError) -> Candidate:
    """Return the candidate with the reason why it could not be made or run.

    Raises:
        QuantdError: the error itself, if it ends the whole run.
    """
    if error.code in _ENDS_THE_RUN:
        raise error
    reason = f"{error.message}; {error.hint}" if error.hint else error.message
    return replace(candidate, failure=reason)


_DLA_ENDS, _DLA_RETURNS = (10, 8), (11, 4, 1)
"""TensorRT releases without accelerators, from and to.

Source: docs.nvidia.com/deeplearning/tensorrt/11.4.1, "Working with DLA": 10.7 was the last 10.x
with DLA, 11.4.1 the next; before that it took no explicit quantization (NVIDIA/TensorRT #2222).
"""


def _without_dla(candidate: Candidate, platform: Platform) -> str:
    """Return why an accelerator can't be used; empty if it may be tried."""
    if platform.runtime != "tensorrt":
        return "runtime.dla_core needs TensorRT: ONNX Runtime uses no accelerator"
    cores = platform.environment.get("dla_cores")
    if not isinstance(cores, int) or candidate.dla_core >= cores:
        board = platform.environment.get("board") or "an unknown board"
        return f"runtime.dla_core = {candidate.dla_core}: {board} has {cores or 'no'} accelerators"
    version = tuple(int(part) for part in re.findall(r"\d+", platform.runtime_version)[:3])
    if _DLA_ENDS <= version < _DLA_RETURNS:
        return (
            f"TensorRT {platform.runtime_version} builds for no accelerator; 10.7 and older do, "
            "and 11.4.1 and newer with JetPack 7.2.2"
        )
    if version < _DLA_ENDS and candidate.recipe.precision != "fp16":
        return (
            f"the accelerators of TensorRT {platform.runtime_version} take no Q/DQ, "
            "by which quantd expresses INT8; fp16 is tried"
        )
    return ""


def _obstacle(candidate: Candidate, platform: Platform) -> str:
    if candidate.recipe.precision == "fp16" and platform.fp16_reason:
        return platform.fp16_reason
    if candidate.dla_core >= 0:
        reason = _without_dla(candidate, platform)
        if reason:
            return reason
    return _without_mode(candidate.power_mode, platform) if candidate.power_mode else ""


def _without_mode(mode: str, platform: Platform) -> str:
    """Return why a power mode can't be measured in; empty if it can."""
    settable, later = (
        str(platform.environment.get(fact) or "").split(", ")
        for fact in ("power_modes", "power_modes_after_reboot")
    )
    if mode in settable:
        return ""
    if mode in later:
        return f"power mode {mode} takes effect after a reboot only, so it was not tried"
    if not settable[0]:
        return f"power mode {mode}: this machine has none that can be set"
    return f"there is no power mode {mode} here; there are {', '.join((*settable, *later))}"
