"""The whole report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from agent.core.records import (
    Activation,
    CalibrationSet,
    Candidate,
    Choice,
    CleanModel,
    Decision,
    Floor,
    Model,
    Rejected,
    Statistics,
)
from agent.core.report.candidates import CandidateReport, candidate_report, reported
from agent.core.report.change import Comparison, PreviousRelease, compare
from agent.core.report.headline import headline
from agent.core.report.model_input import InputReport
from agent.core.report.speedup import Speedup, over_baseline

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """Where the frames came from, and how many were kept and rejected.

    Attributes:
        captured: When, RFC 3339 in UTC; "" if an earlier version stored them.
        distinct: How many of all frames differ by more than noise: fewer if the scene was
            still. None if an earlier version stored them.
        reused: True if they are those of an earlier run.
        statistics: Digest of what the INT8 scales were found with; None without INT8.
        conditioned: Digest of the graph that the statistics belong to.
        scale_frames: Frames behind the INT8 scales, those of earlier captures included.
        scale_captures: How many captures these come from; 0 where nothing was calibrated.
        not_extended: Why the statistics were not added to earlier ones, though asked.
    """

    source: str
    synthetic: bool
    frames: int
    holdout: int
    digest: str
    seen: int
    lost: int
    rejected: Rejected
    captured: str = ""
    distinct: int | None = None
    reused: bool = False
    statistics: str | None = None
    conditioned: str | None = None
    scale_frames: int = 0
    scale_captures: int = 0
    not_extended: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole document.

    Attributes:
        headline: The answer in one sentence.
        warnings: What was doubtful before the search began: how pixels are fed, what FP32 finds.
        input: As an application must feed it.
        conditioning: What was tried to make the model easier to quantize, in words.
        limits: Those in effect.
        floor: Which of them is the fidelity floor, also where it was switched off.
        speedup: Of the chosen candidate over FP32.
        against_previous: The chosen candidate against the release that was active before.
        against_previous_reason: Why there is no such comparison; else "".
    """

    schema: int
    run_id: str
    headline: str
    warnings: tuple[str, ...]
    device: str
    model: Model
    input: InputReport
    trigger: str
    started: str
    finished: str
    environment: Mapping[str, str | int | float | None]
    calibration: CalibrationReport
    conditioning: tuple[str, ...]
    limits: Mapping[str, float]
    floor: Floor | None
    candidates: tuple[CandidateReport, ...]
    choice: Decision
    speedup: Speedup
    against_previous: Comparison | None
    against_previous_reason: str
    activation: Activation
    timings_s: Mapping[str, float]


def compose(  # noqa: PLR0913 - one argument a record of the chain
    *,
    run_id: str,
    device: str,
    trigger: str,
    started: str,
    finished: str,
    environment: Mapping[str, str | int | float | None],
    model: CleanModel,
    warnings: Sequence[str] = (),
    fed: InputReport,
    calibration: CalibrationSet,
    reused: bool = False,
    statistics: Statistics | None = None,
    not_extended: str = "",
    conditioning: Sequence[str],
    limits: Mapping[str, float],
    floor: Floor | None = None,
    candidates: Sequence[Candidate],
    choice: Choice,
    activation: Activation,
    previous: PreviousRelease | None = None,
    timings_s: Mapping[str, float],
) -> Report:
    """Put a finished run's records into its report.

    `previous` is the release that was active before the run; None if there was none.
    """
    by_id = {one.id: one for one in candidates}
    rows = {one.id: candidate_report(one, choice, by_id) for one in candidates}
    chosen = by_id.get(choice.candidate or "")
    speedup = over_baseline(chosen, candidates)
    report = Report(
        schema=SCHEMA,
        run_id=run_id,
        headline=headline(choice, activation, speedup, rows, floor),
        warnings=tuple(warnings),
        device=device,
        model=reported(Model, model),
        input=fed,
        trigger=trigger,
        started=started,
        finished=finished,
        environment=environment,
        calibration=CalibrationReport(
            source=calibration.source,
            synthetic=calibration.synthetic,
            frames=len(calibration.frames),
            holdout=len(calibration.holdout),
            digest=calibration.digest,
            seen=calibration.seen,
            lost=calibration.lost,
            rejected=calibration.rejected,
            captured=calibration.captured,
            distinct=calibration.distinct,
            reused=reused,
            statistics=statistics.digest if statistics else None,
            conditioned=statistics.model if statistics else None,
            scale_frames=statistics.frames if statistics else 0,
            scale_captures=statistics.captures if statistics else 0,
            not_extended=not_extended,
        ),
        conditioning=tuple(conditioning),
        limits={name: value for name, value in limits.items() if value},
        floor=floor,
        candidates=tuple(rows.values()),
        choice=reported(Decision, choice),
        speedup=speedup,
        against_previous=None,
        against_previous_reason=_incomparable(choice, activation, previous),
        activation=activation,
        timings_s=timings_s,
    )
    if chosen is None or previous is None or report.against_previous_reason:
        return report
    found = compare(previous, chosen, candidates, asdict(report))
    return replace(report, against_previous=found)


def _incomparable(choice: Choice, activation: Activation, previous: PreviousRelease | None) -> str:
    """Return why the choice is not compared with the release before; empty if it is."""
    if choice.candidate is None:
        return "nothing was chosen"
    if activation.state == "unchanged":
        return f"release {activation.release} was active before, too, with the same engine"
    return "" if previous else "no release was active before"
