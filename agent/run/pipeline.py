"""One whole run: the chain, then choice, activation and report."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.config import Config, doubts
from agent.core.choice.choose import choose
from agent.core.errors import JobError, QuantdError, StoreError
from agent.core.prediction.history import PastMeasurement, remembered
from agent.core.records import Activation, Candidate, Choice
from agent.core.release.reuse import ReusedCalibration
from agent.core.report.change import PreviousRelease
from agent.core.report.document import Report, compose
from agent.core.report.model_input import input_report
from agent.ports import Clock, Jobs, Releases, Store
from agent.run.activation import RunCommand, release_check, switch
from agent.run.artifacts import Observe
from agent.run.chain import Chain, Planned
from agent.run.description import model_json
from agent.run.intake import fed_input
from agent.run.outcome import Outcome
from agent.run.report import encode
from agent.run.showing import scenes
from agent.wire.jobs import RenderPage

_LOG = logging.getLogger(__name__)
_UNTOUCHED = "already active and good, not touched"
_NOT_ATTEMPTED = "no feasible candidate, so nothing on the device was changed"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of a run.

    Attributes:
        run_command: Runs a user's reload and health commands.
        write: Writes a run's files, complete or not at all: write(run id, name, body).
        history: Returns past measurements, newest first.
        remember: Stores what was measured, for later predictions.
        warn: Shows a sentence on what is doubtful before the search begins.
        planned: Called with the model and the candidates before anything that takes long.
    """

    store: Store
    jobs: Jobs
    clock: Clock
    releases: Releases
    run_command: RunCommand
    write: Callable[[str, str, bytes], None]
    history: Callable[[], tuple[PastMeasurement, ...]]
    remember: Callable[[Sequence[PastMeasurement]], None]
    warn: Callable[[str], None]
    planned: Planned = lambda *_: None


@dataclass(frozen=True, kw_only=True)
class Request:
    """The run to be done.

    Attributes:
        run_id: A new id, or that of a run to resume.
        trigger: The reason for it, for the report.
        started: RFC 3339, UTC.
        reused: What is reused of an earlier run.
        origin: Source of each configured value that is no default, by its dotted key.
        again: Whether a switch that was refused or undone later is done again, or another one done
            where the choice is another one now.
    """

    run_id: str
    trigger: str
    started: str
    reused: ReusedCalibration = field(default_factory=ReusedCalibration)
    origin: Mapping[str, str] = field(default_factory=dict)
    again: bool = False


def optimize(
    config: Config, request: Request, ports: Ports, observe: Observe, cancelled: threading.Event
) -> Report:
    """Find the best engine and activate it; write report.json and report.html.

    Returns:
        The report; an infeasible choice is a result, not an error.

    Raises:
        QuantdError: from the stage that failed. The active release has not changed, except where
            the message names it: only the report is missing then.
    """
    warnings: list[str] = []

    def warn(words: str) -> None:
        warnings.append(words)
        ports.warn(words)

    for words in doubts(config, request.origin):
        warn(words)
    chain = Chain(
        config=config,
        run_id=request.run_id,
        store=ports.store,
        jobs=ports.jobs,
        clock=ports.clock,
        history=ports.history(),
        observe=observe,
        cancelled=cancelled,
        reused=request.reused,
        protected=ports.releases.lineage(),
        warn=warn,
        planned=ports.planned,
    )
    outcome = chain.run()
    observe("choose", 0, 1, "")
    choice = choose(outcome.candidates, config.requirements)
    observe("choose", 1, 1, choice.candidate or "infeasible")
    outcome = chain.profiled(outcome, choice)
    observe("activate", 0, 1, "")
    activation = _activate(config, request, ports, outcome, choice, cancelled)
    observe("activate", 1, 1, activation.state)
    report = compose(
        run_id=request.run_id,
        device=config.device.id,
        trigger=request.trigger,
        started=request.started,
        finished=ports.clock.utc(),
        environment=outcome.platform.environment,
        model=outcome.model,
        warnings=warnings,
        fed=input_report(fed_input(config, outcome.model), config.model.input.spec, request.origin),
        calibration=outcome.calibration,
        reused=outcome.reused,
        statistics=outcome.counted,
        not_extended=outcome.not_extended,
        conditioning=outcome.conditioning,
        limits=config.requirements.limits,
        floor=config.requirements.floor,
        candidates=outcome.candidates,
        choice=choice,
        activation=activation,
        previous=_previous(activation, ports.releases),
        timings_s=chain.timings_s,
    )
    observe("report", 0, 1, "")
    present = str(outcome.platform.environment.get("power_mode") or "")
    try:
        ports.remember(remembered(outcome.candidates, outcome.model, present, request.started))
        _publish(config, request, ports, outcome, report, cancelled)
    except StoreError as error:
        if activation.state != "active":
            raise
        raise StoreError(
            f"release {activation.release} is active, but its report could not be written: "
            f"{error.message}",
            code=error.code,
            hint=error.hint,
        ) from error
    observe("report", 1, 1, "")
    return report


