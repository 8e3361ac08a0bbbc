from __future__ import annotations

import json
import re
import string
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.choice.limits import LIMITS
from agent.core.control.command import BODY_LIMIT_BYTES, Command, CommandId, Rejection
from agent.core.control.requests import (
    Activate,
    Expect,
    Optimize,
    Request,
    ResendMessages,
    RollBack,
    Task,
)
from agent.core.errors import CommandError
from agent.wire.commands import (
    ARGS,
    COMMANDS,
    decode_command,
    decode_request,
    decode_task,
    encode_task,
)

ID = CommandId("c1")


def decode(body: bytes | dict[str, object], *, signed: bool = False) -> Command | Rejection:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_command(text, ID, sha256="00", signed=signed)


def code(body: bytes | dict[str, object], *, signed: bool = False) -> str:
    found = decode(body, signed=signed)
    assert isinstance(found, Rejection), found
    assert found.detail
    return found.code


def test_every_command_has_arguments() -> None:
    has = {(one, field.name) for one in ARGS for field in fields(one)}
    takes = {(one, name) for one, args in ARGS.items() for name in args.__struct_fields__}
    changing = {one for one, name in has if name == "expect"}
    assert {one.command for one in changing} == {"reoptimize", "activate", "rollback", "cancel"}
    own = {(Optimize, "replaces"), (RollBack, "to")}  # set by the daemon itself
    assert has - takes == own | {(one, "expect") for one in changing}
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (line,) = [one for one in readme.splitlines() if one.startswith("| `cmd/<id>` |")]
    assert re.findall(r"`([a-z]+)`", line) == list(COMMANDS)


@pytest.mark.parametrize("request_type", ARGS, ids=lambda request: request.command)
def test_every_argument_arrives_as_the_request_has_it(request_type: type[Request]) -> None:
    """And comes back as it was from the journal."""
    wanted = {
        "model": "faces", "reuse_calibration": True, "limits": {"power_w": 5.0}, "reason": "why",
        "release": "r7", "target": "c2", "from_seq": 7, "to_seq": 9,
        "stream": "event",
    }  # fmt: skip
    args = {name: wanted[name] for name in ARGS[request_type].__struct_fields__}
    found = decode({"type": request_type.command, "args": args})
    assert isinstance(found, Command)
    assert isinstance(found.request, request_type)
    assert args.items() <= asdict(found.request).items()
    assert decode_request(found.type, json.dumps(asdict(found.request))) == found.request
    if isinstance(found.request, Task):
        assert decode_task(encode_task(found.request)) == found.request


def test_what_earlier_versions_stored_is_still_understood() -> None:
    assert decode_request("activate", '{"release": "r", "reason": "x"}') == Activate(
        release="r", reason="x"
    )
    assert decode_request("reoptimize", '{"limits": {"power_w": 5}}') == Optimize(
        limits={"power_w": 5.0}
    )
    spec = '{"kind": "optimize", "args": {"reuse_calibration": true, "replaces": "r1"}}'
    assert decode_task(spec) == Optimize(reuse_calibration=True, replaces="r1")


@pytest.mark.parametrize("release", ["r7", None])
@pytest.mark.parametrize("command", ["reoptimize", "activate", "rollback", "cancel"])
def test_every_command_that_changes_something_can_expect_a_release(
    command: str, release: str | None
) -> None:
    args = {"release": "r1"} if command == "activate" else {}
    found = decode({"type": command, "args": args, "expect": {"release": release}})
    assert isinstance(found, Command)
    assert found.request.expect == Expect(release=release)  # type: ignore[union-attr]
    assert decode_request(command, json.dumps(asdict(found.request))) == found.request


def test_a_rollback_s_target_comes_back_from_the_journal_and_from_no_command() -> None:
    task = RollBack(to="r3")
    assert decode_task(encode_task(task)) == task
    assert code({"type": "rollback", "args": {"to": "r3"}}) == "unsupported"


def test_a_range_of_numbers_is_sent_again() -> None:
    found = decode({"type": "resend", "args": {"from_seq": 3, "to_seq": 3}})
    assert isinstance(found, Command)
    assert found.request == ResendMessages(from_seq=3, to_seq=3)
    refused = decode({"type": "resend", "args": {"from_seq": 4, "to_seq": 3}})
    assert isinstance(refused, Rejection)
    assert (refused.code, refused.detail) == (
        "unsupported",
        "resend: args: from_seq 4 is above to_seq 3",
    )


@pytest.mark.parametrize(
    "stored",
    [
        '{"kind": "optimize", "args": {"limits": {"watts": 5}}}',
        '{"kind": "optimize", "args": {"limits": {"power_w": "low"}}}',
        '{"kind": "optimize", "args": {"expect": {"release": "r1", "board": "b"}}}',
        '{"kind": "frobnicate", "args": {}}',
        '{"kind": "optimize", "args": []}',
        '{"kind": "optimize"}',
        "[]",
        "",
        "\x00",
    ],
)
def test_a_stored_task_of_a_later_version_is_unsupported(stored: str) -> None:
    with pytest.raises(CommandError) as caught:
        decode_task(stored)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("stored", ["{}", '{"release": 7}', '{"release": "r", "canary": true}'])
def test_what_can_not_be_understood_any_more_is_unsupported(stored: str) -> None:
    with pytest.raises(CommandError, match="activate") as caught:
        decode_request("activate", stored)
    assert caught.value.code == "unsupported"


