"""Bytes on the wire: topics, what the device says, what it is told. Nothing else knows them."""

from agent.wire.commands import decode_command, digest, is_token
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

__all__ = [
    "TEXT_LIMIT",
    "Active",
    "Envelope",
    "Event",
    "Inventory",
    "Job",
    "Message",
    "Outbox",
    "Progress",
    "Reason",
    "Report",
    "Result",
    "State",
    "Telemetry",
    "Topics",
    "decode_command",
    "digest",
    "encode",
    "is_token",
]
