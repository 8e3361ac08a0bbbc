from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.adapters.mqtt.signatures import JwsSignatures
from agent.core.errors import CommandError

CLAIMS: dict[str, Any] = {"type": "ping", "jti": "c1", "aud": "cam-1", "exp": 1}
KEY = Ed25519PrivateKey.generate()
NEXT_KEY = Ed25519PrivateKey.generate()


def publish(folder: Path, kid: str, key: Any) -> None:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{kid}.pem").write_bytes(pem)


@pytest.fixture
def signatures(tmp_path: Path) -> JwsSignatures:
    publish(tmp_path, "ops-1", KEY)
    publish(tmp_path, "ops-2", NEXT_KEY)
    return JwsSignatures(str(tmp_path))


def sign(key: Any = KEY, kid: Any = "ops-1", algorithm: str = "EdDSA") -> bytes:
    return jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": kid}).encode()


def b64(value: object) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def refusal(signatures: JwsSignatures, token: bytes) -> str:
    with pytest.raises(CommandError) as caught:
        signatures.verify(token)
    assert caught.value.code == "bad_signature"
    assert caught.value.message
    return caught.value.message


def test_both_keys_are_good_while_they_are_rotated(signatures: JwsSignatures) -> None:
    assert json.loads(signatures.verify(sign())) == CLAIMS  # expired: judged elsewhere
    assert json.loads(signatures.verify(sign(NEXT_KEY, "ops-2"))) == CLAIMS


def test_a_removed_key_is_revoked_at_once(signatures: JwsSignatures, tmp_path: Path) -> None:
    signatures.verify(sign())
    (tmp_path / "ops-1.pem").unlink()
    assert "ops-1" in refusal(signatures, sign())


def test_another_key_of_the_directory_does_not_do(signatures: JwsSignatures) -> None:
    refusal(signatures, sign(KEY, "ops-2"))


def test_one_changed_byte_is_seen(signatures: JwsSignatures) -> None:
    head, body, mark = sign().split(b".")
    refusal(signatures, b".".join([head, b64({**CLAIMS, "type": "rollback"}), mark]))
    refusal(signatures, b".".join([b64({"alg": "EdDSA", "kid": "ops-2"}), body, mark]))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES256"])
def test_no_other_algorithm_is_taken(
    signatures: JwsSignatures, algorithm: str, tmp_path: Path
) -> None:
    head = b64({"alg": algorithm, "kid": "ops-1"})
    refusal(signatures, head + b"." + b64(CLAIMS) + b"." + b64(b"x" * 64))
    refusal(signatures, head + b"." + b64(CLAIMS) + b".")


@pytest.mark.parametrize("kid", ["../ops-1", "/etc/passwd", "", "ops-3", "ops-1\n", "a" * 300])
def test_a_kid_is_no_path(signatures: JwsSignatures, kid: str) -> None:
    refusal(signatures, sign(kid=kid))


def test_headers_of_any_shape_are_refused(signatures: JwsSignatures) -> None:
    for head in ({"alg": "EdDSA"}, {"alg": "EdDSA", "kid": 7}, [], None, "x"):
        refusal(signatures, b64(head) + b"." + b64(CLAIMS) + b"." + b64(b"x" * 64))


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"eyJ",
        b"eyJ..",
        b"a.b.c.d",
        b"\xff.\xff.\xff",
        b"eyJ" + b"x" * 70_000,
        b64(b"[" * 10_000) + b".e30.e30",
        b64(b'{"x":' * 5_000) + b".e30.e30",
        b64(b'{"alg":"EdDSA","kid":"ops-1","crit":["zz"],"zz":1}') + b".e30.e30",
    ],
)
def test_hostile_tokens_are_refused(signatures: JwsSignatures, token: bytes) -> None:
    refusal(signatures, token)


def test_a_key_file_that_is_no_ed25519_public_key_is_refused(
    signatures: JwsSignatures, tmp_path: Path
) -> None:
    publish(tmp_path, "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert "Ed25519" in refusal(signatures, sign(kid="rsa"))
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(private)
    assert "no public key" in refusal(signatures, sign(kid="private"))
    (tmp_path / "empty.pem").write_bytes(b"")
    assert "no public key" in refusal(signatures, sign(kid="empty"))


def test_a_key_that_anyone_can_write_is_refused(signatures: JwsSignatures, tmp_path: Path) -> None:
    (tmp_path / "ops-1.pem").chmod(0o666)
    assert "written by anyone" in refusal(signatures, sign())


def test_without_a_directory_nothing_is_trusted(tmp_path: Path) -> None:
    refusal(JwsSignatures(str(tmp_path / "none")), sign())
