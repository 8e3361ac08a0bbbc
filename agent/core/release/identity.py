"""The identity of a release: that of its engine and of what decides how it is used."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.records import Digest, digest_of

_IDENTIFYING = ("engine", "batch", "inputs", "outputs", "preprocess", "task", "runtime")


def identity_of(described: Mapping[str, object]) -> Digest:
    """Return the identity of a release from its model.json, which contains it as well.

    Args:
        described: Of schema 2; the name of the release, its lineage and its measurement don't count.
    """
    return digest_of("release-3", {key: described[key] for key in _IDENTIFYING})
