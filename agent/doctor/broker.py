"""Whether the broker accepts this device: connection, TLS, certificates, password file."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import ssl

from agent.adapters.host.commands import command_output
from agent.adapters.mqtt.credentials import password, tls_context, uses_tls
from agent.config import Config
from agent.doctor.findings import Finding, ok, problem, warning

_CONNECT_TIMEOUT_S = 10.0
_REFUSAL_S = 1.0
"""A broker waits for the client's first packet; only a refused certificate is reported unasked."""
_SOON_DAYS = 30
_NO_TLS = "mqtt.port must be a port with TLS: usually 8883, while 1883 is without"
_NOT_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}
_CLOCK = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED: openssl/x509_vfy.h
_OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


def broker(config: Config) -> Finding:
    """Check that the broker can be reached, up to the log-in.

    Logging in would end the daemon's own connection, since the client id is the device's.

    Raises:
        ConfigError: if a file of the connection can't be used.
    """
    mqtt = config.mqtt
    if not mqtt.host:
        return warning(
            "mqtt.host is empty", 'no reports over MQTT; set host = "your.broker" under [mqtt]'
        )
    context = tls_context(mqtt.tls) if uses_tls(mqtt) else None
    password(mqtt)
    address = f"{mqtt.host}:{mqtt.port}"
    try:
        raw = socket.create_connection((mqtt.host, mqtt.port), timeout=_CONNECT_TIMEOUT_S)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        test = f"`nc -vz {shlex.quote(mqtt.host)} {mqtt.port}`"
        cure = f"{test} must succeed: check mqtt.host, mqtt.port and the network"
        return problem(f"{address}: {error}", cure)
    with raw:
        try:
            with_tls = f" with {_handshake(raw, context, mqtt.host)}" if context else ""
        except ssl.SSLError as error:
            return _tls_problem(error, address)
        except OSError as error:
            return problem(f"{address} accepts connections, but not TLS: {error}", _NO_TLS)
    seen = f"{address} accepts connections{with_tls}"
    expiry = _expires_soon(mqtt.tls.cert)
    if expiry:
        cure = "renew mqtt.tls.cert before that: without it there are no reports"
        return warning(f"{seen}; this device's certificate expires {expiry}", cure)
    return ok(seen)


def _handshake(raw: socket.socket, context: ssl.SSLContext, host: str) -> str:
    """Return the TLS version agreed on.

    In TLS 1.3 the broker checks the client's certificate after the handshake, so its refusal is
    waited for.

    Raises:
        ssl.SSLError: if one side does not accept the other's certificate.
        OSError: if the connection breaks.
    """
    try:
        secured = context.wrap_socket(raw, server_hostname=host)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:  # a server without TLS hangs up
        raise ConnectionError("closed during the handshake") from error
    with secured:
        secured.settimeout(_REFUSAL_S)
        with contextlib.suppress(TimeoutError):
            if not secured.recv(1):
                raise ssl.SSLError("the broker closes the connection after the handshake")
        return secured.version() or "TLS"


def _tls_problem(error: ssl.SSLError, address: str) -> Finding:
    if not isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if error.reason in _NOT_TLS:
            return problem(f"{address}: {reason}", _NO_TLS)
        cure = (
            "the broker requires a client certificate: set mqtt.tls.cert and mqtt.tls.key, signed "
            "by an authority that it trusts"
        )
        return problem(f"{address}: {reason}", cure)
    if error.verify_code in _CLOCK:
        cure = "`date` must be right on this device; if it is, renew the broker's certificate"
    elif error.verify_code in _OTHER_NAME:
        cure = "set mqtt.host to a name that the broker's certificate is for"
    else:
        show = f"`openssl s_client -connect {shlex.quote(address)} -showcerts </dev/null`"
        cure = f"set mqtt.tls.ca to the authority that signed it: {show} shows which"
    return problem(f"{address}: its certificate is not accepted: {error.verify_message}", cure)


def _expires_soon(certificate: str) -> str:
    """Return the expiry date of a certificate if it is near, else ""; "" also without openssl."""
    if not certificate:
        return ""
    text = command_output(
        "openssl", "x509", "-noout", "-enddate", "-checkend", str(_SOON_DAYS * 86400),
        "-in", certificate,
    )  # fmt: skip
    ends = re.search(r"notAfter=(.+)", text)
    return ends.group(1) if ends and "will expire" in text else ""
