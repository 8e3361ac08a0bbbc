"""What the pages show, in which order, and that what devices send is text on them."""

from __future__ import annotations

import json
import re
from html import unescape
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fleet.devices import ATTENTION
from agent.fleet.console import live
from agent.fleet.console.accounts import Role
from agent.fleet.console.app import app
from agent.fleet.console.fleet import view
from agent.fleet.console.live import Parts, stream
from agent.fleet.console.viewers import MOST
from tests.fleet.console.conftest import PASSWORD
from tests.support.fleet_messages import (
    event,
    inventory,
    received,
    refused,
    report,
    state,
    telemetry,
)
from tests.support.simulated_fleet import NOW_MS, add_history, fill, messages_of, report_json
from tests.support.web import Visitor

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}\u202e"


def names(page: str) -> list[str]:
    """Return the devices of the table, in its order."""
    return re.findall(r'<tr role="row" id="d-([^"]+)"', page)


def test_the_first_page_begins_with_the_devices_that_need_attention(store, viewer):
    fill(store, 120)
    page = viewer.get("/").text
    shown = names(page)
    assert len(shown) == 50
    needs = [one for one in shown if f'id="d-{one}" class="figures needs"' in page]
    assert needs
    assert shown[: len(needs)] == needs
    assert f"{len(needs)} of 120 devices need attention" in page
    assert "the build was killed: too little memory" in page
    order = [ATTENTION.index(one) for one in re.findall(r'<span class="why-(\w+) badge">', page)]
    assert order[0] == 0


def test_pages_filters_and_orders_are_links_and_work_together(store, viewer):
    fill(store, 120)
    page = viewer.get("/?precision=int8&label=site=south&sort=power_w&order=desc").text
    shown = names(page)
    assert shown
    assert all(int(one[4:]) % 3 == 1 for one in shown)
    watts = [float(one) for one in re.findall(r'data-label="power W">([\d.]+)<', page)]
    assert watts == sorted(watts, reverse=True)
    assert 'aria-sort="descending"' in page
    link = re.search(r'href="(/\?[^"]*page=2)"', viewer.get("/?sort=name").text)[1]
    second = viewer.get(unescape(link)).text
    assert names(second) == [f"cam-{n:04}" for n in range(50, 100)]
    assert names(viewer.get("/?q=0099").text) == ["cam-0099"]
    assert "No device is like that" in viewer.get("/?q=nothing").text
    assert names(viewer.get("/?attention=failing").text) == ["cam-0003", "cam-0074"]


def test_an_empty_fleet_says_what_to_do(viewer):
    page = viewer.get("/").text
    assert "No device was heard yet" in page
    assert "[mqtt] host" in page


@given(
    st.dictionaries(
        st.sampled_from(["q", "attention", "sort", "order", "label", "board", "x"]),
        st.text(max_size=40),
    )
)
def test_no_query_is_an_error_and_a_view_is_its_own_link(asked):
    found = view(asked)
    again = view(dict(parse_qsl(urlsplit(found.url()).query, keep_blank_values=True)))
    assert again.query.sort == found.query.sort
    assert again.query.descending == found.query.descending
    assert again.query.attention == found.query.attention


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 30, "%D9%A3", ""])
def test_odd_page_numbers_are_a_page(store, viewer, number):
    fill(store, 3)
    assert viewer.get(f"/?page={number}").status == 200


def test_a_device_is_shown_with_its_reports_events_and_answers(store, viewer):
    fill(store, 3)
    add_history(store)
    page = viewer.get("/devices/cam-0001").text
    assert "as of the report of" in page
    assert page.count("<figure>") == 3
    for text in ("throttled", "c-7", "in progress", "Predicted and measured", "site=south"):
        assert text in page
    assert "report 2 to 9" in page
    assert viewer.get("/devices/none").status == 404


