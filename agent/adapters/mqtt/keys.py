"""Files of public keys, trusted only if no other user can change them.

A key is a file `<folder>/<kid>.pem`, or a link to one. It is refused if it, its folder or a folder
above, through which it could be replaced, can be written by others: as sshd does with
authorized_keys. The owner of each, root's group and the group that quantd runs in may write. A
folder above may be sticky, as /tmp is: there only the owner renames an entry.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from agent.core.errors import CommandError

_PEM = re.compile(rb"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
_ED25519 = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo (RFC 8410), before
_KEY_BYTES = 32  # the key itself
_PEM_LIMIT_BYTES = 16 * 1024


def read_key(folder: Path, kid: str) -> bytes:
    """Return the public key of a name.

    Args:
        folder: Of the keys, absolute; it need not exist.
        kid: File name without `.pem`, never a path.

    Returns:
        The Ed25519 key, 32 bytes.

    Raises:
        CommandError: "bad_signature", with the cause for the device's own log.
    """
    path = folder / f"{kid}.pem"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:  # what is open can't be replaced any more
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise _refused(f"{path} is not a regular file")
            for place in _writable(path, found):
                raise _refused(f"{place} can be written by others than its owner (chmod og-w)")
            pem = _PEM.fullmatch(os.read(handle, _PEM_LIMIT_BYTES))
        finally:
            os.close(handle)
    except FileNotFoundError as error:
        raise _refused(f"key {kid} is not in {folder}") from error
    except OSError as error:
        raise _refused(f"{path}: {error.strerror}") from error
    return _ed25519(path, pem)


def _ed25519(path: Path, pem: re.Match[bytes] | None) -> bytes:
    try:
        der = base64.b64decode(b"".join(pem[1].split()), validate=True) if pem else b""
    except binascii.Error as error:
        raise _refused(f"{path} contains no public key in PEM: {error}") from error
    if not der:
        raise _refused(f"{path} contains no public key in PEM")
    if not der.startswith(_ED25519) or len(der) != len(_ED25519) + _KEY_BYTES:
        raise _refused(f"{path} is not an Ed25519 key")
    return der[len(_ED25519) :]


def _writable(path: Path, found: os.stat_result) -> Iterator[Path]:
    """Yield the file and the folders above it that others can write."""
    real = path.resolve()
    if _others_write(found):
        yield real
    for place, direct in _folders(path, real):
        mode = place.stat()
        if _others_write(mode) and (direct or not mode.st_mode & stat.S_ISVTX):
            yield place


@lru_cache(maxsize=16)  # to list them takes longer than to look at them
def _folders(path: Path, real: Path) -> tuple[tuple[Path, bool], ...]:
    """Return the folders above a file, by both its names, and whether the file is in it."""
    found = dict.fromkeys((*path.parents, *real.parents))
    return tuple((place, place in {path.parent, real.parent}) for place in found)


def _others_write(found: os.stat_result) -> bool:
    group = found.st_mode & stat.S_IWGRP and found.st_gid not in {0, os.getegid()}
    return bool(found.st_mode & stat.S_IWOTH or group)


def _refused(reason: str) -> CommandError:
    return CommandError(reason[:300], code="bad_signature")
