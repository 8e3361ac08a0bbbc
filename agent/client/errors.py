"""Why a release can't be used."""

from __future__ import annotations

from agent.core.errors import QuantdError


class ReleaseError(QuantdError):
    """A release that is refused, or an input that it does not take.

    The code is no_release, bad_release (a file is missing or damaged), other_schema, no_runtime,
    other_version, other_device, runtime (it failed), wrong_input or closed.
    """

    code = "release"
