"""Which candidates a run looks at: recipe x batch x power mode, on one runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from agent.core.lineage import Candidate, Platform, Recipe

_NO_MODES = "not measured: switching power modes is not available in this version"


def recipes(
    precisions: Sequence[str], calibrators: Sequence[str], scheme: str
) -> tuple[Recipe, ...]:
    """Return the recipes to make; FP32 always among them, since it is the baseline."""
    wanted: list[Recipe] = [Recipe(precision="fp32")]
    for precision in dict.fromkeys(precisions):
        if precision == "int8":
            wanted += [
                Recipe(precision="int8", calibrator=name, scheme=scheme)
                for name in dict.fromkeys(calibrators)
            ]
        elif precision == "int8-mixed":
            wanted.append(Recipe(precision="int8-mixed", calibrator="per-tensor", scheme=scheme))
        elif precision != "fp32":
            wanted.append(Recipe(precision=precision))
    return tuple(wanted)


def candidates(
    recipes_: Sequence[Recipe],
    batches: Sequence[int],
    power_modes: Sequence[str],
    platform: Platform,
) -> tuple[Candidate, ...]:
    """Return every candidate, those that can't be offered here with the reason as failure."""
    found = []
    for recipe, batch, mode in product(
        recipes_, dict.fromkeys(batches), dict.fromkeys(power_modes or (None,))
    ):
        candidate = Candidate(
            id=candidate_id(recipe, batch, mode),
            recipe=recipe,
            runtime=platform.runtime,
            batch=batch,
            power_mode=mode,
        )
        found.append(replace(candidate, failure=_obstacle(candidate, platform)))
    return tuple(found)


def candidate_id(recipe: Recipe, batch: int, power_mode: str | None) -> str:
    """Return a short readable id such as `int8-entropy`, `fp16-b4` or `fp32@15W`."""
    name = recipe.precision
    if recipe.calibrator and recipe.precision == "int8":
        name += f"-{recipe.calibrator}"
    if batch > 1:
        name += f"-b{batch}"
    return f"{name}@{power_mode}" if power_mode else name


def executable(candidate: Candidate) -> Candidate:
    """Return the candidate, failed if its engine is for another device than this one."""
    engine = candidate.engine
    if engine is None or engine.runnable or candidate.failure:
        return candidate
    return replace(
        candidate,
        failure=f"cross-built for {engine.device}: it can't be executed here, so it was not "
        "measured and is not offered",
    )


def _obstacle(candidate: Candidate, platform: Platform) -> str:
    if candidate.recipe.precision == "fp16" and platform.fp16_reason:
        return platform.fp16_reason
    if candidate.power_mode:
        return _NO_MODES
    return ""
