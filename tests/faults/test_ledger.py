"""The instruments of the link's tests find what they are there to find."""

from __future__ import annotations

import json

import pytest

from tests.support import mqtt_packets as mqtt
from tests.support.ledger import Ledger


def heard(*messages: tuple[str, int], **more: object) -> Ledger:
    ledger = Ledger("quantd/v1/cam-1")
    for topic, number in messages:
        note(ledger, topic, number, **more)
    return ledger


def note(ledger: Ledger, topic: str, number: int, **more: object) -> None:
    body = {"id": f"{topic}-{number}", "seq": number, **more}
    ledger.note(f"quantd/v1/cam-1/{topic}", json.dumps(body).encode())


def test_a_hole_is_a_loss_and_so_is_what_is_missing_at_the_end() -> None:
    ledger = heard(("event", 1), ("event", 3), ("res/c1", 1), ("telemetry", 2))
    assert ledger.findings().lost == {"event": [2], "telemetry": [1]}
    assert ledger.findings({"result": 3}).lost["result"] == [2, 3]


def test_what_was_announced_as_given_up_is_no_loss() -> None:
    ledger = heard(("telemetry", 1), ("telemetry", 5), ("res/c1", 2))
    facts = {"stream": "telemetry", "class": "telemetry", "n": 3, "seq_from": 2, "seq_to": 4}
    note(ledger, "event", 1, kind="outbox_evicted", facts=facts)
    assert ledger.findings().lost == {"result": [1]}
    facts = {"topic": "quantd/v1/cam-1/res/c9", "seq": 1, "reason": "too_large"}
    note(ledger, "event", 2, kind="message_parked", facts=facts)
    assert ledger.findings().none


def test_replaced_states_are_no_loss_and_a_late_one_is_disorder() -> None:
    ledger = heard(("state", 1), ("state", 4))
    assert ledger.findings().none
    note(ledger, "state", 3)
    assert ledger.findings().disordered == [("state", 3)]


def test_a_repeat_has_the_same_id_and_body() -> None:
    ledger = heard(("event", 1), ("event", 2), ("event", 1), ("event", 2))
    assert ledger.findings().none
    assert ledger.repeated == 2
    note(ledger, "event", 2, kind="other")
    assert ledger.findings().changed == [("event", 2)]


def test_a_will_is_not_numbered() -> None:
    assert heard(("state", 1), ("state", 0)).findings().none


@pytest.mark.parametrize(
    ("stages", "twice"),
    [
        ([("ACCEPTED", 1), ("SUCCEEDED", 2)], False),
        ([("ACCEPTED", 1), ("SUCCEEDED", 2), ("SUCCEEDED", 2)], False),  # answered from memory
        ([("ACCEPTED", 1), ("SUCCEEDED", 2), ("SUCCEEDED", 3)], True),
        ([("ACCEPTED", 1), ("SUCCEEDED", 2), ("IN_PROGRESS", 3)], True),
        ([("REJECTED", 0), ("ACCEPTED", 1), ("SUCCEEDED", 2)], False),  # a forgery of that id
    ],
)
def test_a_command_that_continues_after_its_end_ran_twice(
    stages: list[tuple[str, int]], twice: bool
) -> None:
    ledger = heard()
    for number, (stage, version) in enumerate(stages, start=1):
        note(ledger, "res/c1", number, cmd_id="c1", stage=stage, version=version)
    assert ledger.run_twice() == (["c1"] if twice else [])
    assert ledger.ended("c1")


def test_a_run_that_begins_after_its_end_ran_twice() -> None:
    ledger = heard()
    kinds = ("rollback_started", "rollback_started", "rollback_ended")
    for number, kind in enumerate(kinds, start=1):
        note(ledger, "event", number, kind=kind, facts={"run_id": "r1"})
    assert ledger.run_twice() == []
    note(ledger, "event", 4, kind="rollback_started", facts={"run_id": "r1"})
    assert ledger.run_twice() == ["r1"]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_packets_are_found_in_any_pieces(size: int) -> None:
    packets = [
        mqtt.publish("a/b", b"x" * 300, number=7),
        mqtt.puback(7, 0x10),
        mqtt.connack(values={mqtt.RECEIVE_MAXIMUM: b"\0\3"}),
        mqtt.publish("c", b"", qos=0),
    ]
    stream = b"".join(packets)
    framing = mqtt.Framing()
    pieces = [stream[place : place + size] for place in range(0, len(stream), size)]
    found = [packet for piece in pieces for packet in framing.feed(piece)]
    assert [packet.raw for packet in found] == packets
    assert (found[0].topic, found[0].number, found[0].payload) == ("a/b", 7, b"x" * 300)
    assert (found[1].number, found[3].number, found[3].payload) == (7, 0, b"")
    changed = found[2].with_properties({mqtt.MAXIMUM_PACKET_SIZE: (99).to_bytes(4, "big")})
    ((again,),) = [list(mqtt.Framing().feed(changed))]
    values, _ = mqtt.read_properties(again.body, 2)
    assert values == {mqtt.RECEIVE_MAXIMUM: b"\0\3", mqtt.MAXIMUM_PACKET_SIZE: b"\0\0\0\x63"}
