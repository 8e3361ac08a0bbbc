"""What every store of the fleet does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.errors import StoreError
from agent.core.fleet.devices import DeviceQuery, Worker
from tests.support.fleet_messages import (
    HOUR_MS,
    NOW_MS,
    event,
    inventory,
    message_id,
    received,
    refused,
    releases,
    report,
    result,
    state,
    telemetry,
)


def _one(store, name="cam-1", now_ms=NOW_MS):
    (found,) = store.named([name], now_ms)
    return found


def _hole_ranges(store, name="cam-1"):
    return [(h.stream, h.first, h.last) for h in store.device(name, NOW_MS).holes]


def test_a_message_that_comes_twice_is_stored_once(store):
    first = received(event())
    assert store.write([first, first], []) == 1
    assert store.write([first], []) == 0
    assert len(store.events("cam-1")) == 1


def test_a_device_that_repeats_the_id_of_another_hides_nothing(store):
    stolen = message_id()
    assert store.write([received(event("stolen"), "cam-2", same_id=stolen)], []) == 1
    assert store.write([received(event("genuine"), "cam-1", same_id=stolen)], []) == 1
    assert [one.kind for one in store.events("cam-1")] == ["genuine"]


@pytest.mark.parametrize("batches", [1, 3])
def test_the_newest_state_is_that_of_the_greatest_session_and_number(store, batches):
    messages = [
        received(state(release="r-3", model="faces"), sess=2, seq=9),
        received(state(release="r-1"), sess=1, seq=20),
        received(state(release="r-2"), sess=2, seq=8),
    ]
    for part in range(batches):
        store.write(messages[part::batches], [])
    assert (_one(store).release, _one(store).model) == ("r-3", "faces")


def test_a_last_will_ends_its_own_session_and_no_later_one(store):
    will = received(state("offline"), sess=1, seq=0, will=1)
    store.write([received(state(release="r-1", job='{"run_id":"x"}'), sess=1, seq=5), will], [])
    found = _one(store)
    assert (found.status, found.release, found.job) == ("offline", "r-1", "")
    store.write([received(state(release="r-2"), sess=2, seq=6)], [])
    store.write([received(state("offline"), sess=1, seq=0, will=1)], [])
    assert _one(store).status == "online"


def test_a_last_will_is_not_a_sign_of_life(store):
    store.write([received(state(), received_ms=NOW_MS)], [])
    store.write([received(state("offline"), will=1, received_ms=NOW_MS + 9)], [])
    assert _one(store).seen_ms == NOW_MS
    assert store.changed(NOW_MS) == ["cam-1"]
    assert store.changed(NOW_MS + 1) == []


def test_telemetry_updates_the_figures_that_it_has(store):
    store.write([received(telemetry(latency_p50_ms=4.5, power_w=8.0))], [])
    store.write([received(telemetry('{"temp_c":60}', latency_p50_ms=5.0), at_ms=NOW_MS + 1)], [])
    store.write([received(telemetry('{"temp_c":1}', latency_p50_ms=1.0), at_ms=NOW_MS - 5)], [])
    found = _one(store)
    assert (found.latency_p50_ms, found.power_w, found.figures) == (5.0, 8.0, '{"temp_c":60}')
    assert [one.figures for one in store.telemetry("cam-1", NOW_MS - 5, NOW_MS + 2)] == [
        '{"temp_c":1}',
        '{"temp_c":51.5}',
        '{"temp_c":60}',
    ]


def test_a_switch_where_a_figure_is_expected_is_a_number(store):
    store.write([received(telemetry(power_w=True, sqnr_db=7))], [])
    assert (_one(store).power_w, _one(store).sqnr_db) == (1.0, 7.0)


def test_an_inventory_replaces_labels_and_an_older_one_does_not(store):
    store.write([received(inventory(site="north", line="2"), sess=3)], [])
    store.write([received(inventory(site="south"), sess=4)], [])
    store.write([received(inventory(site="west"), sess=2)], [])
    found = store.device("cam-1", NOW_MS)
    assert found.labels == {"site": "south"}
    assert (found.device.board, found.device.jetpack) == ("orin-nano", "6.2")
    assert (found.environment, found.models) == ('{"cpus":6}', '["faces"]')
    assert store.labels() == [("site", "south", 1)]


def test_missing_numbers_are_noticed_and_filled(store):
    store.write([received(event(), seq=7), received(event(), seq=10)], [])
    assert _hole_ranges(store) == [("event", 8, 9)]
    assert _one(store).missing == 2
    store.write([received(event(), seq=9)], [])
    assert _hole_ranges(store) == [("event", 8, 8)]
    (hole,) = store.holes(NOW_MS * 2)
    assert (hole.device, hole.stream, hole.first, hole.last) == ("cam-1", "event", 8, 8)
    store.write([received(event(), seq=8)], [])
    assert _one(store).missing == 0


def test_streams_are_counted_apart(store):
    store.write(
        [received(event(), seq=7), received(result(), seq=1), received(report(), seq=3)], []
    )
    assert _one(store).missing == 0


def test_attention_names_the_most_urgent_reason_first(store):
    late = NOW_MS + 400_000
    messages = [
        received(state(), "fine", received_ms=late),
        received(state(), "mute", received_ms=NOW_MS),
        received(state("shutdown"), "off", received_ms=NOW_MS),
        received(state(release="r-1"), "old", received_ms=late),
        received(releases("r-2"), "old", received_ms=late),
        received(state(release="r-1"), "pinned", received_ms=late),
        received(releases("r-2", pinned=True), "pinned", received_ms=late),
        received(report(trouble="nothing fits", latency_p50_ms=4.0), "bad", received_ms=late),
        received(telemetry(latency_p50_ms=5.0), "bad", at_ms=NOW_MS + 1, received_ms=late),
    ]
    store.write(messages, [refused("mute")])
    page = store.devices(DeviceQuery(), late)
    reasons = {one.name: one.attention for one in page.rows}
    assert reasons == {
        "mute": ("silent", "quarantined"),
        "bad": ("failing", "worse"),
        "old": ("outdated",),
        "fine": (),
        "off": (),
        "pinned": (),
    }
    assert [one.name for one in page.rows] == ["mute", "bad", "old", "fine", "off", "pinned"]
    assert store.counts(late).attention["silent"] == 1
    assert store.devices(DeviceQuery(attention="any"), late).total == 3
    assert [d.name for d in store.devices(DeviceQuery(attention="worse"), late).rows] == ["bad"]


def test_a_good_report_ends_the_trouble(store):
    store.write([received(event("run_failed", "error"))], [])
    assert _one(store).attention == ("failing",)
    store.write([received(report(), at_ms=NOW_MS + 1)], [])
    assert (_one(store).attention, _one(store).trouble) == ((), "")


def test_devices_are_searched_filtered_sorted_and_paged(store):
    for number in range(7):
        name = f"cam_{number}" if number < 5 else f"door%{number}"
        store.write(
            [
                received(state(model="faces" if number % 2 else "doors"), name),
                received(inventory(site=f"s{number % 3}"), name),
                received(telemetry(**({"power_w": 10.0 - number} if number else {})), name),
            ],
            [],
        )

    def names(**query):
        return [one.name for one in store.devices(DeviceQuery(**query), NOW_MS).rows]

    assert names(search="CAM_", sort="name", descending=False) == [f"cam_{n}" for n in range(5)]
    assert names(search="%", sort="name") == ["door%6", "door%5"]
    assert names(where=(("model", "faces"), ("site", "s0"))) == ["cam_3"]
    assert names(sort="power_w", descending=False, limit=2) == ["door%6", "door%5"]
    assert names(sort="power_w", limit=3)[0] == "cam_1"
    assert names(sort="power_w")[-1] == "cam_0"  # unknown figures come last either way
    page = store.devices(DeviceQuery(limit=2, offset=6), NOW_MS)
    assert (len(page.rows), page.total) == (1, 7)
    assert store.counts(NOW_MS).by["model"] == {"doors": 4, "faces": 3}


@pytest.mark.parametrize("query", [{"sort": "name; DROP TABLE device"}, {"attention": "x"}])
def test_a_query_by_unknown_columns_is_refused(query):
    with pytest.raises(ValueError, match=r"is not one of|is none of"):
        DeviceQuery(**query)


def test_a_label_can_have_any_name(store):
    store.write([received(inventory(**{"' OR 1=1 --": "x"}))], [])
    assert store.devices(DeviceQuery(where=(("' OR 1=1 --", "x"),)), NOW_MS).total == 1
    assert store.devices(DeviceQuery(where=(("' OR 1=1 --", "y"),)), NOW_MS).total == 0


def test_reports_are_listed_by_device_and_by_model(store):
    body = b'{"schema": 1, "headline": "x"}'
    for number, device in enumerate(("cam-1", "cam-1", "cam-2")):
        at_ms = NOW_MS + number
        store.write(
            [
                received(report(body=body, latency_p50_ms=float(number)), device, at_ms=at_ms),
                received(report("doors"), device, at_ms=at_ms),
            ],
            [],
        )
    newest = store.newest_reports("faces")
    assert [(one.device, one.latency_p50_ms) for one in newest] == [("cam-1", 1.0), ("cam-2", 2.0)]
    first, second = store.reports("cam-1", model="faces")
    assert store.reports("cam-1", model="faces", before=first.id) == [second]
    assert store.report("cam-1", first.id) == body
    assert store.report("cam-2", first.id) is None
    assert store.models() == {"doors": 2, "faces": 2}
    assert _one(store, "cam-2").report_model in {"doors", "faces"}


def test_commands_are_followed_by_their_greatest_version(store):
    for device, stage, version in (
        ("cam-1", "SUCCEEDED", 4),
        ("cam-1", "RECEIVED", 1),
        ("cam-2", "REJECTED", 0),
    ):
        store.write([received(result("go.1", stage, version), device)], [])
    assert store.stages("go.") == {"REJECTED": 1, "SUCCEEDED": 1}
    assert store.stages("gone") == {}
    page = store.answers("go.1")
    assert [(one.device, one.stage) for one in page.rows] == [
        ("cam-1", "SUCCEEDED"),
        ("cam-2", "REJECTED"),
    ]
    assert [one.version for one in store.results("cam-1", command="go.1")] == [1, 4]
    assert _one(store, "cam-2").trouble == ""


def test_the_last_refused_messages_of_a_device_are_kept_and_all_are_counted(store):
    store.write([received(state())], [refused(why=f"no. {n}") for n in range(60)])
    store.write([], [refused(why="no. 60", received_ms=NOW_MS + 1), refused("stranger")])
    kept = store.quarantine("cam-1", limit=100)
    assert kept[0].why == "no. 60"
    assert {one.why for one in kept} == {f"no. {n}" for n in range(11, 61)}
    assert _one(store).quarantined == 61
    assert [one.device for one in store.quarantine(limit=1000)].count("") == 1


def test_a_batch_that_the_database_refuses_leaves_nothing(store):
    good = received(event("good"))
    with pytest.raises(StoreError) as caught:
        store.write([good, received(state(), "cam-2", seq=2**70)], [])
    assert caught.value.code == "refused"
    assert store.write([good], []) == 1
    assert store.named(["cam-2"], NOW_MS) == []


def test_events_are_paged_by_id(store):
    store.write([received(event(f"e{n}"), at_ms=NOW_MS + n) for n in range(5)], [])
    first = store.events(limit=2)
    rest = store.events(before=first[-1].id)
    assert [one.kind for one in (*first, *rest)] == ["e4", "e3", "e2", "e1", "e0"]
    assert store.events(severity="error") == []


def test_workers_report_themselves(store):
    worker = Worker(
        name="w-1", started_ms=1, seen_ms=2, stored=3, duplicates=4, quarantined=5, retired=False
    )
    store.report_worker(worker)
    assert list(store.workers()) == [worker]
    store.retire_worker("w-1", retired=True)
    store.report_worker(worker)
    assert list(store.workers()) == [replace(worker, retired=True)]
    store.retire_worker("w-1", retired=False)
    assert list(store.workers()) == [worker]


def test_nothing_is_known_of_an_empty_store(store):
    assert store.device("cam-1", NOW_MS) is None
    assert store.counts(NOW_MS).devices == 0
    assert store.devices(DeviceQuery(), NOW_MS).rows == ()
    assert store.named([], NOW_MS) == []


_DAY_MS = 24 * HOUR_MS


def test_old_telemetry_becomes_hours_and_nothing_is_counted_twice(store):
    store.write(
        [
            received(telemetry('{"temp_c":50}'), at_ms=NOW_MS),
            received(telemetry('{"temp_c":53,"power_w":null}'), at_ms=NOW_MS + 1000),
            received(telemetry('{"temp_c":60}'), at_ms=NOW_MS + 2 * _DAY_MS),
        ],
        [],
    )
    later = NOW_MS + 2 * _DAY_MS + 2 * HOUR_MS
    for _ in range(2):
        store.tidy(later)
    hour, raw = store.telemetry("cam-1", NOW_MS - HOUR_MS, later)
    assert (hour.at_ms, hour.span_ms) == (NOW_MS // HOUR_MS * HOUR_MS, HOUR_MS)
    assert hour.figures == '{"temp_c":[2,51.5,50.0,53.0]}'
    assert (raw.span_ms, raw.figures) == (0, '{"temp_c":60}')
    store.tidy(NOW_MS + 397 * _DAY_MS)
    (left,) = store.telemetry("cam-1", NOW_MS - HOUR_MS, later)
    assert left.figures == '{"temp_c":[1,60.0,60.0,60.0]}'


def test_events_and_answers_are_kept_for_90_days(store):
    store.write([received(event()), received(result())], [])
    store.tidy(NOW_MS + 89 * _DAY_MS)
    assert (len(store.events()), len(store.results()), store.stages("c")) == (
        1,
        1,
        {"SUCCEEDED": 1},
    )
    store.tidy(NOW_MS + 98 * _DAY_MS)  # partitions of a week
    assert (store.events(), store.results(), store.stages("c")) == ([], [], {})


def test_twenty_reports_of_a_model_and_device_are_kept(store):
    made = [
        received(report(model), device, at_ms=NOW_MS + number)
        for number in range(22)
        for model, device in (("faces", "cam-1"), ("doors", "cam-1"), ("faces", "cam-2"))
    ]
    store.write(made, [])
    store.tidy(NOW_MS)
    for device, model in (("cam-1", "faces"), ("cam-1", "doors"), ("cam-2", "faces")):
        kept = store.reports(device, model=model, limit=100)
        assert [one.at_ms for one in kept] == [NOW_MS + n for n in range(21, 1, -1)]


def test_a_hole_that_nothing_filled_is_given_up_after_a_week(store):
    store.write([received(event(), seq=1), received(event(), seq=5)], [])
    store.tidy(NOW_MS)
    assert _one(store).missing == 3
    store.tidy(2**45)
    assert _one(store).missing == 0
    assert store.device("cam-1", NOW_MS).holes == ()


def test_a_closed_store_is_not_opened_again(store):
    store.close()
    for use in (
        lambda: store.write([received(state())], []),
        lambda: store.tidy(NOW_MS),
        store.workers,
    ):
        with pytest.raises(StoreError):
            use()
