"""The daemon's pure step: whatever happens in whatever order, one job at a time, all answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.command import Command, CommandId, Stage, may_follow
from agent.core.control.effects import (
    Answer,
    Begin,
    Cancel,
    Close,
    Exit,
    PublishEvent,
    PublishReport,
    PublishState,
    PublishTelemetry,
    Reach,
)
from agent.core.control.events import (
    Asked,
    Doubted,
    Due,
    Ended,
    Offline,
    Online,
    Outdated,
    Progressed,
    Resume,
    Stop,
    Tick,
    Work,
)
from agent.core.control.requests import (
    Activate,
    CancelWork,
    Expect,
    Optimize,
    Ping,
    Request,
    ResendMessages,
    RollBack,
    Task,
)
from agent.core.control.step import QUEUE_LIMIT, State, step

REQUESTS: tuple[Request, ...] = (
    Optimize(), Activate(release="r7"), RollBack(), CancelWork(), ResendMessages(), Ping()
)  # fmt: skip


def ask(number: int, request: Request = REQUESTS[0]) -> Asked:
    return Asked(Command(id=CommandId(f"c{number}"), request=request), f"r{number}", number)


def stages(effects: object, command: str) -> list[Stage]:
    return [e.stage for e in effects if isinstance(e, Answer) and e.command_id == command]


@pytest.mark.parametrize("running", [None, Work(task=RollBack(), run_id="r", trigger="t")])
def test_a_ping_is_answered_with_the_status_and_begins_nothing(running: Work | None) -> None:
    before = State(online=True, running=running)
    state, effects = step(before, ask(1, Ping()))
    assert state == before
    assert effects == (
        Answer("c1", Stage.ACCEPTED),
        Answer("c1", Stage.SUCCEEDED, detail=before.status),
    )


def test_every_request_is_tried_here() -> None:
    assert {type(request) for request in REQUESTS} == set(get_args(Request))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.command)
def test_each_request_is_answered_and_a_task_begun(request_: Request) -> None:
    _, effects = step(State(), ask(1, request_))
    begun = [one.work.task for one in effects if isinstance(one, Begin)]
    assert begun == ([request_] if isinstance(request_, Task) else [])
    assert stages(effects, "c1")


def test_a_request_without_a_branch_is_no_rollback() -> None:
    with pytest.raises(AssertionError, match="frobnicate"):
        step(State(), ask(1, "frobnicate"))  # type: ignore[arg-type]


def test_a_run_from_accepted_to_its_end() -> None:
    state, effects = step(State(), ask(1))
    assert stages(effects, "c1") == [Stage.ACCEPTED, Stage.IN_PROGRESS]
    assert any(isinstance(e, Begin) and e.work.kind == "optimize" for e in effects)
    state, effects = step(state, Progressed("r1", "capture", 5, 10, "kept 3", 6_000_000_000))
    (told,) = [e for e in effects if isinstance(e, Answer)]
    assert (told.step, told.percent, told.detail) == ("capture", 50.0, "kept 3")
    state, effects = step(state, Ended("r1", Stage.SUCCEEDED, result="runs/r1"))
    assert stages(effects, "c1") == [Stage.SUCCEEDED]
    assert PublishReport("r1") in effects
    assert Close("r1", "succeeded") in effects
    assert state.running is None


def test_a_scheduled_run_begins_where_nothing_runs_and_is_left_out_where_something_does() -> None:
    state, effects = step(State(), Due("r1"))
    (begin,) = [e for e in effects if isinstance(e, Begin)]
    assert (begin.work.run_id, begin.work.trigger, begin.work.command_id) == (
        "r1",
        "schedule",
        None,
    )
    assert step(state, Due("r2")) == (state, ())
    assert step(State(stopping=True), Due("r3")) == (State(stopping=True), ())


def test_progress_is_reported_at_most_every_five_seconds_but_every_stage_is() -> None:
    state, _ = step(State(), ask(1))
    told = Counter()
    for second in range(60):
        stage = "capture" if second < 30 else "measure"
        state, effects = step(
            state, Progressed("r1", stage, second, 60, "", (second + 1) * 1_000_000_000)
        )
        told[stage] += sum(isinstance(e, Answer) for e in effects)
    assert 0 < told["capture"] <= 7
    assert 0 < told["measure"] <= 7


def test_what_is_asked_meanwhile_waits_and_too_much_is_busy() -> None:
    state, _ = step(State(), ask(0))
    for number in range(1, QUEUE_LIMIT + 1):
        state, effects = step(state, ask(number))
        assert stages(effects, f"c{number}") == [Stage.ACCEPTED, Stage.QUEUED]
    state, effects = step(state, ask(99))
    (answer,) = [e for e in effects if isinstance(e, Answer)]
    assert (answer.stage, answer.code) == (Stage.REJECTED, "busy")
    state, effects = step(state, Ended("r0", Stage.FAILED))
    assert stages(effects, "c1") == [Stage.IN_PROGRESS]


def test_cancel_ends_what_runs_or_takes_out_what_waits() -> None:
    state, _ = step(State(), ask(1))
    state, _ = step(state, ask(2))
    state, effects = step(state, ask(3, CancelWork(target="c2")))
    assert stages(effects, "c2") == [Stage.CANCELED]
    assert state.queue == ()
    state, effects = step(state, ask(4, CancelWork()))
    assert any(isinstance(e, Cancel) for e in effects)
    state, effects = step(state, Ended("r1", Stage.CANCELED, "canceled"))
    assert stages(effects, "c1") == [Stage.CANCELED]


def test_cancel_of_nothing_is_rejected_with_a_reason() -> None:
    _, effects = step(State(), ask(1, CancelWork()))
    (answer,) = [e for e in effects if isinstance(e, Answer)]
    assert answer.stage is Stage.REJECTED
    assert "nothing is running" in answer.detail


def test_a_stop_keeps_the_run_to_be_resumed() -> None:
    state, _ = step(State(), ask(1))
    state, effects = step(state, Stop())
    assert any(isinstance(e, Cancel) for e in effects)
    assert not any(isinstance(e, Exit) for e in effects)
    state, effects = step(state, Ended("r1", Stage.CANCELED))
    assert effects == (Exit(),)  # not closed, not answered: it goes on at the next start


@pytest.mark.parametrize("end", [Stage.SUCCEEDED, Stage.FAILED, Stage.ROLLED_BACK])
def test_an_end_that_comes_while_stopping_is_an_end(end: Stage) -> None:
    state, _ = step(State(), ask(1, RollBack()))
    state, _ = step(state, ask(2))
    state, _ = step(state, Stop())
    state, effects = step(state, Ended("r1", end, detail="what came of it"))
    assert Close("r1", end.value.lower()) in effects
    assert PublishReport("r1") in effects
    assert Answer("c1", end, detail="what came of it") in effects
    assert effects[-1] == Exit()
    assert not any(isinstance(e, Begin) for e in effects)  # c2 goes on at the next start


def test_a_run_cancelled_by_a_command_is_not_taken_up_after_a_stop() -> None:
    state, _ = step(State(), ask(1))
    state, effects = step(state, ask(2, CancelWork()))
    assert Cancel("r1", final=True) in effects
    state, effects = step(state, Stop())
    assert Cancel("r1", final=False) not in effects
    _, effects = step(state, Ended("r1", Stage.CANCELED, "canceled"))
    assert stages(effects, "c1") == [Stage.CANCELED]
    assert effects[-1] == Exit()


def test_each_stage_of_a_run_is_recorded_once() -> None:
    state, _ = step(State(), ask(1))
    reached = []
    for second, stage in enumerate(("capture", "capture", "build", "build")):
        state, effects = step(state, Progressed("r1", stage, 1, 2, "", second))
        reached += [e for e in effects if isinstance(e, Reach)]
    assert reached == [Reach("r1", "capture"), Reach("r1", "build")]


CHANGING = (
    Optimize(expect=Expect(release="r1")),
    Activate(release="r7", expect=Expect(release="r1")),
    RollBack(expect=Expect(release="r1")),
    CancelWork(expect=Expect(release="r1")),
)


@pytest.mark.parametrize("request_", CHANGING, ids=lambda request: request.command)
@pytest.mark.parametrize("active", ["r2", None])
def test_a_command_that_expects_another_release_is_refused_with_both_ids(
    request_: Request, active: str | None
) -> None:
    before = State(running=Work(task=Optimize(), run_id="r0", trigger="t"))
    state, effects = step(before, replace(ask(1, request_), active=active))
    (answer,) = effects
    assert state == before
    assert isinstance(answer, Answer)
    assert (answer.stage, answer.code) == (Stage.REJECTED, "stale_precondition")
    assert answer.detail == f"{active or 'no release'} is active, the command expects r1"


@pytest.mark.parametrize("request_", CHANGING, ids=lambda request: request.command)
def test_a_command_whose_expectation_is_met_is_carried_out(request_: Request) -> None:
    running = State(running=Work(task=Optimize(), run_id="r0", trigger="t"))
    _, effects = step(running, replace(ask(1, request_), active="r1"))
    assert stages(effects, "c1")[0] is Stage.ACCEPTED


def test_no_release_can_be_expected() -> None:
    asked = ask(1, Activate(release="r7", expect=Expect(release=None)))
    _, effects = step(State(), asked)
    assert stages(effects, "c1")[0] is Stage.ACCEPTED
    _, effects = step(State(), replace(asked, active="r1"))
    assert stages(effects, "c1") == [Stage.REJECTED]


def test_what_was_accepted_before_a_restart_is_not_refused_after_it() -> None:
    """REJECTED can't follow QUEUED; what it expects is judged once more when it begins."""
    state = State(running=Work(task=Optimize(), run_id="r", trigger="t"))
    for number in range(QUEUE_LIMIT + 3):
        asked = replace(ask(number, CHANGING[2]), active="r9", accepted=True)
        state, effects = step(state, asked)
        assert stages(effects, f"c{number}") == [Stage.QUEUED]


