"""What changed against the release that was active before a run.

Reports of releases are as in report.json; keys that an earlier version did not write may be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.core.records import Candidate, Latency
from agent.core.report.figures import at
from agent.core.report.metrics import MODEL_METRICS, Metric, Row, number, reported_row
from agent.core.report.speedup import Speedup, apart, over, unknown

_MACHINE = ("board", "cpu", "gpu")
_OTHER_MODEL = "it is of another model file"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRelease:
    """The release that was active before.

    Attributes:
        candidate: Its id; "" if it is not known.
        report: Of the run that made it; empty if it has none.
    """

    release: str
    candidate: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure of the release before and of the chosen candidate.

    Attributes:
        before: None if it is unknown, or can't be compared with the present one.
        reason: Why one of both is None; else "".
    """

    before: float | None
    now: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The chosen candidate against the release before.

    Attributes:
        candidate: That of the release; "" if it is not known.
        measured: When, RFC 3339 in UTC; "" if it is not known.
        same_run: True if this run measured the engine of that release, too.
        speedup: Of the chosen candidate over it.
        figures: By the names that telemetry has for them.
    """

    release: str
    candidate: str
    precision: str
    measured: str
    same_run: bool
    speedup: Speedup
    figures: Mapping[str, Change]


def compare(
    previous: PreviousRelease,
    chosen: Candidate,
    candidates: Sequence[Candidate],
    report: Mapping[str, Any],
) -> Comparison:
    """Return what changed against the release before.

    Its figures are those of this run, if the same engine is a candidate of it; else those that were
    measured when it was made, as far as machine, power mode and batch are the same.

    Args:
        previous: The release.
        chosen: The candidate that this run chose.
        candidates: All of this run.
        report: Of this run: model, environment, candidates.
    """
    now = reported_row(report, chosen.id)
    then = reported_row(previous.report, previous.candidate)
    again = _again(then, candidates)
    mine = reported_row(report, again.id) if again else then
    of_its = report if again else previous.report
    different = _different(of_its, mine, report, now) if mine else _unreported(previous)
    if again:
        speedup = over(chosen, again)
    elif different:
        speedup = unknown(different)
    else:
        speedup = _apart(previous, then, chosen)
    return Comparison(
        release=previous.release,
        candidate=previous.candidate,
        precision=str(at(then, "precision") or ""),
        measured=str(at(of_its, "finished") or ""),
        same_run=again is not None,
        speedup=speedup,
        figures={
            name: _change(
                MODEL_METRICS[name], mine, now, different or differs(of_its, mine, report, now)
            )
            for name, differs in _FIGURES.items()
        },
    )


def _again(then: Row, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate of this run with the very engine, in the same power mode."""
    digest, mode = at(then, "engine.digest"), at(then, "power_mode")
    found = (
        one
        for one in candidates
        if one.engine and one.engine.file_digest == digest and one.power_mode == mode
    )
    return next((one for one in found if one.measurement), None)


def _unreported(previous: PreviousRelease) -> str:
    return f"release {previous.release} has no report with its figures"


def _different(before: Mapping[str, Any], then: Row, report: Mapping[str, Any], now: Row) -> str:
    """Return which condition of the two measurements differs; empty if none does."""
    for key in _MACHINE:
        seen, here = at(before, f"environment.{key}"), at(report, f"environment.{key}")
        if seen and here and seen != here:
            return f"it was measured on another machine ({key} {seen}, now {here})"
    modes = [
        at(row, "power_mode") or at(of, "environment.power_mode")
        for of, row in ((before, then), (report, now))
    ]
    if modes[0] != modes[1]:
        return f"it was measured in power mode {modes[0]}, now {modes[1]}"
    if at(then, "batch") != at(now, "batch"):
        return f"it takes a batch of {at(then, 'batch')}, now {at(now, 'batch')}"
    return ""


def _apart(previous: PreviousRelease, then: Row, chosen: Candidate) -> Speedup:
    """Return the speed-up over figures of an earlier run."""
    p50, span = number(then, "measured.latency_ms.p50"), at(then, "measured.latency_ms.ci95_p50")
    if p50 is None or chosen.measurement is None:
        return unknown("its latency is not known", over=previous.candidate)
    its = Latency(
        p50=p50,
        p90=p50,
        p99=p50,
        ci95_p50=(span[0], span[1]) if span else None,
        ci95_p99=None,
        ci95_reason=str(at(then, "measured.latency_ms.ci95_reason") or ""),
    )
    return apart(previous.candidate, chosen.measurement.latency_ms, its)


def _power_differs(_: Mapping[str, Any], then: Row, __: Mapping[str, Any], now: Row) -> str:
    rates = [at(row, "load.rate_fps") for row in (then, now)]
    if rates[0] != rates[1]:
        before, present = (f"at {rate:g} FPS" if rate else "flat out" for rate in rates)
        return f"its power was measured {before}, now {present}"
    for key in ("rail", "source"):
        seen, here = (at(row, f"load.power_w.{key}") for row in (then, now))
        if seen and here and seen != here:
            return f"its power was of {seen}, now of {here}"
    return ""


def _fidelity_differs(
    before: Mapping[str, Any], then: Row, report: Mapping[str, Any], now: Row
) -> str:
    if at(before, "model.sha256") != at(report, "model.sha256"):
        return _OTHER_MODEL
    seen, here = (next(iter(at(row, "fidelity.task") or ()), "") for row in (then, now))
    if seen and here and seen != here:
        return f"its agreement was {seen}, now {here}"
    return ""


_Differs = Callable[[Mapping[str, Any], Row, Mapping[str, Any], Row], str]
# What must be alike for a figure, beside the conditions of all. INT8's share is no figure of a run.
_FIGURES: dict[str, _Differs] = {
    name: lambda *_: "" for name in MODEL_METRICS if name != "int8_macs_fraction"
} | {
    "power_w": _power_differs,
    "energy_j": _power_differs,
    "sqnr_db": _fidelity_differs,
    "agreement": _fidelity_differs,
}


def _change(figure: Metric, then: Row, now: Row, different: str) -> Change:
    before, present = number(then, figure.place), number(now, figure.place)
    if different:
        return Change(before=None, now=present, reason=different)
    reason = ""
    if before is None or present is None:
        missing, when = (now, "now") if present is None else (then, "before")
        reason = f"{when}: {(figure.reason and at(missing, figure.reason)) or 'it is not known'}"
    return Change(before=before, now=present, reason=reason)
