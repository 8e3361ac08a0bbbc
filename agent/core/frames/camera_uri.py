"""What may be shown of a camera's URI, and what it names."""

from __future__ import annotations

import re
from urllib.parse import unquote

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
LOCAL_SCHEMES = ("v4l2", "csi", "file", "images", "profile", "synthetic")
EXAMPLES = (
    "v4l2:///dev/video0, csi://0, rtsp://..., http://... (MJPEG), file:///clip.mp4, "
    "images:///dir, profile:///profiles.csv or synthetic://"
)

_SECRET = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:pass|pwd|token|secret|auth|key|user|login|account|sig)[\w.-]*)=)[^&;#]*"
)


def scheme_of(uri: str) -> str:
    """Return the lower-case scheme of a URI; empty if it has none."""
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator else ""


def redacted(uri: str) -> str:
    """Return the URI without credentials, as reports and messages may show it.

    Whatever the scheme, since a misspelt one has the same password behind it: everything before
    the last `@` goes, because a password that was not percent-encoded may itself hold `/`, `?`
    or `@`; showing too little is the safer mistake. Only the path of a local source, which
    begins with `/`, may have an `@` of its own. Query values whose name speaks of users,
    passwords, tokens or keys go too.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    if scheme.lower() in LOCAL_SCHEMES and "@" not in rest.partition("/")[0]:
        return uri
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return _SECRET.sub(r"\1***", f"{scheme}{separator}{rest}")


def path_of(uri: str) -> str:
    """Return the local path that a file://, images://, profile:// or v4l2:// URI names."""
    return unquote(uri.partition("://")[2])
