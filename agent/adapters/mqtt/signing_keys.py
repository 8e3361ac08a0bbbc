"""An operator's private key: made, read and used to sign commands (Ed25519, PKCS #8 in PEM).

`openssl genpkey -algorithm ed25519` makes the same files.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.core.control.command import is_command_id
from agent.core.errors import ConfigError
from agent.wire.issuing import signed_token, signing_input

# RFC 8410: PrivateKeyInfo and SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes.
_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC = bytes.fromhex("302a300506032b6570032100")
_SEED_BYTES = 32
_PEM = re.compile(rb"\s*-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*")
_LIMIT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; its name is what devices know it by.

    Attributes:
        kid: The name of the public key's file on the devices, without `.pem`.
        seed: The key, 32 bytes.
    """

    kid: str
    seed: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r})"

    def sign(self, claims: bytes) -> bytes:
        """Return a signed command, a JWS in compact form."""
        from nacl.bindings import crypto_sign_BYTES
        from nacl.signing import SigningKey as Ed25519

        signed = signing_input(claims, self.kid)
        return signed_token(signed, Ed25519(self.seed).sign(signed)[:crypto_sign_BYTES])


def make_key(folder: Path, kid: str) -> tuple[Path, Path]:
    """Make a key pair; return the files of the private key (0600) and of the public one.

    Raises:
        ConfigError: if the name can't be one, a file exists, or the folder can't be written.
    """
    from nacl.signing import SigningKey as Ed25519

    if not is_command_id(kid):
        raise ConfigError(
            f"{kid[:80]!r} can't be a key's name",
            code="usage",
            hint="letters, digits, '.', '_' and '-', at most 64",
        )
    key = Ed25519.generate()
    private, public = folder / f"{kid}.key", folder / f"{kid}.pem"
    _write(private, _pem("PRIVATE KEY", _PRIVATE + bytes(key)), 0o600)
    _write(public, _pem("PUBLIC KEY", _PUBLIC + bytes(key.verify_key)), 0o644)
    return private, public


def read_signing_key(path: Path, kid: str = "") -> SigningKey:
    """Return the private key in a file.

    Args:
        path: PEM; no other user may be able to read it.
        kid: Its name on the devices; "" for the file's name without its ending.

    Raises:
        ConfigError: if it is no such key, or others can read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = _PEM.fullmatch(file.read(_LIMIT_BYTES))
    except OSError as error:
        hint = "`quantd keygen NAME` makes a key"
        raise ConfigError(f"{path}: {error.strerror}", hint=hint) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} can be read by other users", hint=f"chmod 600 {path}")
    try:
        der = base64.b64decode(b"".join(pem[1].split()), validate=True) if pem else b""
    except binascii.Error:
        der = b""
    if not der.startswith(_PRIVATE) or len(der) != len(_PRIVATE) + _SEED_BYTES:
        raise ConfigError(
            f"{path} contains no Ed25519 private key in PEM",
            hint="one without a password, as `quantd keygen NAME` or openssl genpkey makes it",
        )
    name = kid or path.stem
    if not is_command_id(name):
        raise ConfigError(f"{name[:80]!r} can't be a key's name", hint="give one with --kid")
    return SigningKey(name, der[len(_PRIVATE) :])


def _pem(label: str, der: bytes) -> bytes:
    body = base64.b64encode(der).decode()
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def _write(path: Path, body: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise ConfigError(f"{path} exists", hint="a key is never overwritten") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
