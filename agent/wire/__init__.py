"""Bytes on the wire: topics, messages and commands of MQTT, and the JSON of jobs (`wire.jobs`)."""

from agent.wire.commands import (
    COMMANDS,
    decode_command,
    decode_request,
    decode_task,
    digest,
    encode_task,
    is_token,
)
from agent.wire.messages import (
    TEXT_LIMIT,
    Active,
    Envelope,
    Event,
    Inventory,
    Job,
    Message,
    Outbox,
    Progress,
    Reason,
    Report,
    Result,
    State,
    Telemetry,
    encode,
)
from agent.wire.topics import Topics
