"""What the child process of a job writes to its standard output, a line of JSON each.

Reports of progress come first, then a result or an error.
"""

from __future__ import annotations

import msgspec


class _Line(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="line"
):
    pass


class Progressed(_Line, frozen=True, kw_only=True, tag="progress"):
    """How far the job is; see `ports.Progress`."""

    done: int
    total: int
    note: str
    candidate: str = ""


class Returned(_Line, frozen=True, kw_only=True, tag="result"):
    """The job's result, as JSON."""

    result: msgspec.Raw


class Raised(_Line, frozen=True, kw_only=True, tag="error"):
    """The error that ended the job; `error` is the name of its class."""

    error: str
    code: str
    message: str
    hint: str = ""


Line = Progressed | Returned | Raised
