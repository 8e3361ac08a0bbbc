from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.command import Stage
from agent.core.report.metrics import MODEL_METRICS
from agent.wire import messages as wire
from agent.wire.commands import decode_command
from agent.wire.schema import schemas
from agent.wire.topics import Topics

ROOT = Path(__file__).parents[2]
OF_0_1 = [
    json.loads(line)
    for line in Path(__file__).with_name("messages_of_0_1.jsonl").read_text().splitlines()
]
STAMP: dict[str, Any] = {
    "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "dev": "cam-1",
    "ts": "2026-11-23T10:00:00.000Z",
    "mono_ms": 12,
    "boot": "b",
    "sess": 3,
    "seq": 4,
    "clock_ok": True,
}
MESSAGES: dict[str, wire.Message] = {
    "state": wire.State(
        **STAMP, status="online", agent="0", active=wire.Active(release="r", model="m")
    ),
    "meta": wire.Inventory(
        **STAMP, agent="0", labels={}, environment={"l4t": None}, models=("m",), commands=("ping",)
    ),
    "releases": wire.Releases(
        **STAMP,
        active="r2",
        releases=(
            wire.Release(id="r2", model="m", precision="int8", made="2026-11-23T09:00:00Z"),
            wire.Release(id="r1", good=False, reason="health exited 1", pinned=True),
        ),
        total=2,
    ),
    "telemetry": wire.Telemetry(**STAMP, m={"temp_c": 40.5, "power_w": None}),
    "event": wire.Event(**STAMP, kind="run_ended", severity="info", facts={"n": 1}),
    "report_message": wire.Report(**STAMP, model="m", report={"schema": 1}),
    "result": wire.Result(
        **STAMP,
        cmd_id="c1",
        stage=Stage.IN_PROGRESS,
        version=2,
        progress=wire.Progress(step="build", pct=50.0),
        reason=wire.Reason(code="", detail="x"),
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_fits_its_schema_and_comes_back_equal(name: str) -> None:
    body = wire.encode(MESSAGES[name])
    jsonschema.Draft202012Validator(schemas()[name]).validate(json.loads(body))
    assert msgspec.json.decode(body, type=type(MESSAGES[name])) == MESSAGES[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_schema_is_not_satisfied_by_anything(name: str) -> None:
    body = json.loads(wire.encode(MESSAGES[name]))
    for field in ("id", "dev", "seq"):
        rest = {key: value for key, value in body.items() if key != field}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schemas()[name]).validate(rest)


def decoded(name: str, body: dict[str, Any]) -> object:
    return msgspec.json.decode(json.dumps(body), type=type(MESSAGES[name]))


@pytest.mark.parametrize("line", OF_0_1, ids=lambda line: line["schema"])
def test_what_a_device_of_version_0_1_sends_is_read_and_fits(line: dict[str, Any]) -> None:
    name, body = line["schema"], line["message"]
    jsonschema.Draft202012Validator(schemas()[name]).validate(body)
    found = json.loads(msgspec.json.encode(decoded(name, body)))
    assert body["v"] == 1
    for field, value in body.items():
        nested = isinstance(value, dict) and isinstance(found[field], dict)
        assert found[field] == (found[field] | value if nested else value)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *(("telemetry", {"ts": ts}) for ts in ("yesterday", "now", "2026-11-23", "20261-01-01T00:00:00Z", "2026-11-23T25:00:00Z", "2026-11-23T10:00:00+01:00", "2026-11-23T10:00:00Z\n")),
        *(("event", {"seq": seq}) for seq in (-1, 2**53, 2**64, 1.5)),
        *(("state", {"dev": dev}) for dev in ("", "a/b", "a\x00", "x" * 65, "cam-1\n")),
        ("state", {"v": 3}),
        ("state", {"agent": "a" * 129}),
        ("state", {"agent": "0\x001"}),
        ("result", {"cmd_id": "a/b"}),
        ("result", {"reason": {"code": "x", "detail": "a\x00b"}}),
        ("event", {"kind": "Run Ended"}),
        ("event", {"facts": {f"f{n}": 1 for n in range(65)}}),
        ("meta", {"labels": {f"l{n}": "x" for n in range(65)}}),
        ("releases", {"releases": [{"id": "r"}] * 65}),
        ("telemetry", {"m": {f"m{n}": 1 for n in range(65)}}),
        ("telemetry", {"m": {"x" * 41: 1}}),
        ("meta", {"packet_limit_bytes": 2**53}),
        ("telemetry", {"m": {"a": "hot"}}),
    ],
)  # fmt: skip
def test_what_no_store_should_see_is_refused(name: str, changed: dict[str, Any]) -> None:
    body = json.loads(wire.encode(MESSAGES[name])) | changed
    assert not jsonschema.Draft202012Validator(schemas()[name]).is_valid(body)
    with pytest.raises(msgspec.ValidationError):
        decoded(name, body)


