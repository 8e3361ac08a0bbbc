"""Diagnosis of a network camera that can't be opened, which capture libraries do not give."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from agent.core.frames.camera_uri import CAMERAS

_PERCENT = "percent-encode special characters in the user name and password (@ is %40, / is %2F)"


def seen_at(uri: str, timeout_s: float) -> tuple[str, str]:
    """Connect once to the address of a network URI, without its credentials.

    Returns:
        (finding, hint), both without credentials.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port or CAMERAS[parts.scheme].port
    except (ValueError, KeyError):
        return "the URI is not valid", _PERCENT
    host = parts.hostname or ""
    # An @ after the authority is most likely part of a password with an unescaped slash.
    place = "the host" if "@" in parts.path + parts.query else f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            reply = _reply(connection, parts.scheme, parts.path or "/", host)
    except ConnectionRefusedError:
        return f"connection refused by {place}", "is the camera on, and is the port right?"
    except (socket.gaierror, UnicodeError):
        return f"{place}: the name is not known", "check the host name and the device's DNS"
    except TimeoutError:
        return f"no answer from {place} within {timeout_s:g} s", "is the camera on this network?"
    except OSError as e:
        return f"{place}: {e.strerror or e}", "check the network of this device"
    return _meaning(reply)


def _reply(connection: socket.socket, scheme: str, path: str, host: str) -> bytes | None:
    """Request the stream and return at most one packet of the reply; None for TLS, unrequested."""
    requests = {
        "http": f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n",
        "rtsp": f"DESCRIBE rtsp://{host}{path} RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    }
    if scheme not in requests:
        return None
    connection.sendall(requests[scheme].encode("ascii", "replace"))
    return connection.recv(2048)


def _meaning(reply: bytes | None) -> tuple[str, str]:
    if not reply:
        return "it can be reached, but sends nothing", "does the path name a video stream?"
    found = re.match(rb"(?:HTTP|RTSP)/\d\.\d (\d{3})\b", reply)
    if found is None:
        return "the answer is neither HTTP nor RTSP", "is the port right?"
    status = found[1].decode()
    if status == "401":
        return "a password is asked for (status 401)", f"scheme://user:password@host/; {_PERCENT}"
    if status.startswith("2"):
        return "it answers, but with nothing that is video", "does the path name a video stream?"
    return f"it answers with status {status}", "check the path of the stream"
