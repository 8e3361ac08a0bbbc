"""The verbs for single stages: each runs the chain up to its stage and reuses what is stored.

`capture` begins a new manual run; the others continue it, so that `quantd capture`,
`quantize`, `build`, `measure`, `choose`, `activate` do a run in steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from agent import config as configuration
from agent.config import Config
from agent.core.records import CalibrationSet, Candidate, Choice, CleanModel, Platform
from agent.run.chain import Chain
from agent.run.outcome import Outcome
from agent.terminal import ProgressBars
from agent.verbs.interrupt import in_turn
from agent.verbs.options import (
    CAMERA,
    CAPABILITY,
    CONFIGURED,
    JSON,
    MODEL,
    NO_WAIT,
    RUNTIME,
    Verb,
    load,
    print_json,
)
from agent.wiring import runs

ResultT = TypeVar("ResultT")


def _stage(run: Callable[[Chain], Any], *, new: bool = False) -> Callable[..., int]:
    def verb(options: argparse.Namespace) -> int:
        chain, result = _continued(load(options), options, run, new=new)
        if options.json:
            print_json(result)
        else:
            _describe(result, chain)
        return 0

    return verb


def _continued(
    config: Config,
    options: argparse.Namespace,
    work: Callable[[Chain], ResultT],
    *,
    new: bool = False,
) -> tuple[Chain, ResultT]:
    """Do some of the manual run's work in the foreground; with `new`, begin that run."""
    configuration.require_source(config)
    with in_turn(config, options) as cancelled, ProgressBars() as bars:
        run_id = runs.manual_run(config, new=new)
        chain = runs.chain(config, run_id, bars.update, cancelled, bars.announce)
        return chain, work(chain)


def _describe(result: Any, chain: Chain) -> None:
    """Print the folder of each record, or why a candidate failed."""
    cross_built: dict[str, str] = {}
    records = result if isinstance(result, (list, tuple)) else [result]
    for record in records:
        if isinstance(record, Candidate):
            artifact = record.engine or record.quantized
            where = record.failure or (artifact and chain.store.directory(artifact.digest))
            sys.stdout.write(f"{record.id}: {where}\n")
            if record.engine and not record.engine.runnable:
                cross_built[record.engine.device] = record.engine.runtime_version
        else:
            sys.stdout.write(f"{chain.store.directory(record.digest)}\n")
    for device, version in cross_built.items():
        sys.stdout.write(
            f"cross-built for {device} by TensorRT {version}: not executed here, so neither "
            "fidelity nor latency was measured\n"
        )


def _capture(chain: Chain) -> CalibrationSet:
    """Capture, once the model is known to be one that the frames can be used for."""
    chain.intake()
    return chain.capture()


def _quantize(chain: Chain) -> list[Candidate]:
    platform, model, calibration = _inputs(chain)
    return chain.quantized(chain.predicted(platform, model), platform, model, calibration)


def _build(chain: Chain) -> list[Candidate]:
    platform, model, calibration = _inputs(chain)
    return chain.built(chain.predicted(platform, model), platform, model, calibration)


def _inputs(chain: Chain) -> tuple[Platform, CleanModel, CalibrationSet]:
    platform, model = chain.platform(), chain.intake()
    calibration = chain.capture()
    return platform, chain.checked(model, calibration), calibration


def _measured(config: Config, options: argparse.Namespace) -> tuple[Outcome, Choice]:
    """Run up to the measurements, and choose from them."""
    from agent.core.choice.choose import choose

    _, outcome = _continued(config, options, Chain.run)
    return outcome, choose(outcome.candidates, config.requirements)


def _measure(options: argparse.Namespace) -> int:
    from agent.core.report.candidates import candidate_report
    from agent.terminal import figures

    config = load(options)
    outcome, choice = _measured(config, options)
    if options.json:
        print_json(outcome.candidates)
        return 0
    by_id = {one.id: one for one in outcome.candidates}
    figures(
        {
            "model": {"name": outcome.model.name},
            "device": config.device.id,
            "environment": outcome.platform.environment,
            "candidates": [
                asdict(candidate_report(one, choice, by_id)) for one in outcome.candidates
            ],
        }
    )
    return 0


def _choose(options: argparse.Namespace) -> int:
    from agent.terminal import show

    _, choice = _measured(load(options), options)
    if options.json:
        print_json(choice)
    else:
        show(f"{choice.candidate or 'no feasible candidate'}: {choice.why}")
    return 3 if choice.infeasible else 0


_COMMON = (*CONFIGURED, MODEL, CAMERA, RUNTIME, NO_WAIT, JSON)
SINGLE = (
    Verb(
        name="capture",
        summary="capture calibration frames from the camera",
        run=_stage(_capture, new=True),
        options=_COMMON,
        example="quantd capture -c quantd.toml --camera v4l2:///dev/video0",
    ),
    Verb(
        name="quantize",
        summary="quantize the model with every recipe, from the captured frames",
        run=_stage(_quantize),
        options=_COMMON,
    ),
    Verb(
        name="build",
        summary="build every candidate's engine",
        run=_stage(_build),
        options=(*_COMMON, CAPABILITY),
        example="quantd build -c quantd.toml --runtime tensorrt --compute-capability 8.6",
    ),
    Verb(
        name="measure",
        summary="measure every candidate's fidelity, latency and power",
        run=_measure,
        options=_COMMON,
    ),
    Verb(
        name="choose",
        summary="choose the best candidate within the limits, and show why",
        run=_choose,
        options=_COMMON,
    ),
)