def test_telemetry_comes_as_columns(store, viewer):
    fill(store, 3)
    add_history(store)
    found = json.loads(viewer.get("/devices/cam-0001/telemetry?figure=temp_c&hours=24").body)
    times, values, least, greatest = found["data"]
    assert len(times) == len(values) > 100
    assert list(times) == sorted(times)
    assert all(
        low <= value <= high for low, value, high in zip(least, values, greatest, strict=True)
    )
    nothing = json.loads(viewer.get("/devices/cam-0001/telemetry?figure=%00&hours=x").body)
    assert nothing["data"] == [[], [], [], []]


def test_a_report_is_rendered_here_from_its_json_and_runs_nothing(store, viewer):
    fill(store, 2)
    found = store.reports("cam-0001")[0]
    answer = viewer.get(f"/devices/cam-0001/reports/{found.id}")
    assert answer.status == 200
    assert "Candidates" in answer.text
    assert "script" not in answer.headers["content-security-policy"].replace("default-src", "")
    assert (
        json.loads(viewer.get(f"/devices/cam-0001/reports/{found.id}/report.json").body)["device"]
        == "cam-0001"
    )
    assert viewer.get(f"/devices/cam-0000/reports/{found.id}").status == 404
    for odd in ("x", "0" * 26, "Z" * 26, "0" * 500, "%E2%80%AE"):
        assert viewer.get(f"/devices/cam-0001/reports/{odd}").status == 404


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"schema": 1, "candidates": 3}', b"[" * 5000, b'{"a": "\xff"}', b'{"candidates": [1, null]}'],
)  # fmt: skip
def test_a_report_that_is_none_breaks_no_page(store, viewer, body):
    store.write([received(report(body=body)), received(state())], [])
    found = store.reports("cam-1")[0]
    assert viewer.get(f"/devices/cam-1/reports/{found.id}").status == 422
    assert viewer.get("/devices/cam-1").status == 200


def test_what_devices_send_is_text_on_every_page(store, viewer):
    name = HOSTILE.replace("/", "")  # one level of a topic
    sent = [
        received(inventory(HOSTILE, HOSTILE, site=HOSTILE), name),
        received(state(release=HOSTILE, model=HOSTILE, precision=HOSTILE), name),
        received(event(HOSTILE, "error")._replace(facts=json.dumps({HOSTILE: HOSTILE})), name),
        received(telemetry(json.dumps({HOSTILE: 1})), name),
        received(report(HOSTILE, trouble=HOSTILE), name),
    ]
    store.write(sent, [refused(name, HOSTILE, head=HOSTILE.encode())])
    for path in (
        "/",
        f"/devices/{quote(name)}",
        "/quarantine",
        f"/?q={quote(name)}",
    ):
        answer = viewer.get(path)
        assert "<script>alert" not in answer.text, path
        assert answer.status == 200, path
        assert "{{7*7}}" in answer.text, path
        assert "\u202e" not in answer.text, path


def test_the_quarantine_names_device_topic_and_reason(store, viewer):
    fill(store, 1)
    store.write([], [refused("cam-0000", "year 9999999")])
    page = viewer.get("/quarantine").text
    assert "year 9999999" in page
    assert "/devices/cam-0000" in page
    assert "There is nothing" in viewer.get("/quarantine?device=cam-9").text


# Live ---------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    monkeypatch.setattr(live, "_STREAM_S", 4)


