"""What devices send, the hostile ones included."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.command import Stage
from agent.core.control.ulid import Ulids, ulid_bytes, ulid_text
from agent.core.fleet.messages import FIGURES, Quarantined, Received
from agent.core.report.metrics import MODEL_METRICS
from agent.fleet.intake import Intake
from agent.wire import messages as wire
from tests.support.fleet_messages import NOW_MS

DAY_MS = 86_400_000
_REPORTS = Path(__file__).parents[1] / "core" / "report" / "golden"


def _stamp(at_ms=NOW_MS, **changes):
    made = {
        "id": Ulids().next(at_ms),
        "dev": "cam-1",
        "ts": "2026-11-28T12:00:00.000Z",
        "mono_ms": 5,
        "boot": "b",
        "sess": 3,
        "seq": 8,
        "clock_ok": True,
    }
    return made | changes


def _take(kind, body, device="cam-1", **details):
    payload = body if isinstance(body, bytes) else wire.encode(body)
    return Intake("quantd").take(f"quantd/v1/{device}/{kind}".encode(), payload, NOW_MS, **details)


def _refused(kind, body, **details):
    found = _take(kind, body, **details)
    assert isinstance(found, Quarantined), found
    return found


def _event(facts="{}", **changes):
    body = json.dumps(_stamp(**changes) | {"v": 2, "kind": "x", "severity": "info", "facts": 0})
    return body.replace('"facts": 0', f'"facts": {facts}').encode()


def _telemetry(figures, **changes):
    return json.dumps(_stamp(**changes) | {"v": 2, "m": figures}).encode()


def _report(name):
    return json.loads((_REPORTS / f"{name}.json").read_text())


def test_figures_with_columns_are_those_of_telemetry():
    assert set(FIGURES) <= set(MODEL_METRICS)


def test_telemetry_is_taken_with_its_figures():
    found = _take("telemetry", _telemetry({"power_w": 7, "temp_c": None, "latency_p50_ms": 4.5}))
    assert isinstance(found, Received)
    assert found.order == (3, 0, 8)
    assert found.at_ms == found.received_ms == NOW_MS
    assert dict(zip(FIGURES, found.body.known, strict=True))["power_w"] == 7
    assert json.loads(found.body.figures) == {"power_w": 7, "temp_c": None, "latency_p50_ms": 4.5}


def test_state_is_taken_with_the_release_and_the_job():
    active = wire.Active(release="r-1", model="faces", precision="int8")
    job = wire.Job(run_id="run", kind="reoptimize", pct=5.0)
    state = wire.State(**_stamp(), status="online", agent="1", active=active, job=job)
    found = _take("state", state).body
    assert (found.release, found.model, found.precision) == ("r-1", "faces", "int8")
    assert json.loads(found.job)["pct"] == 5


def test_a_last_will_comes_after_all_of_its_session():
    will = wire.State(**_stamp(seq=0), status="offline", agent="1", will=True)
    assert (
        _take("state", will).order
        > _take("state", wire.State(**_stamp(), status="online", agent="1")).order
    )


def test_releases_name_the_newest_good_one_and_whether_the_active_is_pinned():
    listed = (
        wire.Release(id="r-3", good=False),
        wire.Release(id="r-2", good=True),
        wire.Release(id="r-1", good=True, pinned=True),
    )
    message = wire.Releases(**_stamp(), active="r-1", releases=listed, total=3)
    found = _take("releases", message).body
    assert (found.newest, found.pinned) == ("r-2", True)


def test_an_answer_is_taken_with_its_reason():
    reason = wire.Reason(code="busy", detail="a run")
    message = wire.Result(**_stamp(), cmd_id="c-1", stage=Stage.REJECTED, version=2, reason=reason)
    found = _take("res/c-1", message).body
    assert (found.command, found.stage, found.code) == ("c-1", "REJECTED", "busy")
    assert "topic to c-2" in _refused("res/c-2", message).why


def test_a_report_is_taken_with_what_tables_show():
    report = _report("chosen")
    found = _take("report/faces", wire.Report(**_stamp(), model="faces", report=report)).body
    figures = dict(zip(FIGURES, found.known, strict=True))
    assert found.candidate == report["choice"]["candidate"]
    assert figures["latency_p50_ms"] > 0
    assert found.trouble == ""
    assert (
        "topic on doors"
        in _refused("report/doors", wire.Report(**_stamp(), model="faces", report=report)).why
    )


def test_a_report_without_a_choice_is_trouble():
    report = _report("infeasible")
    found = _take("report/faces", wire.Report(**_stamp(), model="faces", report=report)).body
    assert "no candidate keeps all limits" in found.trouble


@pytest.mark.parametrize(
    "report", [{"choice": 5}, {"candidates": [1], "choice": {"candidate": "x"}}]
)
def test_a_report_of_other_types_is_stored_with_nothing_known(report):
    found = _take("report/faces", wire.Report(**_stamp(), model="faces", report=report)).body
    assert found.known == (None,) * len(FIGURES)


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        ("event", _event('{"a": "b\\u0000"}'), "NUL"),
        ("event", _event('{"a\\u0000": 1}'), "NUL"),
        ("event", _event('{"a": "\\ud800"}'), "surrogate|truncated|malformed"),
        ("event", b"\xff\xfe", "UTF-8|malformed"),
        ("event", b"", "truncated|malformed"),
        ("event", b"[" * 100_000, "bytes"),
        ("event", _event('{"a": ' + "[" * 20_000 + "]" * 20_000 + "}"), "deep"),
        ("event", _event("[" * 100_000 + "]" * 100_000), "bytes"),
        ("event", _event('{"a": ' + "[" * 500 + "]" * 500 + "}"), "deep"),
        ("event", _event('{"a": "' + "x" * 200_000 + '"}'), "bytes"),
        ("event", _event(seq=2**63), "seq"),
        ("event", _event(seq=2**53), "seq"),
        ("event", _event(sess=-1), "sess"),
        ("event", _event(ts="yesterday"), "ts"),
        ("event", _event(ts="9999999-01-01T00:00:00Z"), "ts"),
        ("event", _event(id="x"), "id"),
        ("event", _event(at_ms=NOW_MS + 2 * DAY_MS), "48 h from now"),
        ("event", _event(at_ms=NOW_MS - 31 * DAY_MS, clock_ok=False), "ago, by a clock"),
        ("event", _event(id="7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), "from now"),
        ("event", _event(dev="cam-2"), "of cam-2, its topic of cam-1"),
        ("telemetry", _telemetry({f"m{n}": 1 for n in range(8000)}), "bytes|length"),
        ("telemetry", _telemetry({f"m{n}": 1 for n in range(65)}), "length"),
        ("telemetry", _telemetry({"Evil{x=}": 1}), "Evil"),
        ("telemetry", _telemetry({"m" * 41: 1}), "lower case"),
        ("telemetry", _telemetry({"a": 1}, ts="now"), "ts"),
        ("telemetry", _telemetry({"a": 1}, dev="cam-2"), "of cam-2"),
        ("telemetry", _telemetry({"a": 1}, seq=2**53), "seq"),
        ("telemetry", _telemetry({"a": "text"}), "str"),
        ("telemetry", _telemetry({"a": 2**63}), "m"),
        ("telemetry", _telemetry({"a": 1}, at_ms=NOW_MS - 3 * DAY_MS), "72 h ago"),
        ("telemetry", b'{"m": {"a": 1e999}}', "range|number|required"),
    ],
)  # fmt: skip
def test_what_a_database_may_refuse_is_refused_here(kind, body, why):
    found = _refused(kind, body)
    assert re.search(why, found.why), found.why
    assert (found.device, found.size, len(found.head)) == ("cam-1", len(body), min(len(body), 4096))


def test_a_backslash_before_a_u_is_no_nul():
    found = _take("event", _event('{"path": "C:\\\\u0000"}'))
    assert isinstance(found, Received)


@pytest.mark.parametrize(
    "topic",
    ["other/v1/cam-1/event", "quantd/v1/cam-1/cmd/x", "quantd/v1/cam-1", "quantd/v1//event",
     "quantd/v1/cam-1/event/x", "quantd/v1/cam-1/report", "quantd/v1/cam-1/report/a/b",
     "quantd/v1/c\0m/event", "quantd/v1/" + "c" * 65 + "/event"],
)  # fmt: skip
def test_a_topic_of_no_device_is_refused(topic):
    found = Intake("quantd").take(topic.encode(), _event(), NOW_MS)
    assert isinstance(found, Quarantined)
    assert found.device == ""
    assert "\0" not in found.topic


def test_a_topic_that_is_no_text_is_refused():
    assert isinstance(Intake("quantd").take(b"quantd/v1/\xff/event", b"", NOW_MS), Quarantined)


def test_state_from_a_device_in_1970_is_taken_at_our_time():
    state = wire.State(**_stamp(at_ms=5, clock_ok=False), status="online", agent="1")
    assert _take("state", state).at_ms == NOW_MS


def test_what_the_broker_kept_is_no_sign_of_life_now():
    old = NOW_MS - DAY_MS
    state = wire.State(**_stamp(at_ms=old), status="online", agent="1")
    assert _take("state", state, retained=True).received_ms == old
    assert _take("state", state).received_ms == NOW_MS


@given(st.integers(0, 2**128 - 1))
def test_an_id_survives_its_way_through_the_database(number):
    body = number.to_bytes(16, "big")
    assert ulid_bytes(ulid_text(body)) == body


@given(st.binary(max_size=80), st.sampled_from(["event", "state", "meta", "telemetry", "res/a"]))
def test_no_bytes_raise(body, kind):
    assert isinstance(_take(kind, body), Quarantined)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_whatever_is_taken_can_be_written_as_utf8_without_nul(facts):
    body = msgspec.json.encode({"a": facts}) if not _too_large(facts) else b"{}"
    found = _take("event", _event(body.decode()))
    if isinstance(found, Received):
        assert "\0" not in found.body.facts
        assert "\\u0000" not in found.body.facts.replace("\\\\", "")
        found.body.facts.encode()


def _too_large(value):
    if isinstance(value, dict):
        return any(map(_too_large, value.values()))
    if isinstance(value, list):
        return any(map(_too_large, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64