def test_an_idle_daemon_stops_at_once() -> None:
    _, effects = step(State(), Stop())
    assert effects == (Exit(),)


def test_a_connection_publishes_state_and_meta() -> None:
    state, effects = step(State(), Online())
    assert PublishState(with_meta=True) in effects
    assert state.status == "idle, online"
    state, _ = step(state, Offline("gone"))
    assert state.status == "idle, offline"


def test_telemetry_comes_once_a_minute() -> None:
    state = State()
    sent = 0
    for second in range(1, 301):
        state, effects = step(state, Tick(second * 1_000_000_000))
        sent += sum(isinstance(e, PublishTelemetry) for e in effects)
    assert sent == 5


events = st.one_of(
    st.builds(ask, st.integers(0, 9), st.sampled_from(REQUESTS)),
    st.builds(Online),
    st.builds(Offline, st.just("lost")),
    st.builds(
        Progressed,
        st.sampled_from([f"r{n}" for n in range(10)]),
        st.sampled_from(["capture", "measure"]),
        st.integers(0, 10),
        st.integers(0, 10),
        st.just(""),
        st.integers(0, 10**12),
    ),
    st.builds(
        Ended,
        st.sampled_from([f"r{n}" for n in range(10)]),
        st.sampled_from([Stage.SUCCEEDED, Stage.FAILED, Stage.CANCELED, Stage.TIMED_OUT]),
    ),
    st.builds(Tick, st.integers(0, 10**12)),
)