def test_the_shortest_command_will_do() -> None:
    found = decode(b'{"type":"reoptimize"}')
    assert found == Command(id=ID, request=Optimize(), digest="00")


def test_times_come_as_seconds_or_as_text() -> None:
    found = decode({"type": "ping", "iat": 0.5, "exp": "1970-01-01T02:00:10+02:00"})
    assert isinstance(found, Command)
    assert (found.iat, found.nbf, found.exp) == (0.5, None, 10.0)


def test_limits_that_are_not_given_are_left_alone() -> None:
    args = {"model": "faces", "limits": {"latency_p99_ms": 20.0, "agreement": 1}}
    found = decode({"type": "reoptimize", "args": args})
    assert isinstance(found, Command)
    assert found.request == Optimize(**args)


def test_unknown_fields_are_ignored() -> None:
    assert isinstance(decode({"type": "ping", "colour": ["red"]}), Command)


DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'{"type":"p\xffng"}', "bad_json"),
        (b"null", "bad_json"),
        (b"[" * 10_000, "bad_json"),
        (b'{"x":' * 9_000, "bad_json"),
        (b'{"type":"ping","x":' + DEEP + b"}", "bad_json"),
        (b'{"type":"ping","args":' + DEEP + b"}", "bad_json"),
        (b'{"type":"ping"}' + b" " * BODY_LIMIT_BYTES, "too_large"),
        ({"type": 3}, "bad_json"),
        ({}, "bad_json"),
        ({"type": "ping", "v": "1"}, "bad_json"),
        ({"type": "ping", "v": 2}, "unsupported"),
        ({"type": "format"}, "unsupported"),
        ({"type": "ping", "id": "c2"}, "bad_json"),
        ({"type": "ping", "jti": "c2"}, "bad_json"),
        ({"type": "ping", "dev": "a", "aud": "b"}, "wrong_device"),
        ({"type": "ping", "exp": "tomorrow"}, "bad_json"),
        ({"type": "ping", "exp": "2027-01-01T00:00:00"}, "bad_json"),
        ({"type": "ping", "exp": True}, "bad_json"),
        ({"type": "ping", "exp": -1}, "bad_json"),
        (b'{"type":"ping","exp":1e999}', "bad_json"),
        (b'{"type":"ping","exp":NaN}', "bad_json"),
        ({"type": "ping", "args": {"x": 1}}, "unsupported"),
        ({"type": "ping", "args": []}, "unsupported"),
        ({"type": "activate"}, "unsupported"),
        ({"type": "activate", "args": {"release": "../../etc"}}, "unsupported"),
        ({"type": "activate", "args": {"release": "r1\n"}}, "unsupported"),
        ({"type": "reoptimize", "args": {"limits": {"power_w": -1}}}, "unsupported"),
        ({"type": "reoptimize", "args": {"limits": {"watts": 1}}}, "unsupported"),
        ({"type": "resend", "args": {"from_seq": 1.5}}, "unsupported"),
        ({"type": "ping", "expect": {"release": None}}, "unsupported"),
        ({"type": "resend", "expect": {"release": None}}, "unsupported"),
        ({"type": "rollback", "expect": {}}, "unsupported"),
        ({"type": "rollback", "expect": []}, "unsupported"),
        ({"type": "rollback", "expect": "r1"}, "unsupported"),
        ({"type": "rollback", "expect": {"release": 7}}, "unsupported"),
        ({"type": "rollback", "expect": {"release": "../r"}}, "unsupported"),
        ({"type": "rollback", "expect": {"release": "r1", "board": "x"}}, "unsupported"),
        (b'{"type":"rollback","expect":' + DEEP + b"}", "bad_json"),
        ({"type": "rollback", "args": {"expect": {"release": None}}}, "unsupported"),
    ],
)
def test_hostile_bytes_have_a_code(body: bytes | dict[str, object], expected: str) -> None:
    assert code(body) == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "reoptimize", "args": {"limits": {"energie_j": 1}}},
         f"did you mean energy_j? known: {', '.join(LIMITS)}"),
        ({"type": "reoptimize", "args": {"limits": {"x" * 40_000: 1}}}, "; known: latency_p99_ms"),
        ({"type": "resend", "args": {"form_seq": 1}}, "did you mean from_seq? known: from_seq, "),
        ({"type": "ping", "args": {"x": 1}}, "; known: none"),
        ({"type": "reoptimize", "args": {"limits": {"agreement": 2}}}, "<= 1"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_an_argument_that_is_not_known_is_answered_with_those_that_are(body, words) -> None:
    found = decode(body)
    assert isinstance(found, Rejection)
    assert words in found.detail
    assert len(found.detail) < 500


SIGNED = {"type": "ping", "jti": "c1", "aud": "cam-1", "exp": 10}


@pytest.mark.parametrize("missing", ["jti", "aud", "exp"])
def test_a_signed_command_names_its_device_and_type(missing: str) -> None:
    assert isinstance(decode(SIGNED, signed=True), Command)
    rest = {key: value for key, value in SIGNED.items() if key != missing}
    assert code(rest, signed=True) == "bad_signature"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(string.printable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["v", "type", "id", "dev", "aud", "exp", "iat", "args"]), json_values
    )
    | st.just({"type": "ping"})
)
def test_any_json_is_a_command_or_a_rejection(body: dict[str, object]) -> None:
    decode(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_a_rejection(body: bytes) -> None:
    decode(body)