def _activate(
    config: Config,
    request: Request,
    ports: Ports,
    outcome: Outcome,
    choice: Choice,
    cancelled: threading.Event,
) -> Activation:
    """Make the chosen engine a release and switch to it, unless the same one is active.

    A switch that this run finished before it was interrupted is not done twice.
    """
    chosen = next((c for c in outcome.candidates if c.id == choice.candidate), None)
    described = model_json(config, outcome, chosen) if chosen and chosen.engine else None
    done, current = ports.releases.settled(request.run_id), ports.releases.current()
    if done is None or (request.again and not _stands(done, described, ports.releases)):
        if chosen is None or described is None:
            return Activation(
                state="not_attempted", release=current, previous=None, detail=_NOT_ATTEMPTED
            )
        done = _switched(config, request, ports, chosen, described, cancelled)
    wanted = chosen.power_mode if chosen else None
    present = outcome.platform.environment.get("power_mode")
    if done.state != "active" or wanted in {None, present}:
        return done
    return replace(
        done,
        detail=f"{done.detail}; measured in power mode {wanted}, and the device is in {present}: "
        "quantd leaves the mode to you (`sudo nvpmodel -m`, or a reload command)".lstrip("; "),
    )


def _previous(activation: Activation, releases: Releases) -> PreviousRelease | None:
    """Return the release that was active before the run; None if there was none."""
    name = activation.previous if activation.state == "active" else activation.release
    if name is None:
        return None
    return PreviousRelease(
        release=name,
        candidate=str(releases.model_json(name).get("candidate") or ""),
        report=releases.report(name),
    )


def _stands(done: Activation, described: Mapping[str, Any] | None, releases: Releases) -> bool:
    """Return whether a finished switch is still in effect, and made active what is chosen now."""
    current = releases.current()
    if described is None or current is None or (done.state, done.release) != ("active", current):
        return False
    return bool(releases.identity(current) == described["identity"])


def _switched(
    config: Config,
    request: Request,
    ports: Ports,
    chosen: Candidate,
    described: Mapping[str, Any],
    cancelled: threading.Event,
) -> Activation:
    engine = chosen.engine
    assert engine is not None  # noqa: S101 - model_json raises
    current = ports.releases.current()
    check = release_check(config, ports.jobs, cancelled)
    if current is not None and ports.releases.identity(current) == described["identity"]:
        try:
            check(current)
        except QuantdError as error:
            if error.code == "canceled":
                raise
            _LOG.warning("release_damaged release=%s %s", current, error.message)
        else:
            return Activation(state="unchanged", release=current, previous=None, detail=_UNTOUCHED)
    # A run in steps chooses again where the configuration has changed; never into `current`.
    name = request.run_id if request.run_id != current else f"{request.run_id}-2"
    files: dict[str, bytes | str] = {
        engine.file: str(Path(ports.store.directory(engine.digest), engine.file)),
        "model.json": json.dumps({**described, "release": name}, indent=2).encode(),
    }
    ports.releases.create(name, files)
    return switch(
        name,
        config.activation,
        run_id=request.run_id,
        releases=ports.releases,
        run=ports.run_command,
        check=check,
        cancelled=cancelled,
    )


def _publish(
    config: Config,
    request: Request,
    ports: Ports,
    outcome: Outcome,
    report: Report,
    cancelled: threading.Event,
) -> None:
    """Write report.json and report.html of the run, and put the report into its release.

    The page comes last: if it fails, the activation and report.json still stand.
    """
    body = encode(report)
    ports.write(request.run_id, "report.json", body)
    release = report.activation.release
    if report.activation.state == "active" and release in ports.releases.ids():
        ports.releases.add(release, "report.json", body)
    spec = RenderPage(
        config=config,
        report=report,
        calibration=outcome.calibration.digest,
        traces=outcome.traces,
        sketches_ms={c.id: c.measurement.sketch_ms for c in outcome.candidates if c.measurement},
        scenes=scenes(config, ports.jobs, outcome, report.choice.candidate, cancelled),
    )
    try:
        page = ports.jobs.run(spec, progress=lambda *_: None, cancelled=cancelled)
    except JobError as error:
        _LOG.error("page_failed code=%s %s", error.code, error.message)
        return
    ports.write(request.run_id, "report.html", page.encode())
