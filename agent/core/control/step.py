"""What the daemon does next: a pure step from state and event to state and effects.

One job at a time; what is asked meanwhile waits in a short queue, a second request for the
same thing is answered "busy". Nothing here does I/O: the loop performs the effects in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from typing_extensions import assert_never

from agent.core.control.command import CommandId, Rejection, Stage, judge_expectation
from agent.core.control.effects import (
    Answer,
    Begin,
    Cancel,
    Close,
    Effects,
    Exit,
    PublishEvent,
    PublishReport,
    PublishState,
    PublishTelemetry,
    Reach,
    Resend,
)
from agent.core.control.events import (
    Asked,
    Doubted,
    Due,
    Ended,
    Event,
    Offline,
    Online,
    Outdated,
    Progressed,
    Resume,
    Severity,
    Stop,
    Tick,
    Work,
)
from agent.core.control.requests import CancelWork, Optimize, Ping, ResendMessages, Task

QUEUE_LIMIT = 4
PROGRESS_EVERY_NS = 5_000_000_000  # at most one progress message in 5 s per command
TELEMETRY_EVERY_NS = 60_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the daemon knows besides what is on disk."""

    online: bool = False
    stopping: bool = False
    running: Work | None = None
    canceled: bool = False  # what runs, by a command
    queue: tuple[Work, ...] = ()
    stage: str = ""
    percent: float | None = None
    last_progress_ns: int = 0
    last_telemetry_ns: int = 0

    @property
    def status(self) -> str:
        """Return one line for `systemctl status`."""
        link = "online" if self.online else "offline"
        if self.running is None:
            return f"idle, {link}"
        return f"{self.running.kind}: {self.stage or 'starting'}, {link}"


def step(state: State, event: Event) -> tuple[State, Effects]:
    """Return the next state and what is to be done, in order."""
    result: tuple[State, Effects]
    match event:
        case Online() | Offline():
            online = isinstance(event, Online)
            published = (PublishState(with_meta=True),) if online else ()
            result = replace(state, online=online), published
        case Asked():
            result = _asked(state, event)
        case Resume(work=work):
            result = _accept(state, work)
        case Due(run_id=run_id):
            result = _due(state, run_id)
        case Outdated():
            result = _outdated(state, event)
        case Progressed() | Doubted() | Ended():
            result = _worked(state, event)
        case Tick():
            result = _tick(state, event)
        case Stop():
            result = _stop(state)
    return result


def _tick(state: State, event: Tick) -> tuple[State, Effects]:
    if event.now_ns - state.last_telemetry_ns < TELEMETRY_EVERY_NS:
        return state, ()
    return replace(state, last_telemetry_ns=event.now_ns), (PublishTelemetry(),)


def _asked(state: State, event: Asked) -> tuple[State, Effects]:
    answer, request = event.command.id, event.command.request
    if isinstance(request, Task | CancelWork) and not event.accepted:
        stale = judge_expectation(request.expect, event.active)
        if stale is not None:
            return state, (_rejected(answer, stale),)
    if isinstance(request, Task):
        return _work(state, event, request)
    match request:
        case Ping():
            return state, (
                Answer(answer, Stage.ACCEPTED),
                Answer(answer, Stage.SUCCEEDED, detail=state.status),
            )
        case ResendMessages():
            return state, (
                Answer(answer, Stage.ACCEPTED),
                Resend(request),
                Answer(answer, Stage.SUCCEEDED),
            )
        case CancelWork():
            return _cancel(state, answer, request.target)
        case _:
            assert_never(request)


def _work(state: State, event: Asked, task: Task) -> tuple[State, Effects]:
    answer = event.command.id
    work = Work(task=task, run_id=event.run_id, trigger=f"command:{answer}", command_id=answer)
    if event.accepted:
        return _accept(state, work)
    if state.stopping or len(state.queue) >= QUEUE_LIMIT:
        busy = Rejection("busy", f"{len(state.queue)} runs waiting")
        return state, (_rejected(answer, busy),)
    state, effects = _accept(state, work)
    return state, (Answer(answer, Stage.ACCEPTED), *effects)


def _rejected(command: CommandId, why: Rejection) -> Answer:
    return Answer(command, Stage.REJECTED, why.code, why.detail)


def _due(state: State, run_id: str) -> tuple[State, Effects]:
    """Begin a scheduled run, unless one is under way: it would find the same."""
    if state.stopping or state.running is not None:
        return state, ()
    return _begin(state, Work(task=Optimize(), run_id=run_id, trigger="schedule"))


