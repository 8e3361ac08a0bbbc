from __future__ import annotations

import base64
import json
import os
import socket
import threading
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


@pytest.mark.parametrize("place", ["keys/ops-1.pem", "keys", "."])
@pytest.mark.parametrize("mode", [0o002, 0o020])
def test_a_key_that_others_can_write_or_replace_is_refused(
    tmp_path: Path, place: str, mode: int
) -> None:
    (tmp_path / "keys").mkdir()
    publish(tmp_path / "keys", "ops-1", KEY)
    for path in (tmp_path, tmp_path / "keys", tmp_path / "keys" / "ops-1.pem"):
        os.chown(path, -1, os.getegid())
        path.chmod(path.stat().st_mode & ~0o022)
    signatures = JwsSignatures(str(tmp_path / "keys"))
    signatures.verify(sign())
    found = tmp_path / place
    found.chmod(found.stat().st_mode | mode)
    if mode == 0o020:
        signatures.verify(sign())  # the group that quantd runs in
        change_group(found)
    reason = refusal(signatures, sign())
    assert f"{found} can be written by others" in reason


def change_group(path: Path) -> None:
    """Give a file a group that is neither root's nor that of this process."""
    other = next((gid for gid in os.getgroups() if gid not in {0, os.getegid()}), 12345)
    try:
        os.chown(path, -1, other)
    except PermissionError:
        pytest.skip("needs root or a second group")


def test_only_the_owner_renames_what_is_in_a_sticky_folder(tmp_path: Path) -> None:
    """As in /tmp; but anyone may add a file to it, so it can't be the folder of the keys."""
    (tmp_path / "keys").mkdir()
    publish(tmp_path / "keys", "ops-1", KEY)
    tmp_path.chmod(0o1777)
    JwsSignatures(str(tmp_path / "keys")).verify(sign())
    publish(tmp_path, "ops-1", KEY)
    assert "can be written by others" in refusal(JwsSignatures(str(tmp_path)), sign())


def test_a_link_to_a_key_is_followed_and_its_target_checked(tmp_path: Path) -> None:
    """Key management keeps versions of a folder and links to the present one."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "store" / "v1").mkdir(parents=True)
    publish(tmp_path / "store" / "v1", "ops-1", KEY)
    (tmp_path / "store" / "now").symlink_to("v1")
    (tmp_path / "keys" / "ops-1.pem").symlink_to(tmp_path / "store" / "now" / "ops-1.pem")
    signatures = JwsSignatures(str(tmp_path / "keys"))
    signatures.verify(sign())
    (tmp_path / "store").chmod(0o777)
    assert f"{tmp_path}/store can be written" in refusal(signatures, sign())


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device", "loop"])
def test_what_is_no_file_is_refused_at_once(
    signatures: JwsSignatures, tmp_path: Path, kind: str
) -> None:
    """Opening a FIFO waits for its other end, and this is the daemon's main thread."""
    path = tmp_path / "odd.pem"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "fifo":
            os.mkfifo(path, 0o600)
        elif kind == "socket":
            listener.bind(str(path))
            path.chmod(0o600)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if kind == "device" else "odd.pem")
        reasons: list[str] = []
        asked = threading.Thread(
            target=lambda: reasons.append(refusal(signatures, sign(kid="odd"))), daemon=True
        )
        asked.start()
        asked.join(20)
        assert reasons, "it waits for what will never come"
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            refusal(signatures, sign(kid="odd"))
        assert len(list(Path("/proc/self/fd").iterdir())) < before + 25, (
            "a descriptor is left open each time"
        )


def test_without_a_directory_nothing_is_trusted(tmp_path: Path) -> None:
    refusal(JwsSignatures(str(tmp_path / "none")), sign())