def sent(text: str) -> list[dict[str, str]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_only_what_changed_of_the_rows_that_are_shown_is_sent(store, viewer, quick, monkeypatch):
    fill(store, 3)
    known, looks = store.named, []

    def named(asked, now_ms):
        looks.append(asked)
        if len(looks) == 2:
            change = received(telemetry('{"a": 1}', latency_p50_ms=99.5), "cam-0001", at_ms=NOW_MS)
            store.write([change, received(event(), "cam-0002")], [])
        return known(asked, now_ms)

    monkeypatch.setattr(store, "named", named)
    answer = viewer.get("/live/rows?names=cam-0000,cam-0001")
    assert answer.headers["content-type"].startswith("text/event-stream")
    (one,) = sent(answer.text)
    assert list(one) == ["d-cam-0001"]
    assert "99.5" in one["d-cam-0001"]


def test_a_device_page_is_sent_its_changed_sections(store, viewer, quick, monkeypatch):
    fill(store, 2)
    known, looks = store.device, []

    def device(name, now_ms):
        looks.append(name)
        if len(looks) == 2:
            job = '{"run_id":"r","kind":"optimize","stage":"build","pct":null}'
            store.write(
                [received(state(job=job), name, sess=2), received(event("run_started"), name)], []
            )
        return known(name, now_ms)

    monkeypatch.setattr(store, "device", device)
    found = sent(viewer.get("/live/devices/cam-0001").text)
    assert {"now", "events"} <= {part for one in found for part in one}
    assert any("stage build" in one.get("now", "") for one in found)


def test_there_are_at_most_so_many_viewers(made):
    console = made()

    def look() -> Parts:
        return {}

    answers = [stream(console, look) for _ in range(MOST + 1)]
    assert [one.status_code for one in answers[-2:]] == [200, 503]
    assert console.viewers.count == MOST


@pytest.mark.parametrize("leaves", [False, True])
def test_a_viewer_counts_until_the_stream_ends_or_the_page_is_left(
    leaves, made, accounts, store, quick, monkeypatch
):
    monkeypatch.setattr(live, "EVERY_S", 3600.0 if leaves else 0.0)
    fill(store, 1)
    console, counts = made(), []
    _, session = accounts.use_link(accounts.link("kim", Role.VIEWER), PASSWORD)
    known = store.named
    monkeypatch.setattr(
        store, "named", lambda *asked: counts.append(console.viewers.count) or known(*asked)
    )
    visitor = Visitor(app=app(console), leaves=leaves, cookies={"quantd": session})
    assert visitor.get("/live/rows?names=cam-0000").status == 200
    assert leaves or set(counts) == {1}
    assert console.viewers.count == 0


def test_an_open_page_does_not_keep_its_session(signed_in, accounts, clock, store, quick):
    fill(store, 1)
    visitor = signed_in(Role.VIEWER)
    for _ in range(4):
        clock.now += 1900
        last = visitor.get("/live/rows?names=cam-0000", accept="text/event-stream").status
    assert last == 401


def test_messages_of_the_simulated_fleet_are_labelled():
    assert ("simulated", "yes") in messages_of("cam-1", 1)[0].body.labels


# Models, comparing ----------------------------------------------------------------------------


def test_a_model_is_compared_by_board_and_precision(store, viewer):
    fill(store, 60)
    assert 'href="/models/faces"' in viewer.get("/models").text
    page = viewer.get("/models/faces").text
    assert "faces on 60 devices" in page
    assert "latency, energy" in page
    assert viewer.get("/models/none").status == 404


def test_two_reports_are_compared_by_candidate(store, viewer):
    fill(store, 3)
    older = report(body=report_json("cam-0002").replace(b'"cpus": 2', b'"cpus": 8'))
    store.write([received(older, "cam-0002", seq=2, at_ms=NOW_MS)], [])
    page = viewer.get("/compare?a=cam-0001&b=cam-0002").text
    assert page.count('class="differs"') == 1
    assert re.search(r"cpus <span[^>]*>differs</span></th><td>2</td><td>8</td>", page)
    assert "latency p50" in page
    assert "int8-minmax" in page
    first = store.reports("cam-0001")[0].id
    assert "compared" in viewer.get(f"/compare?a=cam-0001/{first}&b=cam-0001").text
    assert "no report of cam-9" in viewer.get("/compare?a=cam-0001&b=cam-9").text
    assert viewer.get("/compare?a=%00&b=/&c=1").status == 200


@pytest.mark.parametrize(
    "body",
    [b'{"candidates": 1}', b'{"candidates": [1, {"id": null, "measured": 3}], "environment": [1]}',
     b'{"candidates": [{"id": "int8-entropy", "measured": {"latency_ms": {"p50": "x", "ci95_p50": [1, "y"]}}}]}'],
)  # fmt: skip
def test_odd_reports_break_no_comparison(store, viewer, body):
    fill(store, 1)
    store.write([received(report(body=body))], [])
    assert viewer.get("/compare?a=cam-0000&b=cam-1").status == 200
    assert viewer.get("/compare?a=cam-1&b=cam-1").status == 200
