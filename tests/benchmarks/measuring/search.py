"""Whether a fast search chooses what the full one does, on measurements recorded here.

Real rounds of four networks in FP32 and INT8 are recorded once. Each trial draws rounds of them
anew, moves the level of each round and candidate, lets the machine drift, and draws how faithful
each calibrator is; then both searches choose from it, in half of the trials under a limit on p99
that some candidates miss. Latency only: where power or energy decides, a fast search measures
everybody to the end.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.host.clock import SystemClock
from agent.config import Measure
from agent.core.choice.choose import choose
from agent.core.choice.limits import keeps_so_far
from agent.core.choice.requirements import Requirements
from agent.core.measurement.elimination import survivors, within_limits
from agent.core.measurement.latency import steady, summarize
from agent.core.measurement.power import Conditions
from agent.core.measurement.ratios import p50_ratios_ci95
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.records import UNPREDICTED, Candidate, Digest, Measurement, Recipe
from agent.core.search.shortlist import (
    doubtful,
    same_graph_alternatives,
    shortlist,
    wave,
    worth_making,
)
from agent.graphs.qdq import load_inferred
from agent.stages.measuring.measure import measure
from tests.benchmarks.measuring.prediction import THREADS, models, quantized
from tests.benchmarks.rows import Row
from tests.support.candidates import engine, evaluation, measurement
from tests.support.onnx_runs import random_inputs

_TRIALS = 200
_ROUNDS = 5
_RECORDED = 8
_LEVEL = 0.02
_NAMES = ("centerface-320", "ppocr-320", "inverted", "detector")

Rounds = list[NDArray[np.int64]]


def rows() -> list[Row]:
    """Return how often both searches choose alike, and what share of the time a fast one takes."""
    recorded = _record()
    rng = np.random.default_rng(0)
    same = widened = 0
    shares: dict[bool, list[float]] = {False: [], True: []}
    for trial in range(_TRIALS):
        found, rounds = _trial(rng, recorded[list(recorded)[trial // 2 % len(recorded)]])
        limited = bool(trial % 2)
        limits = {"sqnr_db": 10.0, "latency_p99_ms": _limit_ms(rng, rounds) if limited else 0.0}
        alike, share, again = _compared(found, rounds, limits)
        same += alike and not again
        widened += again
        shares[limited].append(share)
    settled = _TRIALS - widened
    return [
        Row(
            what=f"fast search against full, {_TRIALS} trials on recorded rounds: the same choice, "
            "or one within its noise, where it was not made again in full",
            goal="in at least 95 %",
            found=f"{same / settled:.1%} of {settled}; {widened / _TRIALS:.0%} of all left a doubt "
            "and were made again in full",
            met=same / settled >= 0.95,
            detail={"networks": list(recorded)},
        ),
        Row(
            what="measuring time of the fast search over that of the full one",
            goal="at most half",
            found=f"{np.mean(shares[False]):.0%} (most {max(shares[False]):.0%})",
            met=bool(np.mean(shares[False]) <= 0.5),
            detail={},
        ),
        Row(
            what="the same under a limit on p99 that some candidates miss, or all",
            goal="as a full one at most",
            found=f"{np.mean(shares[True]):.0%}",
            met=bool(np.mean(shares[True]) <= 1.0),
            detail={},
        ),
    ]


def _record() -> dict[str, dict[str, Rounds]]:
    """Measure FP32 and INT8 of each network in interleaved rounds."""
    kept: dict[str, dict[str, Rounds]] = {}
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        for name, model in models(Path(directory)).items():
            if name not in _NAMES:
                continue
            graphs = {
                "fp32": model,
                "int8": quantized(model, str(Path(directory, f"{name}-8.onnx"))),
            }
            rounds: dict[str, Rounds] = {}

            def note(so_far: Any, rounds: dict[str, Rounds] = rounds) -> frozenset[str]:
                rounds |= {one: list(taken) for one, taken in so_far.items()}
                return frozenset(so_far)

            measure(
                {one: engine(name=one) for one in graphs},
                Measure(warmup_s=0.5, duration_s=2.4, rounds=_RECORDED, idle_s=0.0),
                make_runner=lambda one, graphs=graphs: OnnxruntimeRunner(
                    graphs[one.digest], THREADS
                ),
                tensors=lambda _, model=model: [random_inputs(load_inferred(model), 0)],
                power="not asked for",
                clock=SystemClock(),
                conditions=Conditions,
                seed=0,
                progress=lambda *_: None,
                selection=note,
            )
            kept[name] = rounds
    return kept


def _trial(
    rng: np.random.Generator, recorded: dict[str, Rounds]
) -> tuple[list[Candidate], dict[str, Rounds]]:
    """Return the candidates of one run, not yet measured, and the rounds that each would have."""
    drift = 1 + rng.normal(0, 0.03) * np.linspace(0, 1, _ROUNDS)
    found, rounds = [], {}
    kinds = ["fp32", *(f"int8-{name}" for name in CALIBRATORS), "int8-mixed"]
    share = rng.uniform(0.05, 0.6)  # of the way from INT8 to FP32 that mixed takes
    for kind in kinds:
        base = recorded["fp32" if kind == "fp32" else "int8"]
        slower = _slower(recorded, share) if kind == "int8-mixed" else 1.0
        drawn = [base[index] for index in rng.choice(len(base), _ROUNDS)]
        levels = rng.lognormal(0, _LEVEL, _ROUNDS) * drift * slower
        rounds[kind] = [
            (one * level).astype(np.int64) for one, level in zip(drawn, levels, strict=True)
        ]
        found.append(_candidate(kind, rng, rounds[kind]))
    return found, rounds


def _slower(recorded: dict[str, Rounds], share: float) -> float:
    fp32, int8 = (float(np.median(np.concatenate(recorded[name]))) for name in ("fp32", "int8"))
    return float((fp32 / int8) ** share)


def _candidate(kind: str, rng: np.random.Generator, rounds: Rounds) -> Candidate:
    precision = kind if kind in {"fp32", "int8-mixed"} else "int8"
    sqnr_db = None if kind == "fp32" else rng.uniform(8, 30) + (15 if kind == "int8-mixed" else 0)
    true_ms = float(np.median(np.concatenate(rounds))) / 1e6
    guess_ms = true_ms * rng.lognormal(0, 0.05)
    wide = 1.25 if kind != "int8-mixed" else 1.6
    return Candidate(
        id=kind,
        recipe=Recipe(precision=precision, calibrator=kind.removeprefix("int8-")),
        runtime="onnxruntime",
        engine=replace(engine(), digest=Digest(kind)),
        evaluation=evaluation(sqnr_db),
        predicted=replace(UNPREDICTED,
            latency_p50_ms=guess_ms, basis="a trial",
            latency_p50_ms_ci90=(guess_ms / wide, guess_ms * wide),
        ),
    )  # fmt: skip


def _limit_ms(rng: np.random.Generator, rounds: dict[str, Rounds]) -> float:
    """Return a limit on p99 near that of the middle candidate."""
    p99s = [_measured(one).latency_ms.p99 for one in rounds.values()]
    return float(np.median(p99s) * rng.uniform(0.8, 1.3))


def _compared(
    found: list[Candidate], rounds: dict[str, Rounds], limits: dict[str, float]
) -> tuple[bool, float, bool]:
    """Return whether the fast choice is the full one or within its noise.

    And the share of the full one's time that it took, and whether it was made again in full, so
    that its choice is the full one.
    """
    measured = _paired({c.id: _measured(rounds[c.id]) for c in found}, rounds)
    full = [replace(c, measurement=measured[c.id]) for c in found]
    listed = shortlist(_made(found, limits), Requirements("latency", limits))
    taken, last = _halved(
        {c.id: rounds[c.id] for c in listed if not c.failure},
        same_graph_alternatives(listed),
        limits,
    )
    halved = _paired(
        {name: _measured(some, eliminated=name not in last) for name, some in taken.items()}, taken
    )
    fast = [replace(c, measurement=halved[c.id]) if c.id in halved else c for c in listed]
    first = choose(fast, Requirements("latency", limits))
    spent = sum(len(some) for some in taken.values()) / (len(found) * _ROUNDS)
    if doubtful(fast, first, Requirements("latency", limits)):
        return True, 1 + spent, True
    chosen, other = choose(full, Requirements("latency", limits)).candidate, first.candidate
    if chosen == other or chosen is None or other is None:
        return chosen == other, spent, False
    return measured[other].p50_ratio_ci95[chosen][0] <= 1.0, spent, False


def _made(found: list[Candidate], limits: dict[str, float]) -> list[Candidate]:
    """Return who is built, in waves, and who is not even that."""
    made: list[Candidate] = []
    pending = found
    while pending:
        now, pending = wave(pending, Requirements("latency", limits))
        made += now
        pending = worth_making(pending, made, Requirements("latency", limits))
        made += [c for c in pending if c.left_out]
        pending = [c for c in pending if not c.left_out]
    return made


def _halved(
    rounds: dict[str, Rounds], twins: dict[str, str], limits: dict[str, float]
) -> tuple[dict[str, Rounds], frozenset[str]]:
    """Return the rounds that each was measured in, and who was measured to the end."""
    running = last = frozenset(rounds)
    taken: dict[str, Rounds] = {name: [] for name in rounds}
    single = dict.fromkeys(taken, 1)
    for number in range(_ROUNDS):
        for name in running:
            taken[name].append(rounds[name][number])
        kept = within_limits(taken, single, lambda timing: keeps_so_far(timing, limits))
        last, running = running, survivors(taken, single, ["fp32"], twins, kept)
    return taken, last


def _paired(measured: dict[str, Measurement], rounds: dict[str, Rounds]) -> dict[str, Measurement]:
    """Return the measurements with how they compare round by round, as the measure stage does."""
    p50s = {name: one.latency_ms.p50 for name, one in measured.items()}
    ratios = p50_ratios_ci95(rounds, p50s, _ROUNDS)
    return {
        name: replace(one, p50_ratio_ci95=ratios.get(name, {})) for name, one in measured.items()
    }


def _measured(rounds: Rounds, *, behind: bool = False) -> Measurement:
    return replace(
        measurement(), latency_ms=summarize(rounds), steady=steady(rounds), rounds=len(rounds),
        eliminated=behind,
    )  # fmt: skip
