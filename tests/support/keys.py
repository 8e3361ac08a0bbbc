"""An operator's key that a device under test trusts."""

from __future__ import annotations

from pathlib import Path

from agent.wiring.operator import make_key as make_files

KEY_ID = "demo-operator"


def make_key(keys_dir: Path) -> bytes:
    """Make a key pair; leave the public key in the device's folder, return the private one (PEM)."""
    keys_dir.mkdir(parents=True, exist_ok=True)
    private, _ = make_files(keys_dir, KEY_ID)
    key = private.read_bytes()
    private.unlink()
    return key
