"""What the connection to the broker is made with: TLS files and the password.

Read at each connection, so that a renewed certificate or another password is used at the next one.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from agent import config
from agent.core.errors import ConfigError

_TLS_PORT = 8883


def uses_tls(settings: config.Mqtt) -> bool:
    """Return whether the connection is encrypted: a TLS file is set, or the port is 8883."""
    tls = settings.tls
    return bool(tls.ca or tls.cert or tls.key) or settings.port == _TLS_PORT


def tls_context(tls: config.Tls) -> ssl.SSLContext:
    """Return a context that verifies the broker's name, TLS 1.2 or later.

    Raises:
        ConfigError: if a file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.cert:
            # no password: OpenSSL would ask a terminal for that of an encrypted key
            context.load_cert_chain(tls.cert, tls.key or None, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"mqtt.tls: {error} (ca={tls.ca!r}, cert={tls.cert!r}, key={tls.key!r})",
            hint="PEM files that the daemon's user can read; cert and key belong together",
        ) from error
    return context


def password(settings: config.Mqtt) -> str | None:
    """Return the password, None without one.

    Raises:
        ConfigError: if its file can't be read.
    """
    if not settings.password_file:
        return None
    try:
        return Path(settings.password_file).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt.password_file: {error}") from error