@given(st.lists(events, max_size=60))
def test_any_order_of_events_keeps_the_promises(happened: list) -> None:
    state = State()
    stage: dict[str, Stage] = {}
    running: str | None = None
    seen: set[str] = set()
    for event in happened:
        if isinstance(event, Asked):  # the inbox lets an id through once
            if event.command.id in seen:
                continue
            seen.add(event.command.id)
            stage[event.command.id] = Stage.RECEIVED
        state, effects = step(state, event)
        for effect in effects:
            if isinstance(effect, Close) and effect.run_id == running:
                running = None
            if isinstance(effect, Begin):
                assert running is None, "two jobs at a time"
                running = effect.work.run_id
            if isinstance(effect, Answer):
                assert may_follow(stage[effect.command_id], effect.stage), (
                    stage[effect.command_id],
                    effect.stage,
                )
                stage[effect.command_id] = effect.stage
        assert len(state.queue) <= QUEUE_LIMIT
        assert (state.running.run_id if state.running else None) == running
    waiting = {work.command_id for work in state.queue}
    waiting |= {state.running.command_id} if state.running else set()
    for command, last in stage.items():
        assert last.final or command in waiting, f"{command} is never answered"


def outdated(*works: Work) -> Outdated:
    return Outdated(kind="release_outdated", severity="warning", facts={"a": 1}, works=works)


def test_an_outdated_release_is_reported_and_rebuilt_after_what_runs() -> None:
    back = Work(task=RollBack(), run_id="b", trigger="upgrade")
    again = Work(task=Optimize(), run_id="o", trigger="upgrade")
    state, effects = step(State(), outdated(back, again))
    assert effects[0] == PublishEvent("release_outdated", "warning", {"a": 1})
    assert [e.work for e in effects if isinstance(e, Begin)] == [back]
    assert (state.running, state.queue) == (back, (again,))
    busy, _ = step(State(), ask(1))
    state, effects = step(busy, outdated(again))
    assert not [e for e in effects if isinstance(e, Begin)]
    state, effects = step(state, Ended("r1", Stage.SUCCEEDED))
    assert state.running == again


def test_what_is_found_while_stopping_is_left_to_the_next_start() -> None:
    work = Work(task=Optimize(), run_id="o", trigger="upgrade")
    state, effects = step(State(stopping=True), outdated(work))
    assert (state.running, state.queue) == (None, ())
    assert len(effects) == 1


def test_a_rebuild_that_a_restart_took_up_is_not_begun_a_second_time() -> None:
    taken_up = Work(task=Optimize(), run_id="o", trigger="upgrade", attempt=2)
    state, _ = step(State(), Resume(taken_up))
    again = Work(task=Optimize(), run_id="p", trigger="upgrade")
    state, effects = step(state, outdated(again))
    assert (state.running, state.queue) == (taken_up, ())
    assert len(effects) == 1


def test_a_doubtful_input_is_an_event_while_its_run_goes_on() -> None:
    doubted = Doubted("r1", "FP32 finds nothing in 32 frames")
    state, _ = step(State(), ask(1))
    after, effects = step(state, doubted)
    facts = {"run_id": "r1", "detail": "FP32 finds nothing in 32 frames"}
    assert effects == (PublishEvent("input_doubtful", "warning", facts),)
    assert after == state
    assert step(State(), doubted) == (State(), ())
