"""The files of the connection to the broker, looked at before there is one."""

from __future__ import annotations

from agent.adapters.mqtt.credentials import password, tls_context, uses_tls
from agent.config import Config
from agent.core.errors import ConfigError


def unusable_file(config: Config) -> str:
    """Return why a TLS file or the password file can't be used now; empty if they can."""
    mqtt = config.mqtt
    try:
        if mqtt.host and uses_tls(mqtt):
            tls_context(mqtt.tls)
        if mqtt.host:
            password(mqtt)
    except ConfigError as error:
        return error.message
    return ""
