"""Signed commands: JWS compact with Ed25519 (RFC 7515, RFC 8037), keys by `kid`.

A key is a file `<keys_dir>/<kid>.pem` (see `keys`). To rotate, add the next key beside the present
one; to revoke, remove the file. Files are read at each command, so a change takes effect at once.

Of both formats only what a signed command needs is parsed here, and libsodium verifies the
signature: PyJWT with cryptography would add 10 MB to the daemon.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from agent.adapters.mqtt.keys import read_key
from agent.core.errors import CommandError

_KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # a file name, never a path
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")
_TOKEN_LIMIT_BYTES = 64 * 1024


class JwsSignatures:
    """The keys of a directory.

    Args:
        keys_dir: Folder of the public keys; it need not exist.
    """

    def __init__(self, keys_dir: str) -> None:
        self._keys_dir = Path(keys_dir).absolute()

    def verify(self, token: bytes) -> bytes:
        """See `ports.Signatures`."""
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey

        if len(token) > _TOKEN_LIMIT_BYTES:
            raise _refused(f"{len(token)} bytes, {_TOKEN_LIMIT_BYTES} is the limit")
        try:
            head, claims, signature = token.split(b".")
            kid = _kid(json.loads(_decoded(head)))
            body, mark = _decoded(claims), _decoded(signature)
            signed = token[: len(head) + 1 + len(claims)]
            VerifyKey(read_key(self._keys_dir, kid)).verify(signed, mark)
        except (BadSignatureError, ValueError, RecursionError) as error:
            raise _refused(str(error) or type(error).__name__) from error
        return body


def _kid(header: object) -> str:
    """Return the key's name from a header that requires Ed25519 and no extension."""
    if not isinstance(header, dict) or header.get("alg") != "EdDSA":
        raise _refused('the token\'s header lacks "alg": "EdDSA"')
    if "crit" in header or header.get("b64", True) is not True:
        raise _refused("the token's header requires an extension")
    kid = header.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise _refused("the token's header has no valid kid")
    return kid


def _decoded(part: bytes) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise _refused("the token is not base64url")
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _refused(reason: str) -> CommandError:
    return CommandError(reason[:300], code="bad_signature")
