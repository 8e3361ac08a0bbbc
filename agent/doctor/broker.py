"""Whether the broker takes this device: connection, encryption, certificates, password."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import ssl
from collections.abc import Mapping

from agent.adapters.mqtt.link import password, tls_context, uses_tls
from agent.config import Config
from agent.config.tables import Mqtt
from agent.doctor.findings import Finding, Look, told

_PATIENCE_S = 10.0
_REFUSAL_S = 1.0
"""A broker waits for the client to speak; only a refusal of its certificate comes by itself."""
_SOON_DAYS = 30
_NO_TLS = "mqtt.port must be one that speaks TLS: 8883 at most brokers, while 1883 is without"
_NOT_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}
_CLOCK = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED: openssl/x509_vfy.h
_OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


def broker(config: Config) -> Finding:
    """Look whether the broker can be reached, as the daemon would reach it short of logging in.

    Logging in would end the daemon's own connection, whose client id is the device's.

    Raises:
        ConfigError: if a file of the connection can't be used.
    """
    mqtt = config.mqtt
    if not mqtt.host:
        return _warning(
            "mqtt.host is empty", 'no reports over MQTT; set host = "your.broker" under [mqtt]'
        )
    context = tls_context(mqtt.tls) if uses_tls(mqtt) else None
    password(mqtt)
    place = f"{mqtt.host}:{mqtt.port}"
    try:
        raw = socket.create_connection((mqtt.host, mqtt.port), timeout=_PATIENCE_S)
    except (OSError, UnicodeError) as error:  # a name that can't be one is a UnicodeError
        test = f"`nc -vz {shlex.quote(mqtt.host)} {mqtt.port}`"
        cure = f"{test} must succeed: check mqtt.host, mqtt.port and the network"
        return _problem(f"{place}: {error}", cure)
    with raw:
        try:
            how = f" with {_handshake(raw, context, mqtt.host)}" if context else ""
        except ssl.SSLError as error:
            return _problem(f"{place}: {_words(error)}", _tls_cure(error, mqtt))
        except OSError as error:
            return _problem(f"{place} takes connections, but not TLS: {error}", _NO_TLS)
    ends = _ends_soon(mqtt.tls.cert)
    if ends:
        seen = f"{place} takes connections{how}; this device's certificate ends {ends}"
        return _warning(seen, "renew mqtt.tls.cert before that: without it there are no reports")
    return Finding(level="ok", what="broker", seen=f"{place} takes connections{how}")


def _handshake(raw: socket.socket, context: ssl.SSLContext, host: str) -> str:
    """Agree on encryption; return what was agreed on.

    In TLS 1.3 the broker judges the client's certificate after the handshake, so its refusal is
    waited for.

    Raises:
        ssl.SSLError: if a side does not take the other's certificate.
        OSError: if the connection breaks.
    """
    try:
        secured = context.wrap_socket(raw, server_hostname=host)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:  # what knows no TLS hangs up
        raise ConnectionError("it hangs up in the handshake") from error
    with secured:
        secured.settimeout(_REFUSAL_S)
        with contextlib.suppress(TimeoutError):
            if not secured.recv(1):
                raise ssl.SSLError("the broker closes the connection after the handshake")
        return secured.version() or "TLS"


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()


def _tls_cure(error: ssl.SSLError, mqtt: Mqtt) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        if error.reason in _NOT_TLS:
            return _NO_TLS
        return (
            "the broker wants the device's certificate and key (mqtt.tls.cert, mqtt.tls.key) from "
            "an authority that it knows"
        )
    if error.verify_code in _CLOCK:
        return "`date` must be right on this device; if it is, the broker's certificate is not"
    if error.verify_code in _OTHER_NAME:
        return "mqtt.host must be a name that the broker's certificate is for"
    return f"mqtt.tls.ca must be the authority that signed it: {_shown(mqtt)} shows which"


def _shown(mqtt: Mqtt) -> str:
    place = shlex.quote(f"{mqtt.host}:{mqtt.port}")
    return f"`openssl s_client -connect {place} -showcerts </dev/null`"


def _ends_soon(certificate: str) -> str:
    """Return when a certificate ends if that is soon, else "", also where openssl is missing."""
    if not certificate:
        return ""
    seconds = str(_SOON_DAYS * 86400)
    text = told("openssl", "x509", "-noout", "-enddate", "-checkend", seconds, "-in", certificate)
    ends = re.search(r"notAfter=(.+)", text)
    return ends.group(1) if ends and "will expire" in text else ""


def _warning(seen: str, cure: str) -> Finding:
    return Finding(level="warning", what="broker", seen=seen, cure=cure)


def _problem(seen: str, cure: str) -> Finding:
    return Finding(level="problem", what="broker", seen=seen, cure=cure)


LOOKS: Mapping[str, Look] = {"broker": broker}
