"""The cameras by the scheme of their URI, and what may be shown of such a URI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from agent.core.errors import ConfigError, suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraKind:
    """What one scheme of camera URIs stands for.

    Attributes:
        adapter: "module:class" in agent.adapters.cameras; imported by the job that captures.
        example: A URI of it, for messages and documentation.
        port: TCP port of a network camera whose URI names none; 0 for a source on this device.
        frame_names: What the names of its frames are; "" if frames have no names.
        live: Whether it shows what is before it now; a recording and a test pattern repeat.
    """

    adapter: str
    example: str
    port: int = 0
    frame_names: str = ""
    live: bool = True


_OPENCV = "opencv:OpencvCamera"
CAMERAS: dict[str, CameraKind] = {
    "v4l2": CameraKind(adapter=_OPENCV, example="v4l2:///dev/video0"),
    "csi": CameraKind(adapter="gstreamer:GstreamerCamera", example="csi://0"),
    "rtsp": CameraKind(adapter=_OPENCV, example="rtsp://host/path", port=554),
    "rtsps": CameraKind(adapter=_OPENCV, example="rtsps://host/path", port=322),
    "http": CameraKind(adapter=_OPENCV, example="http://host/path", port=80),
    "https": CameraKind(adapter=_OPENCV, example="https://host/path", port=443),
    "file": CameraKind(adapter=_OPENCV, example="file:///clip.mp4", live=False),
    "images": CameraKind(
        adapter="images:ImagesCamera",
        example="images:///dir",
        frame_names="file names",
        live=False,
    ),
    "profile": CameraKind(
        adapter="profile:ProfileCamera",
        example="profile:///profiles.csv",
        frame_names="as in its CSV, video.mp4#12 in a video",
        live=False,
    ),
    "synthetic": CameraKind(
        adapter="synthetic:SyntheticCamera", example="synthetic://", live=False
    ),
}
EXAMPLES = ", ".join(kind.example for kind in CAMERAS.values())
NAMED_EXAMPLES = " or ".join(kind.example for kind in CAMERAS.values() if kind.frame_names)

_SECRET = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:pass|pwd|token|secret|auth|key|user|login|account|sig)[\w.-]*)=)[^&;#]*"
)


def scheme_of(uri: str) -> str:
    """Return the lower-case scheme of a URI; empty if it has none."""
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator else ""


def camera_kind(uri: str) -> CameraKind:
    """Return what the URI's scheme stands for.

    Raises:
        ConfigError: if there is no such camera, or one on this device has a user and a password.
    """
    kind = CAMERAS.get(scheme_of(uri))
    if kind is None:
        near = suggestion(uri.partition(":")[0].lower(), CAMERAS, "://? ")
        raise ConfigError(
            f'camera.uri = "{redacted(uri)}" is no camera that quantd knows',
            hint=f"{near}allowed: {EXAMPLES}",
        )
    user, at, _ = uri.partition("://")[2].partition("/")[0].rpartition("@")
    if at and ":" in user and not kind.port:  # its messages would show the password
        raise ConfigError(
            f'camera.uri = "{redacted(uri)}" names a user, but {scheme_of(uri)}:// is on this device',
            hint=f"as in {kind.example}",
        )
    return kind


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
    kind = CAMERAS.get(scheme.lower())
    if kind and not kind.port and "@" not in rest.partition("/")[0]:
        return uri
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return _SECRET.sub(r"\1***", f"{scheme}{separator}{rest}")


def path_of(uri: str) -> str:
    """Return the path that the URI of a source on this device names."""
    return unquote(uri.partition("://")[2])