def _outdated(state: State, event: Outdated) -> tuple[State, Effects]:
    """Publish it, and queue the work that repairs it unless the same work runs or waits already."""
    effects: Effects = (PublishEvent(event.kind, event.severity, event.facts),)
    if not state.stopping:
        begun = {(work.kind, work.trigger) for work in (state.running, *state.queue) if work}
        for work in event.works:
            if (work.kind, work.trigger) not in begun:
                state, more = _accept(state, work)
                effects += more
    return state, effects


def _accept(state: State, work: Work) -> tuple[State, Effects]:
    if state.running is not None:
        return replace(state, queue=(*state.queue, work)), _answer(work, Stage.QUEUED)
    return _begin(state, work)


def _answer(
    work: Work,
    stage: Stage,
    code: str = "",
    detail: str = "",
    *,
    step: str = "",
    percent: float | None = None,
    result: str = "",
) -> Effects:
    """Return the answer to the command that asked for the work, none if no command did."""
    if not work.command_id:
        return ()
    return (Answer(work.command_id, stage, code, detail, step, percent, result),)


def _begin(state: State, work: Work) -> tuple[State, Effects]:
    state = replace(state, running=work, stage="", percent=None, last_progress_ns=0)
    facts = {"run_id": work.run_id, "trigger": work.trigger, "attempt": work.attempt}
    return state, (
        Begin(work),
        *_answer(work, Stage.IN_PROGRESS),
        PublishEvent(f"{work.kind}_started", "info", facts),
        PublishState(),
    )


def _cancel(state: State, answer: CommandId, target: str | None) -> tuple[State, Effects]:
    done = (Answer(answer, Stage.ACCEPTED), Answer(answer, Stage.SUCCEEDED))
    running = state.running
    if running is not None and target in {None, "", running.command_id, running.run_id}:
        return replace(state, canceled=True), (*done, Cancel(running.run_id, final=True))
    for work in state.queue:
        if target in {work.command_id, work.run_id}:
            left = tuple(other for other in state.queue if other is not work)
            canceled = (Close(work.run_id, "canceled"), *_answer(work, Stage.CANCELED))
            return replace(state, queue=left), (*done, *canceled)
    seen = f"no run of {target}" if target else "nothing is running"
    return state, (_rejected(answer, Rejection("unsupported", seen)),)


def _worked(state: State, event: Progressed | Doubted | Ended) -> tuple[State, Effects]:
    work = state.running
    if work is None or event.run_id != work.run_id:
        return state, ()
    match event:
        case Progressed():
            return _progressed(state, work, event)
        case Doubted(run_id=run_id, detail=detail):
            facts = {"run_id": run_id, "detail": detail}
            return state, (PublishEvent("input_doubtful", "warning", facts),)
        case Ended():
            return _ended(state, work, event)


def _progressed(state: State, running: Work, event: Progressed) -> tuple[State, Effects]:
    percent = min(100.0, round(100 * event.done / event.total, 1)) if event.total else None
    changed = event.stage != state.stage
    state = replace(state, stage=event.stage, percent=percent)
    due = event.now_ns - state.last_progress_ns >= PROGRESS_EVERY_NS
    if not (changed or due):
        return state, ()
    state = replace(state, last_progress_ns=event.now_ns)
    answer = _answer(
        running, Stage.IN_PROGRESS, detail=event.note, step=event.stage, percent=percent
    )
    reached = (Reach(running.run_id, event.stage), PublishState()) if changed else ()
    return state, (*answer, *reached)


def _ended(state: State, work: Work, event: Ended) -> tuple[State, Effects]:
    interrupted = event.stage is Stage.CANCELED and not state.canceled
    state = replace(state, running=None, canceled=False, stage="", percent=None)
    if state.stopping:
        # What the stop itself cancelled has not ended: the next start takes it up again.
        return state, (Exit(),) if interrupted else (*ended(work, event), Exit())
    effects = ended(work, event)
    if state.queue:
        state, more = _begin(replace(state, queue=state.queue[1:]), state.queue[0])
        return state, (*effects, *more)
    return state, (*effects, PublishState())


def ended(work: Work, event: Ended) -> Effects:
    """Return what an end of work causes: it is recorded, reported and answered."""
    severity: Severity = "info" if event.stage is Stage.SUCCEEDED else "warning"
    facts = {"run_id": work.run_id, "outcome": event.stage.value, "detail": event.detail}
    return (
        Close(work.run_id, event.stage.value.lower()),
        PublishReport(work.run_id),
        *_answer(work, event.stage, event.code, event.detail, result=event.result),
        PublishEvent(f"{work.kind}_ended", severity, facts),
    )


def _stop(state: State) -> tuple[State, Effects]:
    stopping = replace(state, stopping=True)
    if state.running is None:
        return stopping, (Exit(),)
    if state.stopping or state.canceled:
        return stopping, ()
    return stopping, (Cancel(state.running.run_id, final=False),)
