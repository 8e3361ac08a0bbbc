"""Signed commands: JWS compact with Ed25519 (RFC 7515, RFC 8037), keys by `kid`.

A key is a file `<keys_dir>/<kid>.pem` with a public key. Put the next one beside the present
one to rotate, remove a file to revoke. Files are read at each command: it takes effect at once.
PyJWT and cryptography are loaded with the first signed command, not before.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import CommandError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # a file name, never a path
_PEM_LIMIT_BYTES = 16 * 1024
_TOKEN_LIMIT_BYTES = 64 * 1024


class JwsSignatures:
    """The keys of a directory.

    Args:
        keys_dir: Where the public keys lie; it need not exist.
    """

    def __init__(self, keys_dir: str) -> None:
        self._keys_dir = Path(keys_dir)

    def verify(self, token: bytes) -> bytes:
        """Return the signed claims as they are, JSON. Times and device are judged elsewhere.

        Raises:
            CommandError: "bad_signature" with the reason.
        """
        from jwt import PyJWS
        from jwt.exceptions import PyJWTError

        if len(token) > _TOKEN_LIMIT_BYTES:
            raise _refused(f"{len(token)} bytes, {_TOKEN_LIMIT_BYTES} is the limit")
        jws = PyJWS(algorithms=["EdDSA"])
        try:
            kid = jws.get_unverified_header(token).get("kid")
            key = self._key(kid)
            claims: bytes = jws.decode_complete(token, key, algorithms=["EdDSA"])["payload"]
        except (PyJWTError, ValueError, RecursionError) as error:
            raise _refused(str(error) or type(error).__name__) from error
        return claims

    def _key(self, kid: object) -> Ed25519PublicKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise _refused("the token's header names no usable kid")
        path = self._keys_dir / f"{kid}.pem"
        try:
            if path.stat().st_mode & stat.S_IWOTH:
                raise _refused(f"{path} can be written by anyone")
            with path.open("rb") as file:
                text = file.read(_PEM_LIMIT_BYTES)
            key = load_pem_public_key(text)
        except OSError as error:
            raise _refused(f"key {kid} is not in {self._keys_dir}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _refused(f"{path} holds no public key in PEM: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise _refused(f"{path} is not an Ed25519 key")
        return key


def _refused(reason: str) -> CommandError:
    return CommandError(reason[:300], code="bad_signature")
