"""The identity of a record: what determined it, hashed."""

from __future__ import annotations

import hashlib
import json
from typing import NewType

Digest = NewType("Digest", str)


def digest_of(stage: str, *inputs: object) -> Digest:
    """Return the identity of a stage's result from everything that determines it.

    Args:
        stage: Name of the stage, with a format number that changes when its output would.
        inputs: JSON values: digests of parents, settings as plain mappings.
    """
    text = json.dumps([stage, *inputs], sort_keys=True, separators=(",", ":"))
    return Digest(hashlib.sha256(text.encode()).hexdigest())
