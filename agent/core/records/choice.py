"""Candidates with what is known of them, the choice and the activation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records.engine import Engine, Evaluation
from agent.core.records.graphs import MIXED, QuantizedModel, Recipe
from agent.core.records.layers import LayerTimes
from agent.core.records.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What was expected before anything was built, and from what; None where nothing is known.

    Attributes:
        latency_p50_ms_ci90: Where p50 should lie nine times of ten; so for the other figures.
        inside: Whether the measured p50 did; None if it is not known yet, or was not predicted.
        energy_j: Joules per frame.
        basis: What it is derived from, or why there is none, in words.
    """

    latency_p50_ms: float | None
    latency_p50_ms_ci90: tuple[float, float] | None
    inside: bool | None
    throughput_fps: float | None
    throughput_fps_ci90: tuple[float, float] | None
    power_w: float | None
    power_w_ci90: tuple[float, float] | None
    energy_j: float | None
    energy_j_ci90: tuple[float, float] | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Predicted):
    """A prediction, with what later ones are corrected by.

    Attributes:
        source: history, trial, fleet, other models or roofline; "" where nothing is known.
        latency_p50_ms_span: The ends of p50 if the prediction is no point; None for one.
    """

    source: str = ""
    latency_p50_ms_span: tuple[float, float] | None = None


UNPREDICTED = Prediction(
    latency_p50_ms=None,
    latency_p50_ms_ci90=None,
    inside=None,
    throughput_fps=None,
    throughput_fps_ci90=None,
    power_w=None,
    power_w_ci90=None,
    energy_j=None,
    energy_j_ci90=None,
    basis="not predicted",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run the model: recipe x runtime x power mode x batch, with its records.

    Attributes:
        dla_core: The deep-learning accelerator to build for; -1 for the GPU alone.
        layer_times_reason: Why there are no layer times.
        short_of_memory: What its build was expected to take, if less was free; else empty.
        failure: Why a stage could not make or run it; empty if all went well.
        left_out: Why a fast search did not measure it: limit, scales or prediction; `failure`
            has it in words. Empty if it did.
    """

    id: str
    recipe: Recipe
    runtime: str
    batch: int = 1
    power_mode: str | None = None
    dla_core: int = -1
    predicted: Prediction | None = None
    quantized: QuantizedModel | None = None
    engine: Engine | None = None
    evaluation: Evaluation | None = None
    measurement: Measurement | None = None
    layer_times: LayerTimes | None = None
    layer_times_reason: str = "only FP32, the chosen one and the fastest in INT8 are profiled"
    short_of_memory: str = ""
    failure: str = ""
    left_out: str = ""

    def is_baseline_of(self, other: Candidate) -> bool:
        """Whether another one's speed is compared with it: in the same batch and power mode."""
        alike = (self.batch, self.power_mode) == (other.batch, other.power_mode)
        return alike and self.recipe.is_baseline


_MEMBER = re.compile(rf"^({re.escape(MIXED)})-\d+")


def planned_id(candidate: str) -> str:
    """Return the id under which a candidate was planned; all members of a front have the same."""
    return _MEMBER.sub(r"\1", candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """chosen, feasible or rejected, and why in words.

    Attributes:
        flags: What makes its numbers doubtful, which is among the reasons too.
    """

    verdict: str
    reasons: tuple[str, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer. `candidate` is None if nothing is feasible; then the device is not touched."""

    candidate: str | None
    objective: str
    why: str
    pareto: tuple[str, ...]
    infeasible: bool
    nearest_miss: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Decision):
    """The answer, with a verdict on every candidate by its id."""

    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The least fidelity that an engine needs to be chosen.

    Attributes:
        limit: Key of the limit: agreement where the task has a metric, else sqnr_db.
        bound: Its value; 0 if the floor was switched off.
        default: Whether the value is the default.
    """

    limit: str
    bound: float
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """Outcome of a switch of releases.

    Attributes:
        state: active, unchanged, rolled_back, not_attempted, or interrupted: it was undone before
            it had an outcome, and is done again if its run is continued.
        release: The active release after it.
        previous: The one that was active before, or the one that was undone.
    """

    state: str
    release: str | None
    previous: str | None
    detail: str = ""