def test_the_schema_of_telemetry_has_each_figure_with_its_unit() -> None:
    figures = schemas()["telemetry"]["$defs"]["Telemetry"]["properties"]["m"]["properties"]
    assert figures["latency_p50_ms"]["x-unit"] == "ms"
    ends = {"ms": "_ms", "W": "_w", "J": "_j", "dB": "_db", "s": "_s", "MB": "_mb", "°C": "_c"}
    for name, figure in figures.items():
        assert re.fullmatch(wire.METRIC_NAME, name)
        assert name.endswith(ends.get(figure.get("x-unit", ""), ""))
    assert set(MODEL_METRICS) < set(figures)


@given(text=st.text(alphabet="\x00\\u0a", max_size=12))
def test_no_nul_leaves_the_device(text: str) -> None:
    event = wire.Event(**STAMP, kind="k", severity="info", facts={"d": text, text + "k": 1})
    facts = json.loads(wire.encode(event))["facts"]
    clean = text.replace("\x00", "")
    assert facts == {"d": clean, clean + "k": 1}


def test_the_published_schemas_are_those_of_the_code() -> None:
    for name, schema in schemas().items():
        published = json.loads((ROOT / "configs" / "schema" / f"{name}.json").read_bytes())
        assert published == json.loads(json.dumps(schema)), (
            "run python -m agent.wire.schema configs/schema"
        )


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"type": "ping"}, True),
        ({"type": "activate", "args": {"release": "r1"}}, True),
        ({"type": "activate"}, False),
        ({"type": "ping", "args": {"release": "r1"}}, False),
        (
            {"type": "reoptimize", "args": {"limits": {"fps": 5}}, "exp": "2027-01-01T00:00:00Z"},
            True,
        ),
    ],
)
def test_the_command_schema_and_the_decoder_agree(body: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(schemas()["command"]).is_valid(body) is valid
    found = decode_command(
        json.dumps(body).encode(),
        Topics("q", "d").command_id("q/v1/d/cmd/c"),
        sha256="",
        signed=False,
    )
    assert hasattr(found, "type") is valid


def test_the_contract_names_every_topic_and_only_files_that_exist() -> None:
    contract = yaml.safe_load((ROOT / "configs" / "asyncapi.yaml").read_text())
    topics = Topics("{root}", "{device}")
    assert {channel["address"] for channel in contract["channels"].values()} == {
        topics.state,
        topics.meta,
        topics.releases,
        topics.telemetry,
        topics.event,
        topics.report("{model}"),
        topics.result("{id}"),
        topics.command_filter.replace("#", "{id}"),
    }
    named = set()
    for message in contract["components"]["messages"].values():
        if "schema" in message["payload"]:
            named.add(Path(message["payload"]["schema"]["$ref"]).stem)
    assert named == set(schemas()) - {"report", "model"}  # inside report_message, in releases


def test_what_json_can_not_express_becomes_null_or_text() -> None:
    body = json.loads(wire.encode(wire.Telemetry(**STAMP, m={"a": float("nan")})))
    assert body["m"] == {"a": None}
    event = wire.Event(**STAMP, kind="k", severity="info", facts={"p": Path("/x")})
    assert json.loads(wire.encode(event))["facts"] == {"p": "/x"}


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("quantd/v1/d/cmd/c1", "c1"),
        ("quantd/v1/d/cmd/", None),
        ("quantd/v1/d/cmd", None),
        ("quantd/v1/d/cmd/a/b", None),
        ("quantd/v1/e/cmd/c1", None),
        ("quantd/v1/d/res/c1", None),
    ],
)
def test_only_a_command_topic_has_a_command(topic: str, expected: str | None) -> None:
    assert Topics("quantd", "d").command_id(topic) == expected


@given(st.text(max_size=30))
def test_no_topic_confuses_the_parser(topic: str) -> None:
    found = Topics("q", "d").command_id("q/v1/d/cmd/" + topic)
    assert found is None or found == topic
