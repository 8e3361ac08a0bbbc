from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.mqtt.signatures import JwsSignatures
from agent.adapters.mqtt.signing_keys import SigningKey, make_key, read_signing_key
from agent.core.errors import ConfigError
from agent.wire.commands import COMMANDS
from agent.wire.issuing import compose, read_token, read_tokens
from agent.wire.schema import schemas

NOW_S = 1_800_000_000
ARGS: dict[str, dict[str, Any]] = {"activate": {"release": "r1"}, "resend": {"from_seq": 3}}


def composed(kind: str = "ping", device: str = "cam-1", **changed: Any) -> bytes:
    given: Mapping[str, Any] = {
        "args": ARGS.get(kind, {}), "expect": None, "now_s": NOW_S, "valid_s": 600, **changed,
    }  # fmt: skip
    return compose(kind, device, "c1", **given)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    tmp_path.chmod(0o700)
    return read_signing_key(make_key(tmp_path, "ops")[0])


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_device_verifies_what_was_signed_and_reads_what_was_composed(
    tmp_path: Path, key: SigningKey, kind: str
) -> None:
    claims = composed(kind)
    token = key.sign(claims)
    assert JwsSignatures(str(tmp_path)).verify(token) == claims
    jsonschema.Draft202012Validator(schemas()["command"]).validate(json.loads(claims))
    found = read_token(token)
    assert (found.device, found.id, found.type) == ("cam-1", "c1", kind)
    assert (found.exp_s, found.token) == (NOW_S + 600, token)


def test_the_key_is_one_that_other_programs_read(tmp_path: Path, key: SigningKey) -> None:
    private = load_pem_private_key((tmp_path / "ops.key").read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    public = (tmp_path / "ops.pem").read_bytes()
    token = key.sign(composed()).decode()
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": "ops"}
    read = jwt.decode(token, public, ["EdDSA"], audience="cam-1", options={"verify_iat": False})
    assert read["jti"] == "c1"
    assert (tmp_path / "ops.key").stat().st_mode & 0o777 == 0o600
    assert "seed" not in repr(key)


def test_a_key_is_not_overwritten_nor_read_where_others_read_it(
    tmp_path: Path, key: SigningKey
) -> None:
    with pytest.raises(ConfigError, match="exists"):
        make_key(tmp_path, "ops")
    (tmp_path / "ops.key").chmod(0o640)
    with pytest.raises(ConfigError, match="other users") as found:
        read_signing_key(tmp_path / "ops.key")
    assert found.value.hint == f"chmod 600 {tmp_path / 'ops.key'}"
    (tmp_path / "ops.pem").chmod(0o600)
    with pytest.raises(ConfigError, match="no Ed25519 private key"):
        read_signing_key(tmp_path / "ops.pem")
    for name in ("../x", "", "a/b"):
        with pytest.raises(ConfigError, match="key's name"):
            make_key(tmp_path, name)


@pytest.mark.parametrize(
    ("kind", "changed", "seen"),
    [
        ("reboot", {}, "no command reboot"),
        ("activate", {"args": {}}, "release"),
        ("ping", {"args": {"x": 1}}, "x"),
        ("reoptimize", {"args": {"limits": {"fpz": 3}}}, "fps"),
        ("ping", {"expect": {"release": "r"}}, "changes something"),
    ],
)
def test_what_a_device_would_refuse_is_not_signed(
    kind: str, changed: dict[str, Any], seen: str
) -> None:
    with pytest.raises(ConfigError, match=seen):
        composed(kind, **changed)


def test_a_file_of_signed_commands_is_read_back_as_it_was(key: SigningKey) -> None:
    tokens = [key.sign(composed(device=f"cam-{n}")) for n in range(3)]
    found = read_tokens(b"\n".join([*tokens, b""]))
    assert [one.token for one in found] == tokens
    with pytest.raises(ConfigError, match="line 4: c1 for cam-0 comes twice"):
        read_tokens(b"\n".join([*tokens, tokens[0]]))
    with pytest.raises(ConfigError, match="line 2: not a signed command"):
        read_tokens(tokens[0] + b"\n" + tokens[1].partition(b".")[2])
    with pytest.raises(ConfigError, match="no signed command"):
        read_tokens(b"\n\n")


@pytest.mark.parametrize(
    "claims",
    [
        b"[]", b"1", b"{}", b'{"jti":"a/b"}', b'{"jti":1}', b"\xff", b"[" * 100_000,
        b'{"jti":"c","type":"ping","aud":"a/+","exp":1}', b'{"jti":"c","type":"ping","exp":1}',
        b'{"jti":"c","type":"ping","aud":"d"}', b'{"jti":"c","type":"ping","aud":"d","exp":1e999}',
    ],
)  # fmt: skip
def test_claims_of_no_command_are_refused(key: SigningKey, claims: bytes) -> None:
    with pytest.raises(ConfigError):
        read_token(key.sign(claims))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(ConfigError):
        read_tokens(body)
